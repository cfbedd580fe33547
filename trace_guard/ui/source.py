"""Where the page's traces come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..backends.summaries import TraceSummary
from ..rows import Row
from .filters import TraceFilter

__all__ = ["ListedTrace", "TracePage", "TraceSource"]


@dataclass(frozen=True)
class ListedTrace:
    """A trace in the list.

    Attributes:
        summary: what the command line shows, too.
        running: the name of the innermost open span; None if no span is open.
        forced: how many spans their own code did not close.
    """

    summary: TraceSummary
    running: str | None = None
    forced: int = 0


@dataclass(frozen=True)
class TracePage:
    """A page of the list.

    Attributes:
        total: how many traces the filter finds; None if that is not known.
        has_more: another page follows.
    """

    traces: Sequence[ListedTrace]
    total: int | None
    has_more: bool


class TraceSource(Protocol):
    """Reads traces. Each method may block, and raises :class:`trace_guard.BackendUnavailable` with what to do."""

    @property
    def title(self) -> str:
        """Where the traces are, for people."""
        ...

    def page(self, wanted: TraceFilter) -> TracePage:
        """The traces that a filter finds: those in progress first, then the newest."""
        ...

    def projects(self) -> Sequence[str]:
        """The projects to choose from."""
        ...

    def rows(self, root_span_id: str) -> list[Row]:
        """The rows of a trace; none if there is no such trace."""
        ...

    def version(self, root_span_id: str | None) -> str:
        """A text that changes when the trace does, or any trace if None is given."""
        ...

    def attachment(self, key: str) -> Path | None:
        """The file of an attachment; None if it is not here."""
        ...

    def address(self, row: Row) -> str | None:
        """The address of a row in Braintrust's own application; None if it is not there."""
        ...
