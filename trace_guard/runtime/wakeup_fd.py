"""The descriptor to which Python writes the numbers of signals. There is one, and several listeners may want it.

https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd

While ours is set, ``signal.set_wakeup_fd`` is replaced: what other code sets gets a copy of everything, and it finds
what other code has set before. asyncio needs this, and trio warns of a descriptor that it does not know.
"""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["pass_on", "share", "unshare"]

_set = signal.set_wakeup_fd
_ours: list[int] = []
"""The descriptors of this package, the one that Python writes to last."""


class _Descriptor:
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


_theirs = _Descriptor(-1)


def share(ours: int) -> None:
    """Have Python write to this descriptor. The previous one still gets everything.

    Raises:
        ValueError: this is not the main thread.
    """
    global _theirs
    before = _set(ours, warn_on_full_buffer=False)
    if before not in _ours:
        _theirs = _Descriptor(before)
    _ours.append(ours)
    signal.set_wakeup_fd = _set_theirs


def unshare(ours: int) -> None:
    """Restore the previous descriptor, unless other code has set another one without :mod:`signal`."""
    if ours not in _ours:
        return
    _ours.remove(ours)
    found = _set(-1)
    if not _ours and signal.set_wakeup_fd is _set_theirs:
        signal.set_wakeup_fd = _set
    number = found
    if found == ours:
        number = _ours[-1] if _ours else _theirs.number if _theirs.is_there else -1
    with contextlib.suppress(ValueError, OSError):  # its owner has closed it
        _set(number, warn_on_full_buffer=False)


def pass_on(ours: int, data: bytes) -> None:
    """Give what was read from our descriptor to the others, if it is the one that Python writes to."""
    if not _ours or _ours[-1] != ours:
        return
    for number in (*_ours[:-1], *((_theirs.number,) if _theirs.is_there else ())):
        with contextlib.suppress(OSError):  # it reads too slowly
            os.write(number, data)


def _set_theirs(fd: int, *, warn_on_full_buffer: bool = True) -> int:
    """Replaces ``signal.set_wakeup_fd``, and raises what it raises."""
    global _theirs
    found = _set(fd, warn_on_full_buffer=warn_on_full_buffer)
    if not _ours:
        return found
    before = _theirs if found in _ours else _Descriptor(found)
    _set(_ours[-1], warn_on_full_buffer=False)
    _theirs = _Descriptor(fd)
    return before.number if before.is_there else -1
