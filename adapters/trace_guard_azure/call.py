"""A call of a guarded function. Each call is an invocation."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from trace_guard import Guard, Invocation, current_invocation
from trace_guard.contain import contain, contained
from trace_guard.http.answers import streams
from trace_guard.http.call import HttpCall
from trace_guard.http.requests import method_label
from trace_guard.http.routing import RoutedRequest
from trace_guard.invocation.calls import never_runs
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.propagation import parentage

from . import environment, responses, timeouts
from .context import carrier_of, context_in, invocation_id_of, retry_facts_of
from .declaration import NOTHING_DECLARED, Declaration, declared_in
from .options import AzureOptions
from .shutdown import keep_listening
from .triggers import Description, trigger_of
from .triggers.http import Http, is_streaming, path_of, request_input
from .web_apps import WEB_APPS, route_of, routed_request

__all__ = ["GuardedCall"]

# The types of the arguments of durable orchestrators and entities.
_REPLAYED = ("DurableOrchestrationContext", "DurableEntityContext", "OrchestrationContext", "EntityContext")


class Target(Protocol):
    """A guarded function, such as a :class:`.guarded.GuardedFunction`."""

    function: Callable[..., Any]
    options: AzureOptions
    is_outermost: bool
    is_method: bool

    def declared_as(self, name: object) -> Declaration: ...


class GuardedCall(HttpCall):
    """One call, from its arguments to its result. Its invocation is open.

    Args:
        args, keywords: of the call; the worker passes keywords only.
    """

    guard: Guard

    def __init__(self, target: Target, guard: Guard, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        self.guard = guard
        self._keywords = keywords
        self._target = target
        self._context = contained("find the context", lambda: context_in(args, keywords), None)
        self._declared = contained("find the declaration", self._find_declaration, NOTHING_DECLARED)
        self._value: Any = contained("find the trigger's value", lambda: self._find_value(args), None)
        self._trigger = contained(
            "determine the trigger's kind", lambda: trigger_of(self._declared, self._value), None
        )
        self._described = Description()
        self._routed: RoutedRequest | None = None

    @classmethod
    def of(cls, target: Target, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> GuardedCall | None:
        """The call; None if it is excluded, within another invocation, for a replayed function, or with tracing
        off."""
        values = (*args, *keywords.values())
        if current_invocation() is not None or any(type(value).__name__ in _REPLAYED for value in values):
            return None
        guard = target.options.guard()
        if guard is None:
            return None
        with contain("keep listening for the end of the worker"):
            keep_listening()
        call = cls(target, guard, args, keywords)
        excluded = target.options.excluded
        if excluded and excluded.matches(call._value, call._path):
            return None
        call.invocation = call._opened()
        return call

    def _path(self) -> str | None:
        """The path of a request; None for any other value."""
        return path_of(self._value) if self._trigger is Http else None

    # Arguments

    def _find_declaration(self) -> Declaration:
        """The app's declaration, or that of ``function.json`` in the first programming model."""
        declared = self._target.declared_as(getattr(self._context, "function_name", None))
        return declared_in(self._directory) if declared.kind is None and self._directory else declared

    def _find_value(self, args: tuple[Any, ...]) -> Any:
        """The value of the trigger."""
        name = self._declared.parameter
        if name is not None and name in self._keywords:
            return self._keywords[name]
        inputs = {
            key: value for key, value in self._keywords.items()
            if not responses.is_out(value) and value is not self._context
        }
        rest = [value for value in args[self._target.is_method :] if value is not self._context]
        for value in (*inputs.values(), *rest):
            if trigger_of(NOTHING_DECLARED, value).types:
                return value
        if rest:
            return rest[0]
        if self._declared.kind is not None:
            return inputs  # a decorator has turned the value into the arguments of a tool
        return next(iter(inputs.values()), None)

    def _describe(self) -> Description:
        assert self._trigger is not None
        byte_limit = self._most_bytes if self.guard.settings.capture_input else 0
        return self._trigger.describe(self._value, self._declared, byte_limit)

    def _opened(self) -> Invocation:
        self._described = contained("describe the trigger's value", self._describe, Description())
        options, described = self._target.options, self._described
        name = self._function_name
        parent: str | Mapping[str, str] | None
        parent, about = contained(
            "find the parent", lambda: parentage(described.carriers, (carrier_of(self._context),)), (None, {})
        )
        if options.extract is not None:
            extract = options.extract
            parent = contained("call extract", lambda: extract(self._value, self._context), None) or parent
        facts = {
            **contained("describe the app", lambda: environment.facts(name), {}),
            **contained("describe the attempt", lambda: retry_facts_of(self._context), {}),
            **described.metadata, **about, "faas.trigger": described.trigger,
        }
        known = contained("read the invocation's id", lambda: invocation_id_of(self._context), None)
        if known is not None:
            facts["faas.invocation_id"] = known
        route = contained("read the route", lambda: route_of(self._declared, self._directory), None)
        if route is not None:
            facts["http.route"] = route
        invocation = self.guard.invocation(
            options.name or contained("name the trace", self._name, None) or name,
            deadline=timeouts.deadline(self._directory, self.guard.settings.timeout),
            parent=parent, input=self._input(), metadata=options.metadata, tags=options.tags, platform=facts,
        ).open()
        if self._is_web_app:
            self._routed = contained(
                "follow the request of an application",
                lambda: routed_request(invocation, self._value, is_named=options.name is not None), None,
            )
        return invocation

    def _input(self) -> Any:
        """What is logged when the call begins. A function of the user's gets the trigger's value."""
        if callable(self.guard.settings.capture_input):
            return NOTHING if self._is_streaming else self._value
        return self._described.input

    @functools.cached_property
    def _function_name(self) -> str:
        """The name under which the function is registered."""
        name = getattr(self._context, "function_name", None)
        registered = (name if isinstance(name, str) else None) or self._declared.name
        return registered or str(getattr(self._target.function, "__name__", "function"))

    @functools.cached_property
    def _directory(self) -> str | None:
        directory = getattr(self._context, "function_directory", None)
        if isinstance(directory, str) and directory:
            return directory
        code = getattr(self._target.function, "__code__", None)
        return os.path.dirname(os.path.abspath(code.co_filename)) if code is not None else None

    def _name(self) -> str | None:
        if self._trigger is not Http:
            return None
        method = method_label(str(self._value.method).upper())
        return f"{method} {path_of(self._value) if self._is_web_app else self._function_name}"

    @property
    def _is_web_app(self) -> bool:
        return self._trigger is Http and self._declared.http_type in WEB_APPS

    @property
    def request(self) -> Any:
        """A request of the FastAPI extension, whose body has not been read; None for any other value."""
        return self._value if self._is_streaming and self.guard.settings.capture_input else None

    def input_of(self, request: Any, body: bytes | None) -> Any:
        return request_input(request, body, self._most_bytes)

    @property
    def _is_streaming(self) -> bool:
        return self._trigger is Http and is_streaming(self._value)

    # Results

    def may_stream(self, result: Any) -> bool:
        return self._is_streaming

    def reason(self, error: BaseException) -> BaseException | None:
        with contain("determine how a call ended"):
            if self._trigger is Http and isinstance(error, Exception):
                # The host answers with 500. Only the FastAPI extension turns exceptions into other answers.
                status = (responses.status_of_error(error) if self._is_streaming else None) or 500
                self.invocation.note({"http.response.status_code": status})
                caught = self._routed.error if self._routed is not None else None
                return (caught or error) if status >= 500 else None
        return error

    def note_result(self, result: Any) -> None:
        with contain("judge a result"):
            if self._trigger is Http:
                self._judge(result)
            elif self._target.is_outermost and never_runs(result):
                self.invocation.fail(f"the function returned a {type(result).__name__}, which never runs")
        with contain("read a result"):
            if self.guard.settings.capture_output:
                is_answer = self._trigger is Http
                if callable(self.guard.settings.capture_output):
                    answer = responses.answer_in(result, self._outputs) if is_answer else result
                    if not (is_answer and streams(answer)):
                        self.invocation.set_output(answer)
                    return
                answer = responses.answer_in(result, self._outputs) if is_answer else result
                output = responses.output_of(answer, self._most_bytes) if is_answer else answer
                if output is not NOTHING and not streams(output):
                    self.invocation.set_output(output)

    @property
    def _outputs(self) -> Iterable[Any]:
        return self._keywords.values()

    def _judge(self, result: Any) -> None:
        answer = responses.answer_in(result, self._outputs)
        goes_to_worker = self._target.is_outermost and self._declared.return_type == "http"
        status, error = responses.judge(
            answer, is_streaming=self._is_streaming, goes_to_worker=goes_to_worker and answer is result
        )
        if status is not None:
            self.invocation.note({"http.response.status_code": status})
        if error is not None:
            self.invocation.fail(error)
