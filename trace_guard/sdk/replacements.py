"""Replaces functions of the SDK, and puts them back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Replacements"]


class Replacements:
    """The replaced attributes of modules and classes."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._replaced)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace an attribute, if there is one, with what ``make`` returns for it."""
        plain = getattr(owner, name, None)
        if plain is not None:
            ours = make(plain)
            if not isinstance(ours, property):
                ours = functools.wraps(plain)(ours)
            setattr(owner, name, ours)
            self._replaced.append((owner, name, plain, ours))

    def undo(self) -> None:
        """Put the plain attributes back, unless other code has replaced them since."""
        for owner, name, plain, ours in reversed(self._replaced):
            if getattr(owner, name) is ours:
                setattr(owner, name, plain)
        self._replaced = []
