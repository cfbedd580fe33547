"""Keeps attachments beside the rows that refer to them until the backend has them.

In the directory of a journal::

    attachments/lock         held (flock) by the process that uploads
    attachments/NAME.json    description: key, file name, content type, trace, and an error if there is no content
    attachments/NAME.body    content, renamed to this name once it is complete

An attachment without content is still being read by the SDK. If its process dies, the content never comes. The
description is removed first, so an interrupted removal leaves no attachment behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..contain import warn_once
from ..redaction.outside_text import printable
from ..rows import dump
from .files import ATTACHMENTS, sync_directory
from .locks import FileLock
from .owned import UnsafeFile, create_file, has_directory, open_file, own_directory, read_file
from .spooled import Content, SpooledAttachment, file_name, known_size, pieces

__all__ = ["FileSpool", "Spool"]

_MEMORY_BYTES = 16 * 1024 * 1024
_ABOUT_BYTES = 64 * 1024
# Without an explicit limit no process keeps a larger attachment. A larger file is a sparse one.
_BODY_BYTES = 1024 * 1024 * 1024
_INTERRUPTED = "the process ended before it had read this attachment"


class Spool:
    """Attachments that wait for upload, in memory. Thread-safe.

    Attributes:
        most: the most bytes that may be kept.
    """

    def __init__(self, most: int = _MEMORY_BYTES) -> None:
        self.most = most
        self._kept: dict[str, SpooledAttachment] = {}
        self._mutex = threading.RLock()

    @property
    def size(self) -> int:
        """Bytes of all contents."""
        contents = [attachment.content for attachment in tuple(self._kept.values())]
        return sum(content.size for content in contents if content is not None)

    @property
    def waiting(self) -> list[SpooledAttachment]:
        """The attachments that can be delivered now, oldest first."""
        kept = tuple(self._kept.values())
        return [attachment for attachment in kept if attachment.content is not None or attachment.error is not None]

    @property
    def empty(self) -> bool:
        """True if there is no attachment, with or without content."""
        return not self._kept

    def begin(self, attachment: SpooledAttachment) -> None:
        """The SDK is about to hand over an attachment.

        Raises:
            OSError: the disk doesn't take it.
        """
        with self._mutex:
            self._kept[attachment.key] = attachment

    def store(self, attachment: SpooledAttachment, body: object) -> bool:
        """Keep the content of an attachment. False if there is no room for it.

        Args:
            body: the body of a request: bytes, a string, a file, an iterable of pieces, or None.

        Raises:
            OSError: as in :meth:`begin`.
        """
        with self._mutex:
            left = self.most - self.size
            if known_size(body) > left:
                return False
            data = body if isinstance(body, bytes) else b"".join(pieces(body))
            if len(data) > left:
                return False
            self._kept.setdefault(attachment.key, attachment).content = Content(data)
            return True

    def fail(self, attachment: SpooledAttachment, error: str) -> None:
        """There is no content. Only the error is delivered.

        Raises:
            OSError: as in :meth:`begin`.
        """
        with self._mutex:
            attachment.content, attachment.error = None, printable(error)
            self._kept[attachment.key] = attachment

    def remove(self, attachment: SpooledAttachment) -> None:
        """An attachment has been delivered, or is kept elsewhere."""
        with self._mutex:
            self._kept.pop(attachment.key, None)

    def find(self, key: str) -> SpooledAttachment | None:
        """The attachment with this key, if it is kept."""
        return self._kept.get(key)

    def take_delivery(self) -> bool:
        """Become the process that uploads. False while another process is."""
        return True

    def leave_delivery(self) -> None:
        """Let another process upload."""

    def abandon(self) -> None:
        """In a forked child: the parent uploads, and a thread of the parent may hold the lock for ever."""
        self._mutex = threading.RLock()
        self._kept.clear()


class FileSpool(Spool):
    """The same in the directory of a journal.

    Args:
        journal: the journal's directory.
        most: bytes up to which attachments may fill trace-guard's directory.
        used: returns the bytes of everything else in the directory, including attachments of other processes.
        sync: attachments survive a crash of the host.
        orphaned: the process that wrote them is dead.
    """

    def __init__(
        self, journal: Path, most: int, used: Callable[[], int], *, sync: bool = False, orphaned: bool = False
    ) -> None:
        super().__init__(most)
        self.path = journal / ATTACHMENTS
        self._used = used
        self._sync = sync
        self._lock = FileLock(self.path / "lock")
        for path in sorted(self.path.glob("*.json"), key=_made_at) if has_directory(self.path) else ():
            attachment = _read(path, max(most, _BODY_BYTES))
            if attachment is not None:
                if orphaned and attachment.content is None and attachment.error is None:
                    attachment.error = _INTERRUPTED
                self._kept[attachment.key] = attachment

    def begin(self, attachment: SpooledAttachment) -> None:
        with self._mutex:
            own_directory(self.path)
            self._describe(attachment)
            super().begin(attachment)

    def store(self, attachment: SpooledAttachment, body: object) -> bool:
        with self._mutex:
            left = self.most - self.size - self._used()
            if known_size(body) > left:
                return False
            part, whole = self._file(attachment, ".part"), self._file(attachment, ".body")
            part.unlink(missing_ok=True)
            try:
                with open(create_file(part), "wb", buffering=0) as file:
                    for piece in pieces(body):
                        left -= len(piece)
                        if left < 0:
                            return False
                        _write_whole(file.fileno(), piece)
                    if self._sync:
                        os.fsync(file.fileno())
                os.rename(part, whole)
                if self._sync:
                    sync_directory(self.path)
            finally:
                part.unlink(missing_ok=True)
            self._kept.setdefault(attachment.key, attachment).content = Content(whole)
            return True

    def fail(self, attachment: SpooledAttachment, error: str) -> None:
        with self._mutex:
            super().fail(attachment, error)
            self._describe(attachment)
            self._file(attachment, ".body").unlink(missing_ok=True)

    def remove(self, attachment: SpooledAttachment) -> None:
        with self._mutex:
            super().remove(attachment)
            for ending in (".json", ".body"):
                with contextlib.suppress(OSError):  # the journal was removed, or its disk
                    self._file(attachment, ending).unlink(missing_ok=True)

    def take_delivery(self) -> bool:
        if self._lock.held:
            return True
        try:
            if not self._lock.acquire():
                return False
        except (FileNotFoundError, UnsafeFile):
            return True  # another program has removed or replaced the lock, so no process can hold it
        with self._mutex:
            for attachment in self.waiting:
                if not self._file(attachment, ".json").exists():
                    super().remove(attachment)  # delivered by another process meanwhile
        return True

    def leave_delivery(self) -> None:
        self._lock.release()

    def abandon(self) -> None:
        super().abandon()
        self._lock.release()

    def _file(self, attachment: SpooledAttachment, ending: str) -> Path:
        return self.path / (file_name(attachment.key) + ending)

    def _describe(self, attachment: SpooledAttachment) -> None:
        part, whole = self._file(attachment, ".new"), self._file(attachment, ".json")
        part.unlink(missing_ok=True)
        with open(create_file(part), "wb", buffering=0) as file:
            _write_whole(file.fileno(), dump(attachment.about))
            if self._sync:
                os.fsync(file.fileno())
        os.replace(part, whole)


def _read(path: Path, limit: int) -> SpooledAttachment | None:
    """Read an attachment; None if it was removed meanwhile, or is damaged, which is reported once."""
    try:
        about = json.loads(read_file(path, _ABOUT_BYTES))
        if not all(isinstance(value, (str, type(None))) for value in about.values()):
            raise ValueError("its fields are not strings")
        attachment = SpooledAttachment(**about)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        warn_once(f"damaged:{path.parent}", "an attachment (%s) can't be read and is skipped: %s", path, error)
        return None
    body = path.with_suffix(".body")
    if attachment.error is None and os.path.lexists(body):
        try:
            os.close(open_file(body, os.O_RDONLY))
            attachment.content = Content(body)
            if attachment.content.size > limit:
                raise UnsafeFile(body, f"has more than {limit} bytes")
        except FileNotFoundError:
            return None
        except OSError as error:
            attachment.content, attachment.error = None, f"its content can't be read: {error}"
    return attachment


def _made_at(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _write_whole(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
