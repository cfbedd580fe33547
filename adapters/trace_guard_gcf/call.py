"""A call of a guarded function. It opens an invocation or joins that of its request."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trace_guard import Guard, Invocation, current_invocation
from trace_guard.contain import contain, contained
from trace_guard.guard import Options
from trace_guard.http import answers, content
from trace_guard.http.call import HttpCall
from trace_guard.http.exchange import Exchange
from trace_guard.http.exclude import Excluded
from trace_guard.http.passing import text_of
from trace_guard.http.requests import facts_of_request, header_facts, method_label
from trace_guard.invocation.calls import never_runs
from trace_guard.invocation.captured import captured_output
from trace_guard.invocation.invocation import NOTHING

from . import environment, events
from .propagation import carrier_of
from .results import ReadResult, read_result, read_typed_result
from .shutdown import prepare_for_shutdown
from .signatures import (
    Kind,
    ambient_request,
    answers_itself,
    background_event_among,
    cloud_event_among,
    execution_id,
    kind_of,
    request_among,
)

__all__ = ["GuardedCall", "Target"]

# Set by the first generation's Python 3.7, where the framework answers "OK" if a function returns None.
_LEGACY = "ENTRY_POINT"
_WITH_REQUEST = (Kind.HTTP, Kind.TYPED)
# The framework ignores the results of these kinds, so it never reads a streamed result.
_EVENTS = (Kind.CLOUD_EVENT, Kind.BACKGROUND_EVENT)

# Invocations that belong to a function. Other guarded functions that it calls don't change the root.
_taken: weakref.WeakSet[Invocation] = weakref.WeakSet()


class Target(NamedTuple):
    """The guarded function.

    Attributes:
        name: the function's name, under which the framework registers it.
        wrapper: the function that the framework may call.
        excluded: decides which calls are not traced.
        is_method: True if the first argument is an object or a class.
    """

    name: str
    guard: Guard
    options: Options
    wrapper: Callable[..., Any]
    excluded: Excluded
    is_method: bool = False


class GuardedCall(HttpCall):
    """One call, from its arguments to its result. Its invocation is open.

    Args:
        args, keywords: of the call.
        kind: of the call; by default that of its arguments.
    """

    guard: Guard

    def __init__(
        self, target: Target, args: tuple[Any, ...], keywords: Mapping[str, Any], kind: Kind | None = None
    ) -> None:
        self.guard = target.guard
        self._target = target
        self._options = target.options
        self._kind = kind or contained(
            "determine the kind of a call", lambda: kind_of(target.name, args, keywords), Kind.OTHER
        )
        self._captures = bool(self.guard.settings.capture_input)
        # A function of the user's gets the request or event as the framework passes it.
        self._chooses_input = callable(self.guard.settings.capture_input)
        self._request = contained(
            "find the request", lambda: request_among(args, keywords) or ambient_request(), None
        )
        has_request = self._request is not None and self._kind in _WITH_REQUEST
        self._input: Any = NOTHING if has_request else _argument(args[target.is_method :], keywords)
        self._name: str | None = None
        self._refusal: str | None = None
        self._facts: dict[str, Any] = {"faas.trigger": "other"}
        self._parent: Mapping[str, str] | None = None
        with contain("describe a call"):
            self._describe(args, keywords)
        current = current_invocation()
        self.owns = current is None
        self.invocation = self._opened() if current is None else self._joined(current)
        _taken.add(self.invocation)

    @classmethod
    def of(cls, target: Target, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> GuardedCall | None:
        """The call; None if it is excluded, and within an invocation that belongs to another function or to user
        code."""
        if target.excluded and _is_excluded(target.excluded, args[target.is_method :], keywords):
            return None
        current = current_invocation()
        if current is not None and (current in _taken or "faas.trigger" not in current.state.platform):
            return None
        return cls(target, args, keywords)

    @classmethod
    def of_refused(cls, target: Target, request: Any) -> GuardedCall | None:
        """A request that the framework failed with before it called the function; None if a middleware traces it or
        it is excluded. Every exception of such a call is an error, and the request is its input."""
        if current_invocation() is not None or (target.excluded and _is_excluded(target.excluded, (request,), {})):
            return None
        return cls(target, (request,), {}, Kind.TYPED)

    def _opened(self) -> Invocation:
        options = self._options
        with contain("prepare for the end of the process"):
            prepare_for_shutdown()
        return self.guard.invocation(
            options.name or self._name or environment.function_name(self._target.name),
            deadline=environment.deadline(), parent=self._parent, input=self._input, metadata=options.metadata,
            tags=options.tags, platform={**environment.facts(), **self._facts},
        ).open()

    def _joined(self, invocation: Invocation) -> Invocation:
        """The middleware's invocation, with the facts about the function added."""
        options = self._options
        with contain("describe the function of a request"):
            invocation.note({**self._facts, **(options.metadata or {})})
            name = options.name or (self._name if self._kind in _EVENTS else None)
            if name:
                invocation.rename(name)
            if options.tags and not invocation.span.span_parents:
                invocation.span.log(tags=list(options.tags))
            exchange = _exchange()
            if exchange is not None and (not self._captures or self._chooses_input or self._kind in _EVENTS):
                exchange.drop_request()  # the function's own keyword counts, and an event is the body
            if exchange is not None and self._chooses_output is not False:
                exchange.captures_response = False
            if self._input is not NOTHING:
                # Below a key, because the backend merges the input with the middleware's method and path.
                key = "event" if self._kind in _EVENTS else "argument"
                invocation.log_input(self._input if self._chooses_input else {key: self._input}, self.guard)
        return invocation

    @property
    def _chooses_output(self) -> bool | None:
        """Whether a function of the user's chooses the output; None if there is none."""
        capture = self.guard.settings.capture_output
        return callable(capture) if capture else None

    def _log_input(self, request: Any, body: bytes | None) -> None:
        exchange = None if self.owns else _exchange()
        if exchange is None or exchange.request_copy is None or self._chooses_input:
            super()._log_input(request, body)  # else the middleware copies the body

    # Arguments

    def _describe(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        headers = {} if self._request is None else {
            name.lower(): text_of(value) for name, value in content.headers_of(self._request).items()
        }
        if self._kind in _EVENTS:
            pair = background_event_among(args, keywords)
            event = (
                events.background_event(*pair, byte_limit=self._most_bytes)
                if pair is not None and self._kind is Kind.BACKGROUND_EVENT
                else events.cloud_event(cloud_event_among(args, keywords), byte_limit=self._most_bytes)
            )
            self._name = event.name
            self._input = _event_among(args, keywords) if self._chooses_input else event.input
            self._facts |= {**event.metadata, "faas.trigger": event.trigger}
            self._parent = events.chosen((*event.carriers, carrier_of(headers)))
        elif self._request is not None:
            method = self._request.method
            facts = facts_of_request(method, content.path_of(self._request), None, headers)
            self._facts |= {**facts, "faas.trigger": "http"}
            self._name = f"{method_label(method)} {environment.function_name(self._target.name)}"
            self._parent = carrier_of(headers)
        known = execution_id(self._target.name)
        self._facts |= {**({"faas.invocation_id": known} if known else {}), **header_facts(headers)}

    @property
    def request(self) -> Any:
        return self._request if self._captures and self._kind in _WITH_REQUEST else None

    def input_of(self, request: Any, body: bytes | None) -> Any:
        return content.input_of(request, body, self._most_bytes)

    # Results

    def may_stream(self, result: Any) -> bool:
        return self._kind not in _EVENTS and self._refusal is None

    def note_result(self, result: Any) -> None:
        shown = result
        with contain("read how the framework uses a result"):
            shown, self._refusal = self._read(result)
            if self._refusal is not None and self._kind in _EVENTS:
                self.invocation.fail(self._refusal)
        if self.owns and self._kind in _WITH_REQUEST:  # the middleware sees the response itself
            with contain("judge a result"):
                self._judge(result)
        if not self.guard.settings.capture_output:
            return
        with contain("read a result"):
            if self._refusal is not None:
                return
            if self._chooses_output:
                if not (self._kind in _WITH_REQUEST and answers.streams(result)):
                    self._choose_output(result)
                return
            if not self.owns and callable(self.invocation.guard.settings.capture_output):
                return  # a function of the middleware's chooses it from the response
            output = answers.output_of(shown, self._most_bytes) if self._kind in _WITH_REQUEST else shown
            if output is not NOTHING:
                self.invocation.set_output(output)

    def _choose_output(self, result: Any) -> None:
        if self.owns:
            self.invocation.set_output(result)
        elif (output := captured_output(self.guard, result)) is not NOTHING:
            self.invocation.span.log(output=output)

    def _read(self, result: Any) -> ReadResult:
        """What is logged for a result, and why the framework can't use it, unless another decorator gets it."""
        if result is None or self._kind is Kind.OTHER:
            return ReadResult(result)
        if self._kind in _WITH_REQUEST:
            read = (read_result if self._kind is Kind.HTTP else read_typed_result)(result, self._request)
        else:
            why = f"the function returned a {type(result).__name__}, which never runs" if never_runs(result) else None
            read = ReadResult(result, why)
        return read if answers_itself(self._target.wrapper) else ReadResult(read.shown)

    def reason(self, error: BaseException) -> BaseException | None:
        """The exception; None if it answers a request with a status below 500."""
        status = contained("read the status of an exception", lambda: answers.status_of_error(error), None)
        # An event is not accepted with any such status, and every exception of a typed function becomes a 500.
        if self._kind is not Kind.HTTP or status is None:
            return error
        self.invocation.note({"http.response.status_code": status})
        return None if status < 500 else error

    def _judge(self, result: Any) -> None:
        status = answers.status_of(result)
        if status is None and answers_itself(self._target.wrapper):
            is_accepted = self._kind is Kind.TYPED or (result is None and bool(os.environ.get(_LEGACY)))
            status = 200 if is_accepted else answers.implied_status(result)
        why = "the function returned no response" if result is None else self._refusal
        if self._refusal is not None:
            status = 500
        if status is not None:
            self.invocation.note({"http.response.status_code": status})
            if status >= 500:
                self.invocation.fail(f"HTTP {status}" if why is None else f"HTTP {status}: {why}")


def _is_excluded(excluded: Excluded, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    """True if the call's request or event is not traced."""
    request = contained("find the request", lambda: request_among(args, keywords) or ambient_request(), None)
    event = _event_among(args, keywords) if request is None else request
    return excluded.matches(event, lambda: None if request is None else content.path_of(request))


def _exchange() -> Exchange | None:
    """The middleware's exchange; None outside one."""
    current = Exchange.current()
    return current if isinstance(current, Exchange) else None


def _event_among(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The CloudEvent, the data of an event of the first generation, or the only argument."""
    pair = background_event_among(args, keywords)
    return cloud_event_among(args, keywords) or (pair[0] if pair else _argument(args, keywords))


def _argument(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The input of a function without a request: its only argument, or all arguments."""
    if args:
        return args[0] if len(args) == 1 else list(args)
    return dict(keywords) if len(keywords) > 1 else next(iter(keywords.values()), NOTHING)
