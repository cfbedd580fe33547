"""Reads durations as people write them."""

from __future__ import annotations

import re

from ..errors import SettingsError

__all__ = ["seconds_of"]

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def seconds_of(text: str) -> float:
    """The seconds of a duration: ``90``, ``30m``, ``1h30m``, ``2d``.

    Raises:
        SettingsError: the text is no duration.
    """
    given = "".join(text.lower().split())
    parts = _PART.findall(given)
    if not parts or "".join(number + unit for number, unit in parts) != given or (
        len(parts) > 1 and not all(unit for _, unit in parts)
    ):
        raise SettingsError(f"{text!r} is not a duration, such as 90, 30m, 1h30m or 2d")
    if strange := [unit for _, unit in parts if unit and unit not in _UNITS]:
        raise SettingsError(f"{text!r} has the unit {strange[0]!r}, which is not one of {', '.join(_UNITS)}")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
