"""What the reaper needs of the place where spans are stored."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ..deadline import Deadline
from ..rows import Row, number

__all__ = ["LogObject", "Source", "Window", "WindowTooLarge", "created_at", "iso"]


class LogObject(NamedTuple):
    """Project logs or an experiment.

    Attributes:
        kind: ``project_logs`` or ``experiment``.
        id: its id, or its name where the id is not known.
    """

    kind: str
    id: str
    name: str


class Window(NamedTuple):
    """A span of time in which spans were created, in seconds since the epoch: from ``start`` up to before ``end``."""

    start: float
    end: float

    def halves(self) -> tuple[Window, Window]:
        middle = (self.start + self.end) / 2
        return Window(self.start, middle), Window(middle, self.end)


class WindowTooLarge(Exception):
    """The service could not answer in its time limit."""


class Source(Protocol):
    """Finds rows. A row has ``id``, ``span_id``, ``root_span_id``, ``span_parents``, the keys of its object,
    ``created``, ``metrics``, ``span_attributes``, ``context``, ``error``, ``_xact_id``, and ``trace_guard``: the
    guard's part of the metadata.

    Every method raises :class:`trace_guard.BackendError`, with what to do, if the source can't be read.
    """

    def objects(self) -> Sequence[LogObject]:
        """The objects to search."""
        ...

    def suspects(self, where: LogObject, window: Window) -> Iterator[list[Row]]:
        """Pages of the open spans that were created in the window, and of the spans that the reaper has closed and
        whose own end has arrived since.

        Raises:
            WindowTooLarge: try again with halves of the window.
        """
        ...

    def spans(self, where: LogObject, roots: Sequence[str]) -> Iterator[Row]:
        """Every span of the traces."""
        ...

    def logged(self, where: LogObject, roots: Sequence[str]) -> set[str]:
        """The ``span_id`` of each open span of the traces on which an output has been logged."""
        ...

    def first_matching(self, where: LogObject, roots: Sequence[str], window: Window) -> dict[str, str] | None:
        """The id of the first open span of each trace that was created in the window and matches the user's filter;
        None if there is no filter."""
        ...

    def send(self, rows: Sequence[Row], deadline: Deadline) -> None:
        """Store rows as merges."""
        ...

    def close(self) -> None: ...


def iso(moment: float) -> str:
    """A time as the service takes it."""
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).isoformat(timespec="microseconds")


def created_at(row: Row) -> float:
    """When a span was created, in seconds since the epoch; its start if the row does not say."""
    created = row.get("created")
    if isinstance(created, str):
        text, _, rest = created.replace("Z", "+00:00").partition(".")
        digits = rest[: next((at for at, letter in enumerate(rest) if not letter.isdecimal()), len(rest))]
        try:
            # Python 3.10 takes fractions of a second with three or six digits only.
            fraction = f".{digits[:6]:0<6}" if digits else ""
            moment = datetime.datetime.fromisoformat(f"{text}{fraction}{rest[len(digits):]}")
            return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
        except (ValueError, OverflowError):
            pass
    metrics = row.get("metrics")
    start = number(metrics.get("start")) if isinstance(metrics, dict) else None
    return start if start is not None else 0.0
