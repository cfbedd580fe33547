"""The descriptor to which Python writes the number of each signal, and which several may want to have.

https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["Descriptor", "give_back"]


class Descriptor:
    """Somebody's descriptor, of whose end nobody is told: the number may be another file's by now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._identity = self._found()

    @property
    def is_there(self) -> bool:
        """True while it is open, and the same."""
        return self._identity is not None and self._found() == self._identity

    def _found(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            if self.number != -1:
                found = os.fstat(self.number)
                return found.st_dev, found.st_ino
        return None


def give_back(ours: int, before: Descriptor) -> None:
    """Put the wakeup descriptor back that was there before ours, unless another is there by now."""
    found = signal.set_wakeup_fd(-1)
    number = found if found != ours else before.number if before.is_there else -1
    with contextlib.suppress(ValueError, OSError):  # whoever it was has closed it
        signal.set_wakeup_fd(number, warn_on_full_buffer=False)
