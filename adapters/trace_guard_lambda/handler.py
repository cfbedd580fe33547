"""The decorator for Lambda handlers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeAlias, TypeVar, overload

from trace_guard import FlushPolicy, Guard, Invocation
from trace_guard.contain import contain, contained
from trace_guard.guard import Options
from trace_guard.http import frameworks
from trace_guard.http.exclude import Exclude, Excluded
from trace_guard.http.requests import HttpRequest, method_label
from trace_guard.http.routing import RoutedRequest
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.wrap import guarded
from trace_guard.runtime.state import PROCESS
from trace_guard.settings import Capture

from .after_response import AfterResponse, is_managed_instance
from .arguments import Arguments, Found, check, path_of
from .context import ColdStart, deadline_of, facts_of, initialization_type, name_of, request_id_of
from .coroutines import is_coroutine_function, run_on_loop
from .results import Results
from .shutdown import prepare_for_shutdown
from .triggers import Description, describe, judge, parentage

__all__ = ["guard_handler"]

F = TypeVar("F", bound=Callable[..., Any])
Parent: TypeAlias = str | Mapping[str, str]

_cold_start = ColdStart()
_after_response = AfterResponse()


@overload
def guard_handler(handler: F) -> F: ...


@overload
def guard_handler(
    *,
    guard: Guard | None = ...,
    project: str | None = ...,
    project_id: str | None = ...,
    name: str | None = ...,
    capture_input: Capture | None = ...,
    capture_output: Capture | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    flush: FlushPolicy | str | None = ...,
    extract: Callable[[Any, Any], Parent | None] | None = ...,
    exclude: Exclude = ...,
) -> Callable[[F], F]: ...


def guard_handler(
    handler: Any = NOTHING,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    name: str | None = None,
    capture_input: Capture | None = None,
    capture_output: Capture | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
    extract: Callable[[Any, Any], Parent | None] | None = None,
    exclude: Exclude = (),
) -> Any:
    """Guard a Lambda handler: each invocation is one trace, closed and delivered however it ends.

    Use it bare or with keywords, on functions, methods, class methods, static methods and callable objects. The event
    and the context are found wherever they are among the arguments. An ``async def`` handler becomes a plain function,
    which Lambda can call. All invocations run it on the same event loop.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the function's name.
        name: of the root span; by default derived from the event, such as ``GET /items/{id}`` or ``orders process``,
            else the function's name.
        capture_input, capture_output: whether event and result are logged. A function gets the value and
            returns what is logged in its place. By default as configured in the settings. See docs/capture.md.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. By default after the response and before the freeze, in the best way available;
            ``Invocation.delivery`` names it. With ``before-response`` the response waits.
        extract: called with event and context, for events that carry their parent in a place of their own. Returns an
            exported span, or headers with ``traceparent`` and ``baggage``; None for no parent.
        exclude: events that are not traced, such as warm-up pings: a function that is called with the event and returns
            True for them, or paths of HTTP events such as ``("/healthz", "/internal/*")``. If the function raises, the
            event is traced.

    Raises:
        TypeError: the decorated object can't be a handler.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as
            that would take the function down: it is reported, and the function runs unguarded.
    """
    options = Options(
        guard=guard, project=project, project_id=project_id, name=name, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
    )
    excluded = Excluded(exclude)
    if handler is NOTHING:
        return functools.partial(_guarded, options=options, extract=extract, excluded=excluded)
    return _guarded(handler, options, extract, excluded)


def _guarded(
    handler: Any, options: Options, extract: Callable[[Any, Any], Parent | None] | None, excluded: Excluded
) -> Any:
    if isinstance(handler, (staticmethod, classmethod)):
        return type(handler)(_guarded(handler.__func__, options, extract, excluded))
    check(handler)
    plain = run_on_loop(handler) if is_coroutine_function(handler) else handler
    chosen = options.make_guard()
    if chosen is None:
        return plain
    arguments = Arguments(handler)

    durable = contained("prepare for durable functions", _durable, None)

    def begin(args: tuple[Any, ...], keywords: dict[str, Any]) -> Invocation | None:
        event, context = contained("find the event", lambda: arguments.find(args, keywords), Found())
        if excluded and excluded.matches(event, lambda: path_of(event)):
            _cold_start.take()
            return None
        with contain("record the freeze before this invocation"):
            if not managed:
                PROCESS.thawed()
        run = durable and contained(
            "look for a durable execution",
            lambda: durable.run_of(
                event, context, name=options.name, metadata=options.metadata, tags=options.tags
            ), None,
        )
        if run:
            event, context = run.input, run.context
        cold = _cold_start.take()
        facts = contained("describe the invocation", lambda: facts_of(context, cold=cold), {})
        described = describe(event, context)
        parent: Parent | None
        parent, about = contained(
            "find the parent",
            # All invocations of an execution have the same parent, but each has fallbacks of its own.
            lambda: parentage(described.carriers, () if run else described.fallbacks), (None, {}),
        )
        if extract is not None:
            parent = contained("call extract", lambda: extract(event, context), None) or parent
        chosen_name = run.name if run else options.name or described.name or contained(
            "read the function's name", lambda: name_of(context), "lambda"
        )
        invocation = ours.invocation(
            chosen_name,
            deadline=contained("read the deadline", lambda: deadline_of(context), None),
            parent=parent,
            input=NOTHING if run else event,
            metadata=None if run else options.metadata,
            tags=None if run else options.tags,
            platform={**facts, **described.metadata, **about, "faas.trigger": described.trigger},
        )
        if run:
            invocation.state.execution = run.execution
        routed = None if run else contained(
            "prepare to name a request by its route",
            lambda: _routed_request(invocation, described, is_named=options.name is not None), None,
        )
        invocation.judge = run.judge if run else functools.partial(_judge, described, routed)
        invocation.read_result = results.read
        with contain("announce an invocation"):
            _after_response.begin(request_id_of(context), invocation)
            if puts_off:
                invocation.state.after_response = functools.partial(_after_response.schedule, invocation)
        return invocation

    managed = is_managed_instance()
    wrapper: Any = None
    results = Results(lambda: wrapper)
    with contain("guard the handler"):  # a fault of ours at import must not take the function down
        policy, puts_off = _policy(chosen)
        ours = chosen.with_settings(replace(chosen.settings, flush=policy)).start(defer_recovery=puts_off)
        if puts_off:
            with contain("prepare the delivery after the response"):
                _after_response.prepare()
                _after_response.when_delivered = ours.pipeline.neighbours.recover_rest
        with contain("connect with the external extension"):
            _after_response.connect(ours)
        with contain("prepare for the end of the environment"):
            prepare_for_shutdown()
        with contain("prepare for the snapshot"):
            if initialization_type() == "snap-start":
                from .snapstart import prepare_for_snapshot

                prepare_for_snapshot(ours, _cold_start.renew)
        wrap = durable.guarded_durably if durable else functools.partial(guarded, ends_at_return=True)
        wrapper = wrap(plain, begin)
        return wrapper
    return plain


def _durable() -> ModuleType | None:
    """The support for durable functions; None unless the function's code has imported their SDK."""
    if "aws_durable_execution_sdk_python" not in sys.modules:
        return None
    from . import durable

    return durable


