"""Dead letters: rows and attachments that the backend refused for good. They are kept for inspection, and sent again
only by ``trace-guard recover --refused``."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contain import warn_once
from ..journal.directory import DEAD_LETTERS
from ..journal.files import size_of
from ..journal.format import MAGIC, Kind, encode_entry
from ..journal.owned import check_directory, create_file, is_own_file, open_file, own_directory
from ..journal.reader import entries_between, parse_payload
from ..redaction.outside_text import printable

if TYPE_CHECKING:
    from ..journal.spooled import SpooledAttachment

__all__ = ["DeadLetters", "letters_in", "read_dead_letters", "write_letters"]

# How many written rows are remembered, so that none is written twice.
_REMEMBERED = 10_000
# After so many letters the size of the directory is measured again, since other processes write to it too.
_RECOUNT_LETTERS = 256


class DeadLetters:
    """Writes refused rows to a segment of their own, in the format of the journal.

    The payload of an entry is ``{"row", "status", "error", "destination"}`` with the original row; or, for an
    attachment, ``{"attachment", "file", "status", "error"}``, where ``file`` names the file in the same directory that
    has the content, or is None if there was no room for it.

    Args:
        directory: trace-guard's directory; None if there is none, and dead letters are only reported.
        max_bytes: past this, refused rows are reported but not kept.
        destination: returns that of the rows; see :attr:`trace_guard.Settings.destination`.

    Attributes:
        count: how many rows were refused.
        last_error: why the last one was.
    """

    def __init__(
        self, directory: Path | None, max_bytes: int, destination: Callable[[], Mapping[str, Any]] | None = None
    ) -> None:
        self.count = 0
        self.last_error: str | None = None
        self._destination = destination
        self._directory = directory / DEAD_LETTERS if directory else None
        self._max_bytes = max_bytes
        self._written: OrderedDict[bytes, None] = OrderedDict()
        self._kept: dict[str, int] = {}
        self._uncounted = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Replace the lock in a forked child: the thread that held it may not exist there."""
        self._lock = threading.Lock()

    def keep(self, row: bytes, status: int | None, error: str) -> None:
        """Keep a refused row. A row that is refused again is kept once. A row that is not JSON is kept as a string.

        A disk that can't be written is reported and never raises, so that delivery goes on.

        Args:
            status: the HTTP status, or None if there was none.
        """
        error = printable(error)
        warn_once(
            f"dead:{status}", "a row can't be delivered (%s); it is kept in %s; `trace-guard status` counts "
            "them", error, self._directory or "memory only, as there is no directory",
        )
        with self._lock:
            digest = sha256(row).digest()
            if digest in self._written:
                return
            self._written[digest] = None
            self.count, self.last_error = self.count + 1, error
            if len(self._written) > _REMEMBERED:
                self._written.popitem(last=False)
            if self._directory is None:
                return
            letter = {"row": _readable(row), "status": status, "error": error}
            if self._destination is not None:
                letter["destination"] = dict(self._destination())
            try:
                self._write(self._directory, json.dumps(letter))
            except OSError as fault:
                warn_once("dead:unwritable", "refused rows can't be kept in %s: %s", self._directory, fault)

    def keep_attachment(self, one: SpooledAttachment, status: int | None, error: str) -> None:
        """Keep a refused attachment and its content. A disk that can't be written is reported and never raises."""
        error = printable(error)
        warn_once(
            f"dead:attachment:{status}", "an attachment was refused for good (%s); it is kept in %s", error,
            self._directory or "memory only, as there is no directory",
        )
        if self._directory is None:
            return
        with self._lock:
            try:
                own_directory(self._directory)
                file = self._keep_content(self._directory, one)
                letter = {"attachment": one.about, "file": file, "status": status, "error": error}
                self._write(self._directory, json.dumps(letter))
            except OSError as fault:
                warn_once("dead:unwritable", "refused attachments can't be kept in %s: %s", self._directory, fault)

    def _keep_content(self, directory: Path, one: SpooledAttachment) -> str | None:
        from ..journal.spooled import file_name

        if one.content is None or self._bytes_of(directory, "*.body") + one.content.size > self._max_bytes:
            return None
        path = directory / f"{file_name(one.key)}.body"
        if not is_own_file(path):
            with open(create_file(path), "wb") as file:
                file.writelines(one.content)
            self._kept["*.body"] += one.content.size
        return path.name

    def _bytes_of(self, directory: Path, pattern: str) -> int:
        """Bytes of the matching files, of all processes. Measured only now and then, as there may be thousands."""
        self._uncounted += 1
        if self._uncounted >= _RECOUNT_LETTERS:
            self._uncounted = 0
            self._kept.clear()
        if pattern not in self._kept:
            self._kept[pattern] = sum(size_of(file) for file in directory.glob(pattern))
        return self._kept[pattern]

    def _write(self, directory: Path, text: str) -> None:
        own_directory(directory)
        if self._bytes_of(directory, "*.seg") > self._max_bytes:
            warn_once("dead:full", "%s is full: further refused rows are not kept", directory)
            return
        self._kept["*.seg"] += _append(directory, [text])


def write_letters(directory: Path, letters: Iterable[Mapping[str, Any]]) -> None:
    """Put letters back that were taken out of a file.

    Raises:
        OSError: the disk doesn't take them.
    """
    texts = [json.dumps(letter) for letter in letters]
    if texts:
        _append(directory, texts)


def _append(directory: Path, texts: Iterable[str]) -> int:
    """Append letters to this process's file of today, in one write. Returns the bytes written."""
    path = directory / f"{time.strftime('%Y%m%d')}-{os.getpid()}.seg"
    descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        start = MAGIC if os.fstat(descriptor).st_size == 0 else b""
        return os.write(descriptor, start + b"".join(encode_entry(Kind.ROW, text.encode()) for text in texts))
    finally:
        os.close(descriptor)


def _readable(row: bytes) -> object:
    try:
        found = json.loads(row)
        json.dumps(found)  # raises if it is nested too deeply
    except (ValueError, RecursionError):
        return row.decode("utf-8", "replace")
    return found


def read_dead_letters(directory: Path, damaged: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The refused rows and attachments that are kept below trace-guard's ``directory``, oldest first.

    Args:
        damaged: a message is added to this list for each letter that can't be read.
    """
    damaged = [] if damaged is None else damaged
    kept = directory / DEAD_LETTERS
    if not os.path.lexists(kept):
        return
    try:
        check_directory(kept)
    except OSError as error:
        damaged.append(str(error))
        return
    for path in sorted(kept.glob("*.seg")):
        yield from letters_in(path, damaged)


def letters_in(path: Path, damaged: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The letters of one file, as in :func:`read_dead_letters`."""
    damaged = [] if damaged is None else damaged
    try:
        with open(open_file(path, os.O_RDONLY), "rb", buffering=0) as file:
            for entry in entries_between(file.fileno(), 0, len(MAGIC)):
                try:
                    yield parse_payload(entry.payload)
                except ValueError as error:
                    damaged.append(f"a letter in {path} is damaged: {error}")
    except FileNotFoundError:
        return
    except OSError as error:
        damaged.append(str(error))
