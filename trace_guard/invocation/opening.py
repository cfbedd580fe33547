"""The beginning of an invocation: its root span is in the journal before user code runs."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..contain import contain
from ..journal.open_spans import InvocationRecord
from ..rows import identity
from ..runtime.state import PROCESS
from .forced_close import EarlyEnd

if TYPE_CHECKING:
    from ..journal.journal import Journal
    from ..rows import Row
    from .invocation import Invocation

__all__ = ["NOTHING", "Beginning"]

NOTHING: Any = ...
"""Stands for "no such value", where None is one."""


class Beginning:
    """Opens the root span.

    Attributes:
        journal: the one that has the first row of the root.
        is_recorded: false if that did not fit under the journal's cap, so that nothing of it is kept.
    """

    def __init__(self, invocation: Invocation) -> None:
        self.journal: Journal | None = None
        self.is_recorded = False
        self._invocation = invocation
        self._row: Row = {}
        self._is_written = False

    def open(self, outer: Invocation | None, enter: Callable[[], object]) -> None:
        """Open it, within another invocation or not.

        Args:
            enter: makes the invocation the current one.
        """
        invocation = self._invocation
        sdk, runtime, settings = PROCESS.sdk, invocation.guard.runtime, invocation.guard.settings
        if invocation.execution is not None and outer is None:
            with contain("open the root of an execution"):
                invocation._parent = invocation.execution.open(invocation.guard, invocation._parent)
        given = invocation._parent
        if given is None and outer is None and not sdk.is_in_span:
            given = settings.parent
        started = time.time()
        parent, foreign = sdk.adoptable(given)
        invocation.span = sdk.start_root(
            invocation.name, project=settings.project, project_id=settings.project_id,
            parent=None if outer else parent, started=started,
        )
        row = self._row = sdk.start_row(
            invocation.span, invocation.name, started, {**invocation._platform, **foreign}
        )
        invocation._outer = outer
        if outer is None:
            self._begin(started)
        else:
            # Within another invocation it is a span like any other, and delivered with that.
            invocation._opened = True
            runtime.append([row])
            self._is_written = True
        invocation.span.set_current()
        if outer is None:
            enter()
            invocation._context = contextvars.copy_context()
        self._log_input()

    def _begin(self, started: float) -> None:
        invocation, row = self._invocation, self._row
        runtime = invocation.guard.runtime
        invocation._reserve = invocation.guard.settings.reserve_of(invocation.deadline.remaining)
        invocation._record = InvocationRecord(
            root=row["id"], span_id=row["span_id"], root_span_id=row["root_span_id"], started=started,
            deadline=invocation.deadline.epoch, reserve=invocation._reserve,
        )
        invocation._opened = True
        self.journal, _ = runtime.begin(invocation._record, row)
        self._is_written = True
        self.is_recorded = runtime.spans.is_open(row["id"])
        early_end = EarlyEnd(invocation)
        invocation._alarm = runtime.watchdog.arm(invocation.deadline.minus(invocation._reserve), early_end.time_out)
        runtime.running[row["id"]] = early_end.terminate

    def make_up(self) -> None:
        """Write its start, if a fault of ours, or a signal, came before that: an end alone has no name and no start."""
        if not self._is_written:
            runtime = self._invocation.guard.runtime
            self.journal, _ = runtime.append([self._row])
            self._is_written, self.is_recorded = True, runtime.spans.is_open(self._row["id"])

    @property
    def identity(self) -> Row:
        """The ids of the root's row."""
        return identity(self._row)

    def _log_input(self) -> None:
        """Through the SDK if there is a masking function, which is to see it."""
        invocation = self._invocation
        with contain("log the input"):
            event: dict[str, Any] = {}
            if invocation._input is not NOTHING and invocation.guard.settings.capture_input:
                event["input"] = invocation.guard.payload.copy(invocation._input)
            if invocation._metadata:
                event["metadata"] = dict(invocation._metadata)
            if invocation._tags and not invocation.span.span_parents:
                event["tags"] = list(invocation._tags)  # the API takes tags on root spans only
            if event:
                row = PROCESS.sdk.plain_row(self.identity, event)
                if row is None:
                    invocation.span.log(**event)
                else:
                    invocation.guard.runtime.append([row])
        invocation._input = NOTHING