def _routed_request(invocation: Invocation, described: Description, *, is_named: bool) -> RoutedRequest | None:
    """The current request, whose route the framework in the handler may find; None for other events."""
    method = described.metadata.get("http.request.method")
    if method is None:
        return None
    frameworks.connect()
    request = HttpRequest(method, described.metadata.get("url.path", ""), described.metadata.get("http.route"), {})
    routed = RoutedRequest(invocation, request, None if is_named else _name_by_route)
    routed.enter()
    return routed


def _name_by_route(request: HttpRequest) -> str:
    return f"{method_label(request.method)} {request.route}"


def _judge(described: Description, routed: RoutedRequest | None, invocation: Invocation, result: Any) -> None:
    """Record the meaning of the result for the function's caller."""
    judgement = judge(described, result)
    if judgement.metadata:
        invocation.note(judgement.metadata)
    if judgement.error is not None:
        caught = None if routed is None else routed.error
        invocation.fail(judgement.error if caught is None else PROCESS.sdk.error_text(caught))


def _policy(guard: Guard) -> tuple[FlushPolicy, bool]:
    """The policy to fall back to, and whether to try delivery after the response first."""
    if guard.settings.flush is FlushPolicy.BEFORE_RESPONSE:
        return FlushPolicy.BEFORE_RESPONSE, False
    if is_managed_instance():
        return FlushPolicy.AFTER_RESPONSE, False  # nothing is frozen, so the courier's threads deliver
    return FlushPolicy.BEFORE_RESPONSE, True
