"""Formats times, sizes and counts for people."""

from __future__ import annotations

import time

from .tables import Styled

__all__ = ["clock", "count", "duration", "outcome", "size"]

_STYLES = {"ok": "green", "error": "red", "timed_out": "red", "terminated": "magenta", "abandoned": "magenta"}
NOTHING = "-"


def clock(moment: float | None) -> str:
    """A point in time, in seconds since the epoch, as local time. Today's times have no date."""
    if moment is None:
        return NOTHING
    try:
        when, now = time.localtime(moment), time.localtime()
        return time.strftime("%H:%M:%S" if when[:3] == now[:3] else "%Y-%m-%d %H:%M", when)
    except (OverflowError, ValueError, OSError):
        return NOTHING  # a row can hold any number


def duration(seconds: float | None) -> str:
    """A length of time, in seconds."""
    if seconds is None:
        return NOTHING
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(amount: int) -> str:
    """A number of bytes."""
    value, units = float(amount), ["B", "kB", "MB", "GB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def count(number: int, thing: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def outcome(value: str | None, in_progress: bool = False) -> Styled:
    """How a trace or a span ended."""
    if in_progress:
        return Styled("in progress", "bold yellow")
    return Styled(value or NOTHING, _STYLES.get(value or "", ""))
