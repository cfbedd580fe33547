"""Formats times and outcomes for the page."""

from __future__ import annotations

import time

__all__ = ["age", "clock", "duration", "moment", "outcome_class"]

_NOTHING = "-"
_OUTCOMES = {"ok", "error", "timed_out", "terminated", "abandoned"}


def clock(seconds: float | None) -> str:
    """A point in time, in seconds since the epoch, as local time. Today's times have no date."""
    if seconds is None:
        return _NOTHING
    try:
        when, today = time.localtime(seconds), time.localtime()
        return time.strftime("%H:%M:%S" if when[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", when)
    except (OverflowError, ValueError, OSError):
        return _NOTHING  # a row can hold any number


def moment(seconds: float | None) -> str:
    """A point in time in ISO 8601, for machines; an empty text if it is unknown."""
    try:
        return "" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return ""


def duration(seconds: float | None) -> str:
    """A length of time, in seconds."""
    if seconds is None:
        return _NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def age(seconds: float | None, now: float) -> str:
    """How long ago a point in time was, in one unit."""
    if seconds is None:
        return _NOTHING
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
