"""One call of a guarded function: the invocation that it is, or that it is a part of."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from trace_guard import Guard, Invocation, current_invocation
from trace_guard.contain import contain, contained
from trace_guard.http import answers, content
from trace_guard.http.closing import close
from trace_guard.http.requests import facts_of_request, noted_in, shown
from trace_guard.http.streaming import guard_async_result, guard_result
from trace_guard.invocation.invocation import NOTHING

from . import environment, events
from .propagation import carrier_of
from .shutdown import prepare_for_shutdown
from .signatures import Kind, ambient_request, answers_itself, execution_id, kind_of, request_among

__all__ = ["Call", "Options"]

# A variable of the first generation's Python 3.7, where the framework answers "OK" to a result that is none.
_LEGACY = "ENTRY_POINT"
_WITH_REQUEST = (Kind.HTTP, Kind.TYPED)
# The framework does not look at what functions of these kinds return, so that no stream of theirs is ever read.
_EVENTS = (Kind.CLOUD_EVENT, Kind.BACKGROUND_EVENT)

# Invocations that have a function already: one that is called within another function has no part in its root.
_taken: weakref.WeakSet[Invocation] = weakref.WeakSet()


class Options(NamedTuple):
    """What the decorator was told."""

    guard: Guard
    function: str
    name: str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None


class Call:
    """What is done around a call, from its arguments to its result.

    Args:
        args, keywords: what the function is called with.

    Attributes:
        invocation: what the function runs in.
        owns: False if the middleware has opened it, and will close it; the function then says what it is.
    """

    def __init__(self, options: Options, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        self.kind = contained(
            "tell what a function is called with", lambda: kind_of(options.function, args, keywords), Kind.OTHER
        )
        self._options = options
        self._room = options.guard.settings.max_payload_bytes
        self._captures = options.guard.settings.capture_input
        self._request = contained(
            "find the request", lambda: request_among(args, keywords) or ambient_request(), None
        )
        has_request = self._request is not None and self.kind in _WITH_REQUEST
        self._input: Any = NOTHING if has_request else _argument(args, keywords)
        self._name: str | None = None
        self._facts: dict[str, Any] = {"faas.trigger": "other"}
        self._parent: Mapping[str, str] | None = None
        with contain("describe a call"):
            self._describe(args, keywords)
        current = current_invocation()
        self.owns = current is None
        self.invocation = self._opened() if current is None else self._joined(current)
        _taken.add(self.invocation)

    @classmethod
    def of(cls, options: Options, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Call | None:
        """The call, whose invocation is open; None if it belongs to one that is another function's, or user code's."""
        current = current_invocation()
        if current is not None and (current in _taken or "faas.trigger" not in current.state.platform):
            return None
        return cls(options, args, keywords)

    def _opened(self) -> Invocation:
        options = self._options
        with contain("prepare for the end of the process"):
            prepare_for_shutdown()
        return options.guard.invocation(
            options.name or self._name or environment.function_name(options.function),
            deadline=environment.deadline(), parent=self._parent, input=self._input, metadata=options.metadata,
            tags=options.tags, platform={**environment.facts(), **self._facts},
        ).open()

    def _joined(self, invocation: Invocation) -> Invocation:
        """The invocation of the middleware, which now knows what it is."""
        options = self._options
        with contain("say which function answers a request"):
            invocation.note({**self._facts, **(options.metadata or {})})
            name = options.name or (self._name if self.kind in _EVENTS else None)
            if name:
                invocation.state.name = name
                invocation.span.set_attributes(name=name)
            if options.tags and not invocation.span.span_parents:
                invocation.span.log(tags=list(options.tags))
            if self._input is not NOTHING:
                # Beside the request's method and path, into which the backend would merge it.
                self._log_input(invocation, {"event" if self.kind in _EVENTS else "argument": self._input})
        return invocation

    # What it is called with

    def _describe(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        headers = {} if self._request is None else {
            name.lower(): value for name, value in self._request.headers.items()
        }
        if self.kind in _EVENTS:
            given = [*args, *keywords.values()]
            event = (
                events.cloud_event(given[0], room=self._room) if self.kind is Kind.CLOUD_EVENT
                else events.background_event(given[0], given[1], room=self._room)
            )
            self._name, self._input = event.name, event.input
            self._facts |= {**event.metadata, "faas.trigger": event.trigger}
            self._parent = events.chosen((*event.carriers, carrier_of(headers)))
        elif self._request is not None:
            method = self._request.method
            facts = facts_of_request(method, content.path_of(self._request), None, headers)
            self._facts |= {**facts, "faas.trigger": "http"}
            self._name = f"{shown(method)} {environment.function_name(self._options.function)}"
            self._parent = carrier_of(headers)
        known = execution_id(self._options.function)
        self._facts |= {**({"faas.invocation_id": known} if known else {}), **noted_in(headers)}

    def read_input(self) -> None:
        """Log the request. When the root is open, as a body may be long in coming."""
        with contain("read a request"):
            if self._has_request:
                body = content.read(self._request, self._room)
                self._log_input(self.invocation, content.input_of(self._request, body, self._room))

    async def read_input_async(self) -> None:
        """:meth:`read_input` on an event loop."""
        with contain("read a request"):
            if self._has_request:
                body = await content.read_async(self._request, self._room)
                self._log_input(self.invocation, content.input_of(self._request, body, self._room))

    @property
    def _has_request(self) -> bool:
        return self._captures and self._request is not None and self.kind in _WITH_REQUEST

    def _log_input(self, invocation: Invocation, value: Any) -> None:
        if self._captures:
            invocation.span.log(input=self._options.guard.payload.copy(value))

    # What it ends with

    def take_note_of(self, result: Any, wrapper: Callable[..., Any]) -> None:
        """What a result says of the invocation; ``wrapper``: the guarded function, as the framework may have it."""
        if self.owns and self.kind in _WITH_REQUEST:  # the middleware sees the response itself
            with contain("judge a result"):
                self._judge(result, wrapper)
        if not self._options.guard.settings.capture_output:
            return
        with contain("read a result"):
            output = answers.output_of(result, self._room) if self.kind in _WITH_REQUEST else result
            if self.kind is Kind.TYPED and callable(getattr(result, "to_dict", None)):
                output = result.to_dict()  # by the framework's contract, and what it calls itself
            if output is not NOTHING:
                self.invocation.set_output(output)

    def end(self, result: Any) -> Any:
        """Close the invocation, or have the end of a streamed body close it; what to return instead of a result."""
        if not self.owns:
            return result
        with contain("guard a result"):
            if self.kind not in _EVENTS and answers.streams(result):
                return guard_result(result, self.invocation)
        close(self.invocation)
        return result

    async def end_async(self, result: Any) -> Any:
        """:meth:`end` on an event loop."""
        if not self.owns:
            return result
        with contain("guard a result"):
            if self.kind not in _EVENTS and answers.streams(result):
                return await guard_async_result(result, self.invocation)
        await self.invocation.aclose()
        return result

    def fail(self, error: BaseException) -> None:
        """Close the invocation after what the function raised; under the middleware that sees it as well."""
        if self.owns:
            close(self.invocation, None if self._is_answer(error) else error)

    async def fail_async(self, error: BaseException) -> None:
        """:meth:`fail` on an event loop."""
        if self.owns:
            await self.invocation.aclose(None if self._is_answer(error) else error)

    def _is_answer(self, error: BaseException) -> bool:
        """True if an exception is the answer to a request, and below 500, so that nothing has failed."""
        status = contained("read the status of an exception", lambda: answers.status_of_error(error), None)
        # For an event any status but success means that it was not taken. A typed function's are all turned into 500.
        if self.kind is not Kind.HTTP or status is None:
            return False
        self.invocation.note({"http.response.status_code": status})
        return status < 500

    def _judge(self, result: Any, wrapper: Callable[..., Any]) -> None:
        status = answers.status_of(result)
        if status is None and answers_itself(wrapper):
            accepts_none = self.kind is Kind.TYPED or bool(os.environ.get(_LEGACY))
            status = 200 if result is None and accepts_none else answers.implied_status(result)
        if status is not None:
            self.invocation.note({"http.response.status_code": status})
            if status >= 500:
                self.invocation.fail(f"HTTP {status}" + (": the function returned no response" * (result is None)))


def _argument(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """What a function is called with that gets no request: the one argument, or all of them."""
    if args:
        return args[0] if len(args) == 1 else list(args)
    return dict(keywords) if len(keywords) > 1 else next(iter(keywords.values()), NOTHING)
