"""One call of a guarded function: the invocation that it is."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trace_guard import Guard, Invocation, current_invocation
from trace_guard.contain import contain, contained
from trace_guard.http import content
from trace_guard.http.answers import streams
from trace_guard.http.requests import shown
from trace_guard.http.streaming import guard_async_result, guard_result
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.propagation import parentage

from . import environment, responses, timeouts
from .context import CONTEXT, carrier_of, context_in, invocation_id_of, retry_facts_of
from .declaration import NOTHING_DECLARED, Declaration, declared_in
from .shutdown import keep_listening
from .triggers import Description, trigger_of
from .triggers.http import Http, is_streaming, path_of, request_input
from .web_apps import WEB_APPS, caught_in, route_of

if TYPE_CHECKING:
    from .guarded import Guarded

__all__ = ["Call"]

# What a durable orchestrator or entity is called with.
_REPLAYED = ("DurableOrchestrationContext", "DurableEntityContext", "OrchestrationContext", "EntityContext")


class Call:
    """What is done around a call, from its arguments to its result.

    Args:
        args, keywords: what the function is called with; the worker uses keywords only.

    Attributes:
        keywords: what the function is to be called with instead.
        invocation: what the function runs in.
    """

    def __init__(self, guarded: Guarded, guard: Guard, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        self.keywords = dict(keywords)
        self._guarded = guarded
        self._guard = guard
        self._room = guard.settings.max_payload_bytes
        self._context = contained("find the context", lambda: context_in(keywords), None)
        self._declared = contained("find what is declared", self._find_declared, NOTHING_DECLARED)
        self._value: Any = contained("find what triggered it", lambda: self._trigger(args), None)
        self._trigger_class = contained(
            "tell the trigger's kind", lambda: trigger_of(self._declared, self._value), None
        )
        self._described = contained("describe what triggered it", self._describe, Description())
        self.invocation = self._opened()

    @classmethod
    def of(cls, guarded: Guarded, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Call | None:
        """The call, whose invocation is open; None if it belongs to one that is under way, or is not to be traced."""
        given = (*args, *keywords.values())
        if current_invocation() is not None or any(type(one).__name__ in _REPLAYED for one in given):
            return None
        guard = guarded.options.guard()
        if guard is None:
            return None
        with contain("keep listening for the end of the worker"):
            keep_listening()
        return cls(guarded, guard, args, keywords)

    # What it is called with

    def _find_declared(self) -> Declaration:
        """By the app, else by the ``function.json`` of the first programming model."""
        found = self._guarded.declared_as(getattr(self._context, "function_name", None))
        return declared_in(self._directory) if found.kind is None and self._directory else found

    def _trigger(self, args: tuple[Any, ...]) -> Any:
        """The value of the trigger."""
        name = self._declared.parameter
        if name in self.keywords:
            return self.keywords[name]
        given = {
            key: value for key, value in self.keywords.items()
            if not responses.is_out(value) and not (key == CONTEXT and value is self._context)
        }
        known = next((key for key, value in given.items() if trigger_of(NOTHING_DECLARED, value).types), None)
        if known is not None:
            return given[known]
        if args:
            return args[0]
        if self._declared.kind is not None:
            return given  # what a decorator between has made of it: the arguments of a tool
        return next(iter(given.values()), None)

    def _describe(self) -> Description:
        assert self._trigger_class is not None
        room = self._room if self._guard.settings.capture_input else 0
        return self._trigger_class.describe(self._value, self._declared, room)

    def _opened(self) -> Invocation:
        options, said = self._guarded.options, self._described
        name = self._function_name
        parent: str | Mapping[str, str] | None
        parent, about = contained(
            "find the parent", lambda: parentage(said.carriers, (carrier_of(self._context),)), (None, {})
        )
        if options.extract is not None:
            extract = options.extract
            parent = contained("call extract", lambda: extract(self._value, self._context), None) or parent
        facts = {
            **contained("describe the app", lambda: environment.facts(name), {}),
            **contained("describe the attempt", lambda: retry_facts_of(self._context), {}),
            **said.metadata, **about, "faas.trigger": said.trigger,
        }
        known = contained("read the invocation's id", lambda: invocation_id_of(self._context), None)
        if known is not None:
            facts["faas.invocation_id"] = known
        route = contained("read the route", lambda: route_of(self._declared, self._directory), None)
        if route is not None:
            facts["http.route"] = route
        return self._guard.invocation(
            options.name or contained("name the trace", self._name, None) or name,
            deadline=timeouts.deadline(self._directory, self._guard.settings.timeout),
            parent=parent, input=said.input, metadata=options.metadata, tags=options.tags, platform=facts,
        ).open()

    @functools.cached_property
    def _function_name(self) -> str:
        """Under which it is registered."""
        told = getattr(self._context, "function_name", None)
        found = (told if isinstance(told, str) else None) or self._declared.name
        return found or str(getattr(self._guarded.function, "__name__", "function"))

    @functools.cached_property
    def _directory(self) -> str | None:
        told = getattr(self._context, "function_directory", None)
        if isinstance(told, str) and told:
            return told
        code = getattr(self._guarded.function, "__code__", None)
        return os.path.dirname(os.path.abspath(code.co_filename)) if code is not None else None

    def _name(self) -> str | None:
        if self._trigger_class is not Http:
            return None
        method = shown(str(self._value.method).upper())
        is_web_app = self._declared.http_type in WEB_APPS
        return f"{method} {path_of(self._value) if is_web_app else self._function_name}"

    def read_input(self) -> None:
        """Log a request of the FastAPI extension, whose body a plain function can't have read yet."""
        with contain("read a request"):
            if self._is_streaming and self._guard.settings.capture_input:
                self._log_request(None)

    async def read_input_async(self) -> None:
        """The same with its body: when the root is open, as that may be long in coming."""
        with contain("read a request"):
            if self._is_streaming and self._guard.settings.capture_input:
                self._log_request(await content.read_async(self._value, self._room))

    @property
    def _is_streaming(self) -> bool:
        return self._trigger_class is Http and is_streaming(self._value)

    def _log_request(self, body: bytes | None) -> None:
        self.invocation.span.log(
            input=self._guard.payload.copy(request_input(self._value, body, self._room))
        )

    # What it ends with

    def end(self, result: Any) -> Any:
        """Close the invocation, or have the end of a streamed body close it; what to return instead of a result."""
        self._take_note_of(result)
        if self._is_streaming and contained("look at a result", lambda: streams(result), False):
            return guard_result(result, self.invocation)
        self.invocation.close()
        return result

    async def end_async(self, result: Any) -> Any:
        """:meth:`end` on an event loop."""
        self._take_note_of(result)
        if self._is_streaming and contained("look at a result", lambda: streams(result), False):
            return await guard_async_result(result, self.invocation)
        await self.invocation.aclose()
        return result

    def fail(self, error: BaseException) -> None:
        """Close the invocation with what the function raised."""
        self.invocation.close(self._reason(error))

    async def fail_async(self, error: BaseException) -> None:
        """:meth:`fail` on an event loop."""
        await self.invocation.aclose(self._reason(error))

    def _reason(self, error: BaseException) -> BaseException | None:
        """The exception, None if it is one that is an answer."""
        with contain("tell how it ended"):
            if self._trigger_class is Http and isinstance(error, Exception):
                # The host's answer; only behind the FastAPI extension an exception may be an answer itself.
                status = (responses.status_of_error(error) if self._is_streaming else None) or 500
                self.invocation.note({"http.response.status_code": status})
                return (caught_in(self.invocation) or error) if status >= 500 else None
        return error

    def _take_note_of(self, result: Any) -> None:
        with contain("judge a result"):
            if self._trigger_class is Http:
                self._judge(result)
        with contain("read a result"):
            if self._guard.settings.capture_output:
                is_answer = self._trigger_class is Http
                answer = responses.answer_in(result, self._outputs) if is_answer else result
                output = responses.output_of(answer, self._room) if is_answer else answer
                if output is not NOTHING and not streams(output):
                    self.invocation.set_output(output)

    @property
    def _outputs(self) -> Iterable[Any]:
        return self.keywords.values()

    def _judge(self, result: Any) -> None:
        answer = responses.answer_in(result, self._outputs)
        goes_to_worker = self._guarded.is_outermost and self._declared.return_type == "http"
        status, error = responses.judge(
            answer, is_streaming=self._is_streaming, goes_to_worker=goes_to_worker and answer is result
        )
        if status is not None:
            self.invocation.note({"http.response.status_code": status})
        if error is not None:
            self.invocation.fail(error)
