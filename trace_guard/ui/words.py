"""Formats times and outcomes for people, on the page and on the command line."""

from __future__ import annotations

import time

__all__ = ["NOTHING", "age", "clock", "duration", "moment", "outcome_class"]

NOTHING = "-"
_OUTCOMES = {"ok", "error", "timed_out", "terminated", "abandoned"}


def clock(moment: float | None) -> str:
    """A point in time, in seconds since the epoch, as local time. Today's times have no date."""
    if moment is None:
        return NOTHING
    try:
        when, now = time.localtime(moment), time.localtime()
        return time.strftime("%H:%M:%S" if when[:3] == now[:3] else "%Y-%m-%d %H:%M", when)
    except (OverflowError, ValueError, OSError):
        return NOTHING  # a row can hold any number


def moment(seconds: float | None) -> str:
    """A point in time in ISO 8601, for machines; an empty text if it is unknown."""
    try:
        return "" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


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


def age(seconds: float | None, now: float) -> str:
    """How long ago a point in time was, in one unit."""
    if seconds is None:
        return NOTHING
    past = max(0.0, now - seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if past >= length:
            return f"{past // length:.0f} {unit} ago"
    return f"{past:.0f} s ago"


def outcome_class(outcome: str | None, in_progress: bool) -> str:
    """The name of an outcome in the style sheet."""
    if in_progress:
        return "in_progress"
    return outcome if outcome in _OUTCOMES else "unknown"
