"""Regular expressions that are compiled when they are first used.

Compiling those of this room takes longer than importing it, and most invocations need few of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

__all__ = ["compile_later"]


class _LaterPattern:
    """Takes the attributes of the pattern, methods included, at their first use. Their next use costs the same as with
    the pattern itself."""

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self._given_flags = flags

    def __getattr__(self, name: str) -> Any:
        # `re` caches what it has compiled, for all attributes and threads.
        value = getattr(re.compile(self.pattern, self._given_flags), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:

    def compile_later(pattern: str, flags: int = 0) -> re.Pattern[str]:
        """``re.compile`` at the first use. A pattern that is not valid raises there."""

else:

    def compile_later(pattern: str, flags: int = 0) -> _LaterPattern:
        """``re.compile`` at the first use. A pattern that is not valid raises there."""
        return _LaterPattern(pattern, flags)
