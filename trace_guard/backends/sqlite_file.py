"""An SQLite file of one schema that any number of processes and threads may use, also after ``fork``."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..deadline import Deadline
from ..errors import BackendRefused, BackendUnavailable, JournalUnavailable
from ..journal.owned import check_directory, create_file, make_parents, open_file, own_directory
from .store_schema import SCHEMA_VERSION, make_schema

if TYPE_CHECKING:
    import sqlite3

__all__ = ["SqliteFile"]

T = TypeVar("T")

_READ_SECONDS = 10.0
_RETRY_SECONDS = 0.005
# SQLite stores the timeout as milliseconds in 32 bits.
_MOST_WAIT = 3600.0


class _Handle:
    """This process's connection and the lock that guards it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_doomed = False
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self.has_schema = False

    def close_soon(self) -> None:
        """Close the connection, or have the thread that is using it close it. The caller does not wait."""
        self.is_doomed = True
        if self.lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self.lock.release()

    def close(self) -> None:
        self.is_doomed = False
        connection, self.connection, self.file, self.has_schema = self.connection, None, None, False
        if connection is not None:
            connection.close()


class SqliteFile:
    """The connection of each process to the file, and its schema.

    Args:
        path: the file; created at the first write, readable by its owner only.
        check: called before the file is opened or created; raises :class:`JournalUnavailable` if its directory must not
            be used. By default the directory must belong to this user and must not be writable by everybody.
    """

    def __init__(self, path: Path, check: Callable[[], object] | None = None) -> None:
        self.path = path
        self._check = check or self._check_directory
        # By process id: a forked child neither uses nor closes an inherited connection, as SQLite would then release
        # locks that the parent relies on.
        self._handles: dict[int, _Handle] = {}
        weakref.finalize(self, _close_own, self._handles)

    def close(self) -> None:
        """Close the file now, or as soon as it is no longer in use. It may be used again afterwards."""
        _close_own(self._handles)

    def use(
        self, work: Callable[[sqlite3.Connection], T], absent: T, deadline: Deadline | None = None, *,
        write: bool = False,
    ) -> T:
        """Run ``work`` on the connection, and wait for the lock until the deadline. Returns ``absent`` if ``work``
        only reads and there is no file.

        Raises:
            BackendUnavailable: the file can't be used; the message says what to do.
            BackendRefused: what ``work`` writes is too large or nested too deeply.
        """
        deadline = (deadline or Deadline.never()).capped(_MOST_WAIT if write else _READ_SECONDS)
        handle = self._handles.setdefault(os.getpid(), _Handle())
        if not handle.lock.acquire(timeout=deadline.remaining):
            raise BackendUnavailable(f"another thread was still writing to {self.path} when the time was up")
        try:
            with self._failures(handle):
                if write and deadline.expired:
                    raise BackendUnavailable(f"no time was left to write to {self.path}")
                while True:
                    try:
                        return self._once(handle, work, absent, deadline, write)
                    except _sqlite3().OperationalError as error:
                        # SQLite reports some collisions at once, without waiting: when two processes make the
                        # file, or one opens it while another, the last, closes it.
                        if not _is_busy(error) or deadline.expired:
                            raise
                        time.sleep(min(_RETRY_SECONDS, deadline.remaining))
        finally:
            if handle.is_doomed:
                handle.close()
            handle.lock.release()

    def _once(
        self, handle: _Handle, work: Callable[[sqlite3.Connection], T], absent: T, deadline: Deadline, write: bool
    ) -> T:
        connection = self._connection(handle, write)
        if connection is None:
            return absent
        if not write:
            if not handle.has_schema:
                version = self._version(connection)
                handle.has_schema = version == SCHEMA_VERSION
                if not version:
                    return absent
            return work(connection)
        if not handle.has_schema:
            self._version(connection)  # checked first, so that another program's file is not changed
            # Must run outside a transaction. The mode is stored in the file.
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not handle.has_schema:
                version = self._version(connection)
                if version != SCHEMA_VERSION:
                    make_schema(connection, version)
            done = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        handle.has_schema = True
        return done

    def _connection(self, handle: _Handle, write: bool) -> sqlite3.Connection | None:
        """The open file; None if it does not exist and must not be created."""
        file = _file_id(self.path)
        if handle.connection is not None and file is not None and handle.file == file:
            return handle.connection
        # The file was removed or replaced, so further writes would be lost.
        handle.close()
        if file is None and not write:
            return None
        self.make_directory()
        if file is None:
            with contextlib.suppress(FileExistsError):
                os.close(create_file(self.path))
            file = _file_id(self.path)
        for beside in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.close(open_file(Path(f"{self.path}{beside}"), os.O_RDONLY))
        # SQLite's own timeout starts again for every statement, so _use waits instead.
        handle.connection = _sqlite3().connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        handle.file = file
        # In WAL mode this risks the last rows if the host dies, but never the file, as in the journal.
        handle.connection.execute("PRAGMA synchronous = NORMAL")
        return handle.connection

    def make_directory(self) -> None:
        """Create the directory if it does not exist. ``check`` tells which directories must not be used."""
        self._check()
        if not os.path.lexists(self.path.parent):
            make_parents(self.path.parent)
            own_directory(self.path.parent)

    def _check_directory(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            check_directory(self.path.parent, closed=True)

    def _version(self, connection: sqlite3.Connection) -> int:
        """The version of the file's schema; 0 for an empty file. Files of older versions can be read.

        Raises:
            BackendUnavailable: the file belongs to a newer release, or to another program.
        """
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version > SCHEMA_VERSION and "rows" in tables:
            raise BackendUnavailable(
                f"{self.path} was written by a newer release of trace-guard (its version is {version}, this release "
                f"knows {SCHEMA_VERSION}): upgrade trace-guard, or point TRACE_GUARD_DIR to another directory"
            )
        if not (0 <= version <= SCHEMA_VERSION) or ("rows" in tables) != bool(version) or (version == 0 and tables):
            raise BackendUnavailable(
                f"{self.path} is not a store of trace-guard but another SQLite file: move it away, or point "
                "TRACE_GUARD_DIR to another directory"
            )
        return int(version)

    @contextlib.contextmanager
    def _failures(self, handle: _Handle) -> Iterator[None]:
        """Turn errors of SQLite and the file system into backend errors."""
        try:
            yield
        except JournalUnavailable as error:
            handle.close()
            raise BackendUnavailable(str(error), lasting=True) from error
        except (OSError, ImportError) as error:
            handle.close()
            raise self._unusable(error, lasting=True) from error
        except RecursionError as error:
            raise BackendRefused(f"a row is nested too deeply for {self.path}", status=400) from error
        except _sqlite3().Error as error:
            if isinstance(error, _sqlite3().DataError):
                raise BackendRefused(f"a row is too large for {self.path}: {error}", status=413) from error
            if not _is_busy(error):
                handle.close()
            raise self._unusable(error, lasting=not _is_busy(error)) from error

    def _unusable(self, error: Exception, *, lasting: bool) -> BackendUnavailable:
        return BackendUnavailable(f"{self.path} can't be used: {error}. {_advice(str(error))}", lasting=lasting)


def _close_own(handles: dict[int, _Handle]) -> None:
    handle = handles.get(os.getpid())
    if handle is not None:
        handle.close_soon()


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _sqlite3() -> Any:
    import sqlite3

    return sqlite3


def _is_busy(error: Exception) -> bool:
    return any(word in str(error) for word in ("locked", "busy"))


_ADVICE = (
    (("locked", "busy"), "Another process is writing to it, or holds it open: the rows are sent again later"),
    (("full", "No space", "quota"), "Free some space on its disk"),
    (("not a database", "malformed"), "It is no SQLite file, or a damaged one: move it away, and a new one is made"),
    (("sqlite",), "This Python is built without SQLite: install one that has it, or set BRAINTRUST_API_KEY"),
)


def _advice(message: str) -> str:
    for words, advice in _ADVICE:
        if any(word in message for word in words):
            return advice
    return "Make it and its directory writable for this user, or point TRACE_GUARD_DIR to a directory that is"
