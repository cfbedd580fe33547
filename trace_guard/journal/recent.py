"""A dict of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, TypeVar

__all__ = ["RecentDict"]

V = TypeVar("V")


class RecentDict(OrderedDict[str, V]):
    """A dict that forgets the keys that were set longest ago, so that a long-running process stays small."""

    limit: ClassVar[int] = 20_000
    """The most keys that are kept."""

    def __setitem__(self, key: str, value: V) -> None:
        if key in self:
            self.move_to_end(key)
        super().__setitem__(key, value)
        if len(self) > self.limit:
            self.popitem(last=False)
