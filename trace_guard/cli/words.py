"""Formats times, sizes and counts for people."""

from __future__ import annotations

from ..errors import BackendUnavailable, TraceGuardError
from ..ui.words import NOTHING, clock, duration
from .tables import Styled

__all__ = ["clock", "count", "duration", "outcome", "size", "with_advice"]

_STYLES = {"ok": "green", "error": "red", "timed_out": "red", "terminated": "magenta", "abandoned": "magenta"}


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


def with_advice(error: TraceGuardError) -> str:
    """The text of an error, with what to do if the service has not answered."""
    if isinstance(error, BackendUnavailable) and error.status is None:
        return f"{error}; check the network, BRAINTRUST_API_URL and HTTPS_PROXY: `trace-guard doctor` examines them"
    return str(error)
