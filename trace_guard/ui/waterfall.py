"""Lays the spans of a trace out on a time axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..backends.summaries import SpanSummary, spans_of
from ..rows import Row
from ..rows import opened_at as place_of

__all__ = ["WIDTH", "Bar", "Waterfall", "lay_out"]

WIDTH = 1000
"""The width of the time axis, in units of the drawing."""

_LEAST_WIDTH = 3
_LEAST_GAP = 4


class Gap(NamedTuple):
    """A part of a span in which none of its children ran."""

    x: float
    width: float


@dataclass(frozen=True)
class Bar:
    """A span in the drawing.

    Attributes:
        x, width: the bar, in units of the drawing.
        gaps: the times in which it waited for no child; only for spans with children.
        critical: the trace would have ended sooner if the span had.
        opened_at: where the span was started, such as ``app.py:42 in search``; None if unknown.
        own_seconds: the time in which no child ran.
    """

    span: SpanSummary
    x: float
    width: float
    gaps: tuple[Gap, ...]
    critical: bool
    opened_at: str | None
    own_seconds: float | None


@dataclass(frozen=True)
class Waterfall:
    """The bars of a trace, parents before their children.

    Attributes:
        start: in seconds since the epoch.
        seconds: the length of the time axis.
        forced: how many spans their own code did not close.
    """

    bars: Sequence[Bar]
    start: float
    seconds: float
    forced: int

    def ticks(self, count: int = 4) -> list[tuple[float, float]]:
        """The marks of the axis: positions, and seconds from the start."""
        return [(WIDTH * number / count, self.seconds * number / count) for number in range(count + 1)]


def lay_out(rows: Sequence[Row], root_span_id: str, now: float) -> Waterfall:
    """The waterfall of a trace's rows.

    Args:
        now: in seconds since the epoch; open spans are drawn up to it.
    """
    spans = spans_of(rows, root_span_id)
    starts = [span.start for span in spans if span.start is not None]
    start = min(starts, default=now)
    is_open = any(span.end is None for span in spans)
    ends = [span.end for span in spans if span.end is not None]
    seconds = max([*ends, *([now] if is_open else []), start + 1e-6]) - start
    times = {index: _times(span, start, seconds, now) for index, span in enumerate(spans)}
    children = _children(spans)
    critical = _critical_path(spans, times, children)
    opened_at = {str(row["span_id"]): place for row in rows if row.get("span_id") and (place := place_of(row))}
    bars = []
    for index, span in enumerate(spans):
        began, ended = times[index]
        idle = _idle(times[index], [times[child] for child in children.get(index, ())])
        bars.append(Bar(
            span=span,
            x=_at(began, seconds),
            width=max(_LEAST_WIDTH, _at(ended - began, seconds)),
            gaps=tuple(
                Gap(_at(since, seconds), _at(until - since, seconds)) for since, until in idle
                if _at(until - since, seconds) >= _LEAST_GAP
            ) if index in children else (),
            critical=index in critical,
            opened_at=opened_at.get(span.span_id),
            own_seconds=sum(until - since for since, until in idle) if span.end is not None else None,
        ))
    return Waterfall(bars, start, seconds, sum(span.closed_by is not None for span in spans))


def _times(span: SpanSummary, start: float, seconds: float, now: float) -> tuple[float, float]:
    """When a span began and ended, in seconds from the trace's start, within the axis. An unknown start counts as the
    trace's."""
    began = min(max((span.start if span.start is not None else start) - start, 0.0), seconds)
    ended = (span.end if span.end is not None else now) - start
    return began, min(max(began, ended), seconds)


def _children(spans: Sequence[SpanSummary]) -> dict[int, list[int]]:
    """The children of each span, by their places in the sequence, in which each span follows its parent."""
    children: dict[int, list[int]] = defaultdict(list)
    path: list[int] = []
    for index, span in enumerate(spans):
        del path[span.depth :]
        if path:
            children[path[-1]].append(index)
        path.append(index)
    return children


def _critical_path(
    spans: Sequence[SpanSummary], times: Mapping[int, tuple[float, float]], children: Mapping[int, list[int]]
) -> set[int]:
    """Walk back from the end of each top span: the child that ended last, then the one that ended before it began."""
    critical: set[int] = set()
    waiting = [index for index, span in enumerate(spans) if span.depth == 0]
    while waiting:
        index = waiting.pop()
        critical.add(index)
        moment = times[index][1]
        for child in sorted(children.get(index, ()), key=lambda child: times[child][1], reverse=True):
            began, ended = times[child]
            if ended <= moment + 1e-9:
                waiting.append(child)
                moment = began
    return critical


def _idle(whole: tuple[float, float], parts: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The times within the whole that no part covers."""
    moment, end = whole
    idle = []
    for began, ended in sorted(parts):
        if began > moment:
            idle.append((moment, min(began, end)))
        moment = max(moment, ended)
        if moment >= end:
            break
    if moment < end:
        idle.append((moment, end))
    return idle


def _at(seconds: float, whole: float) -> float:
    return round(WIDTH * seconds / whole, 2)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, (dict, Mapping)) else {}
