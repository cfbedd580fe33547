"""Opens the root span of an invocation. Its start row is in the journal before user code runs."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import Any

from ..contain import contain, contained
from ..journal.invocation_record import InvocationRecord
from ..rows import Row, identity, merge
from ..runtime.pipeline import Pipeline
from ..runtime.state import PROCESS
from ..system.clock import monotonic
from .calls import is_plain_json
from .captured import captured_input
from .forced_close import ForcedClose
from .state import NOTHING, InvocationState

__all__ = ["log_on_root", "open_root", "write_start"]


def open_root(state: InvocationState, become_current: Callable[[], object]) -> None:
    """Open the root span. Within an outer invocation it is a plain span of that one.

    Args:
        become_current: makes the invocation current in this context.
    """
    sdk, pipeline, settings = PROCESS.sdk, _pipeline_of(state), state.guard.settings
    if state.execution is not None and state.outer is None:
        with contain("open the root of an execution"):
            state.parent = state.execution.open(state.guard, pipeline, state.parent)
    given = state.parent
    if given is None and state.outer is None and not sdk.is_in_span():
        given = settings.parent
    started, state.began = time.time(), monotonic()
    state.started = started
    parent, foreign = sdk.adoptable(given)
    state.span = sdk.loggers.start_root(
        state.name, pipeline.lookup, project=settings.project, project_id=settings.project_id,
        parent=None if state.outer else parent, started=started,
    )
    state.root = sdk.start_row(state.span, state.name, started, {**state.platform, **foreign})
    # Only now: a logger of the user's logs in with its first span.
    state.pipeline = _pipeline_of(state)
    event = contained("read the input", lambda: _input(state) if _is_plain(state) else {}, {})
    row = contained("log the input", lambda: sdk.plain_row(identity(state.root), event) if event else None, None)
    first = state.root if row is None else merge(dict(state.root), row)
    if state.outer is None:
        _begin(state, started, first)
    else:
        state.is_opened = True
        state.pipeline.append([first])
        state.is_written = True
    state.span.set_current()
    if state.outer is None:
        become_current()
        state.context = contextvars.copy_context()
    if row is None:
        with contain("log the input"):
            event = event or _input(state)
            if event:
                log_on_root(state, event)


def _pipeline_of(state: InvocationState) -> Pipeline:
    return state.guard.pipeline if state.outer is None else state.outer.pipeline


def _begin(state: InvocationState, started: float, row: Row) -> None:
    pipeline = state.pipeline
    state.reserve = state.guard.settings.reserve_of(state.deadline.remaining)
    state.lost_before = PROCESS.sdk.lost_of(None)
    state.record = InvocationRecord(
        root=row["id"], span_id=row["span_id"], root_span_id=row["root_span_id"], started=started,
        deadline=state.deadline.epoch, reserve=state.reserve,
    )
    state.is_opened = True
    state.journal, _ = pipeline.begin(state.record, row)
    state.is_written = True
    state.is_recorded = pipeline.spans.is_open(row["id"])
    forced_close = ForcedClose(state)
    state.alarm = pipeline.watchdog.arm(state.deadline.minus(state.reserve), forced_close.time_out)
    pipeline.running[row["id"]] = forced_close.terminate


def write_start(state: InvocationState) -> None:
    """Write the root's start row if a fault or a signal prevented that before. An end alone would have no name."""
    if not state.is_written:
        pipeline = state.pipeline
        state.journal, _ = pipeline.append([state.root])
        state.is_written, state.is_recorded = True, pipeline.spans.is_open(state.root["id"])


def _is_plain(state: InvocationState) -> bool:
    """True if the input can be read before the root is written, so that both need one write: no user code runs for
    that."""
    settings = state.guard.settings
    if callable(settings.capture_input) or any(callable(key) for key in settings.redact):
        return False
    return is_plain_json([None if state.input is NOTHING else state.input, dict(state.metadata or {})])


def _input(state: InvocationState) -> dict[str, Any]:
    """What is logged on the root when it opens."""
    event: dict[str, Any] = {}
    given, state.input = state.input, NOTHING
    if (input := captured_input(state.guard, given)) is not NOTHING:
        event["input"] = input
    if state.metadata:
        event["metadata"] = dict(state.metadata)
    if state.tags and not state.span.span_parents:
        event["tags"] = list(state.tags)  # the API takes tags on root spans only
    return event


def log_on_root(state: InvocationState, event: dict[str, Any]) -> None:
    """Log an event on the root span. It is in the journal on return unless the SDK's masking function must see it."""
    row = PROCESS.sdk.plain_row(identity(state.root), event)
    if row is None:
        state.span.log(**event)
    else:
        state.pipeline.append([row])
