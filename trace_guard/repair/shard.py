"""Splits a search over machines: each takes its share of the projects and windows of time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import SettingsError
from .source import LogObject, Window

__all__ = ["Shard", "windows"]

_DAY = 86400.0
# A window of this length has few spans in most projects. Where it has too many, the service says so.
_DAYS = 5


class Shard(NamedTuple):
    """One of so many shares, numbered from 0."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``, with I from 0 to N - 1, as array jobs count.

        Raises:
            SettingsError: the text is no shard.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
            raise SettingsError(f"{text!r} is not a shard: it takes I/N, such as 0/8 for the first of eight")
        return cls(int(number), int(of))

    def has(self, where: LogObject, window: Window) -> bool:
        """True if this share has the window of the object. Every machine decides alike."""
        return zlib.crc32(f"{where.id} {window.start:.0f}".encode()) % self.of == self.number


def windows(objects: Sequence[LogObject], since: float, until: float, shard: Shard | None) -> Iterator[
    tuple[LogObject, Window]
]:
    """The windows to search, oldest first.

    Shares are made of whole days (UTC), so that they do not depend on when each machine starts.
    """
    length = _DAY if shard else _DAYS * _DAY
    start = first_second(since, shard)
    while start < until:
        window = Window(start, min(until, start + length))
        for where in objects:
            if shard is None or shard.has(where, window):
                yield where, window
        start = window.end


def first_second(since: float, shard: Shard | None) -> float:
    """Where the search begins: for a share, with the day."""
    return since // _DAY * _DAY if shard else since
