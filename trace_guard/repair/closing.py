"""The rows that close a stuck trace, and those that undo a close when the real end has arrived."""

from __future__ import annotations

from collections.abc import Sequence

from ..outcome import ClosedBy, Outcome
from ..rows import Row, closing_row, number
from .open_traces import StuckTrace, identity_of
from .source import LogObject

__all__ = ["clearing_row", "closing_rows", "has_real_end"]


def closing_rows(trace: StuckTrace, error: str | None = None) -> list[Row]:
    """One closing row for each open span, innermost first.

    ``reaped_end`` repeats the end, so that a real end that arrives later is recognised.

    Args:
        error: the ``error`` of each span; by default spans get none.
    """
    reaped_error = {"reaped_error": error} if error else {}
    return [
        closing_row(
            span.identity, end=span.end, outcome=Outcome.ABANDONED, closed_by=ClosedBy.REAPER,
            reason=span.cause.value, error=error, facts={"reaped_end": span.end, **reaped_error},
        )
        for span in trace.open_spans
    ]


def has_real_end(row: Row) -> bool:
    """True for a span that the reaper has closed and whose own end has arrived since.

    Args:
        row: a row of :class:`.source.Source`.
    """
    about, metrics = row.get("trace_guard"), row.get("metrics")
    if not isinstance(about, dict) or not isinstance(metrics, dict) or about.get("closed_by") != ClosedBy.REAPER.value:
        return False
    end = number(metrics.get("end"))
    return end is not None and end != number(about.get("reaped_end"))


def clearing_row(row: Row, where: LogObject) -> Row:
    """The merge row that removes the reaper's marks: a null overwrites. The real end stays."""
    about = row["trace_guard"]
    marks: Sequence[str] = ["closed_by", "reason", "reaped_end"]
    # An outcome that the span's own code has logged since is kept.
    if about.get("outcome") == Outcome.ABANDONED.value:
        marks = [*marks, "outcome"]
    cleared: Row = {**identity_of(row, where), "_is_merge": True}
    cleared.pop("metrics", None)
    if "reaped_error" in about:
        marks = [*marks, "reaped_error"]
        if row.get("error") == about["reaped_error"]:
            cleared["error"] = None
    cleared["metadata"] = {"trace_guard": dict.fromkeys(marks)}
    return cleared
