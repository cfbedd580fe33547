"""A finding of the doctor."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

__all__ = ["Finding", "Level", "good", "problem", "skipped", "warning"]


class Level(Enum):
    """How bad a finding is. ``SKIPPED``: it could not be checked, and that is no fault of its own."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        what: what was checked, in a word or two.
        found: what was found.
        advice: what to do; empty if there is nothing to do.
    """

    what: str
    level: Level
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """The attributes above, in their order."""
        return {**self._asdict(), "level": self.level.value}


def good(what: str, found: str) -> Finding:
    return Finding(what, Level.GOOD, found)


def warning(what: str, found: str, advice: str) -> Finding:
    return Finding(what, Level.WARNING, found, advice)


def problem(what: str, found: str, advice: str) -> Finding:
    return Finding(what, Level.PROBLEM, found, advice)


def skipped(what: str, found: str) -> Finding:
    return Finding(what, Level.SKIPPED, found)
