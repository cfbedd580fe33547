"""The descriptor to which Python writes signal numbers. Several listeners may want it.

https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["Descriptor", "give_back"]


class Descriptor:
    """A descriptor that other code owns. Its number may be reused for another file after it is closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._identity = self._found()

    @property
    def is_there(self) -> bool:
        """True while the number still refers to the same open file."""
        return self._identity is not None and self._found() == self._identity

    def _found(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            if self.number != -1:
                found = os.fstat(self.number)
                return found.st_dev, found.st_ino
        return None


def give_back(ours: int, before: Descriptor) -> None:
    """Restore the previous wakeup descriptor, unless other code has replaced ours."""
    found = signal.set_wakeup_fd(-1)
    number = found if found != ours else before.number if before.is_there else -1
    with contextlib.suppress(ValueError, OSError):  # its owner has closed it
        signal.set_wakeup_fd(number, warn_on_full_buffer=False)
