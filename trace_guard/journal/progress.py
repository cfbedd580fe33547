"""How far a journal is delivered: the files ``acked`` and ``courier.lock`` in its directory."""

from __future__ import annotations

import os
from pathlib import Path

from ..contain import logger
from .format import Position, encode_acked
from .locks import FileLock
from .owned import UnsafeFile, open_file
from .reader import read_acked

__all__ = ["DeliveryProgress"]


class DeliveryProgress:
    """The acknowledged position of a journal, and the lock of the process that may move it.

    Attributes:
        acked: all entries up to this position have reached the backend.
    """

    def __init__(self, directory: Path) -> None:
        self.acked = read_acked(directory)
        self._directory = directory
        self._lock = FileLock(directory / "courier.lock")

    def take(self) -> bool:
        """Become the process that delivers. False while another process is."""
        try:
            return self._lock.acquire()
        except (FileNotFoundError, UnsafeFile):
            return True  # another program has removed or replaced the lock file, so no process can hold it

    def release(self) -> None:
        """Let another process deliver."""
        self._lock.release()

    def saved(self) -> Position:
        """The acknowledged position on disk, which another process may have moved."""
        return read_acked(self._directory)

    def save(self) -> None:
        """Write the acknowledged position to disk. If that fails, rows may be sent again, which changes nothing."""
        try:
            # Not kept open: many journals may be delivered from at once.
            descriptor = open_file(self._directory / "acked", os.O_WRONLY | os.O_CREAT)
            try:
                os.write(descriptor, encode_acked(self.acked))
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.debug("%s: the acknowledged position can't be written: %s", self._directory, error)
