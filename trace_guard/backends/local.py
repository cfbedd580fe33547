"""The local store: a SQLite file that keeps rows when there is no Braintrust key.

Layout, version 1: one table ``rows`` with one record for each span. ``doc`` holds the merged row as JSON; searchable
fields have columns. Any number of processes may write at once. SQLite is imported only when a store is used, so
functions that deliver to Braintrust do not pay for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..deadline import Deadline
from ..errors import BackendRefused, BackendUnavailable, JournalUnavailable
from ..journal.directory import STORE_NAME
from ..journal.files import ATTACHMENTS
from ..journal.owned import (
    check_directory,
    create_file,
    is_own_file,
    make_parents,
    open_file,
    own_directory,
)
from ..rows import Row, dump, merge, row_key, visible
from .summaries import SpanSummary, TraceSummary, project_of, root_id_of, spans_of, start_of, summarize

if TYPE_CHECKING:
    import sqlite3

    from ..journal.spooled import Content, SpooledAttachment

__all__ = ["STORE_NAME", "LocalStore"]

T = TypeVar("T")

SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE rows (key TEXT PRIMARY KEY, root_span_id TEXT, start REAL, project TEXT, doc TEXT NOT NULL)",
    # A covering index for the search for the newest traces, which then does not read the documents.
    "CREATE INDEX traces ON rows (root_span_id, start, project)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_UPSERT = (
    "INSERT INTO rows (key, root_span_id, start, project, doc) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET root_span_id = excluded.root_span_id, start = excluded.start, "
    "project = excluded.project, doc = excluded.doc"
)
_NEWEST = (
    "SELECT root_span_id FROM rows WHERE root_span_id IS NOT NULL AND (?1 IS NULL OR project = ?1) "
    "GROUP BY root_span_id ORDER BY MIN(start) DESC LIMIT ?2"
)
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


class LocalStore:
    """Keeps rows in a SQLite file, merged by the rules of :mod:`trace_guard.rows`.

    Thread-safe, safe across processes and after ``fork``. The file is created when the first rows are sent, readable by
    its owner only. Reading a missing store finds nothing and creates nothing.

    Attachments are files in a directory beside it, named by their keys and with the extensions of their file names.

    Args:
        path: the file, by convention ``traces.db`` in trace-guard's directory.
        check: called before the file is opened or created; raises :class:`JournalUnavailable` if its directory must not
            be used. By default the directory must belong to this user and must not be writable by everybody.

    Every method but :meth:`close` raises :class:`BackendUnavailable` if the file can't be used. The message says
    what to do.
    """

    name = "local"
    max_bytes = 6 * 1024 * 1024

    def __init__(self, path: str | os.PathLike[str], check: Callable[[], object] | None = None) -> None:
        self.path = Path(path)
        self._check = check or self._check_directory
        # By process id: a forked child neither uses nor closes an inherited connection, as SQLite would then release
        # locks that the parent relies on.
        self._handles: dict[int, _Handle] = {}
        weakref.finalize(self, _close_own, self._handles)

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Store all rows or none. See :meth:`trace_guard.backends.base.Backend.send`.

        Raises:
            BackendUnavailable: the file can't be written, or not before the deadline.
            BackendRefused: a row is not a JSON object, too large, or nested too deeply.
        """
        parsed = [(_parse(encoded), encoded) for encoded in rows]
        if parsed:
            self._use(lambda connection: _write(connection, parsed), None, deadline, write=True)

    def resolve_project(self, name: str, deadline: Deadline) -> str:
        """The name itself, which serves as the project's id here."""
        return name

    def attach(self, one: SpooledAttachment, deadline: Deadline) -> None:
        """Keep an attachment as a file. An attachment whose content can't be read is skipped.

        Raises:
            BackendUnavailable: the file can't be written.
        """
        from ..journal.spooled import file_name

        if one.content is None:
            return
        directory, name = self.path.parent / ATTACHMENTS, file_name(one.key)
        part = directory / f".{name}.{os.getpid()}.{threading.get_ident()}"
        try:
            self._make_directory()
            own_directory(directory)
            part.unlink(missing_ok=True)
            with open(create_file(part), "wb") as file:
                file.writelines(one.content)
            os.replace(part, directory / (name + _ending(one.filename)))
        except (OSError, JournalUnavailable) as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise BackendUnavailable(f"an attachment can't be written to {directory}: {error}") from error

    def find_attachment(self, key: str) -> Content | None:
        from ..journal.spooled import Content

        path = self.attachment_path(key)
        return None if path is None else Content(path)

    def attachment_path(self, key: str) -> Path | None:
        """The file of the attachment with this key; None if there is none."""
        from ..journal.spooled import file_name

        directory, name = self.path.parent / ATTACHMENTS, file_name(key)
        return next((path for path in directory.glob(f"{name}*") if path.stem == name and is_own_file(path)), None)

    def close(self) -> None:
        """Close the file now, or as soon as it is no longer in use. The store may be used again afterwards."""
        _close_own(self._handles)

    def traces(self, limit: int | None = 50, project: str | None = None) -> list[TraceSummary]:
        """The newest traces, newest first.

        Args:
            limit: how many at most; None for all.
            project: only those with a span in the project or experiment of that id.
        """

        def read(connection: sqlite3.Connection) -> list[TraceSummary]:
            roots = connection.execute(_NEWEST, (project, -1 if limit is None else max(0, limit)))
            return summarize(row for (root,) in roots.fetchall() for row in _of_trace(connection, root))

        return self._use(read, [])

    def spans(self, root_span_id: str) -> list[SpanSummary]:
        """The spans of a trace as a tree; see :func:`trace_guard.backends.summaries.spans_of`."""
        return spans_of(self.rows(root_span_id), root_span_id)

    def rows(self, root_span_id: str) -> list[Row]:
        """The rows of a trace, by their start."""
        return self._use(lambda connection: _of_trace(connection, root_span_id), [])

    def all_rows(self) -> list[Row]:
        """Every row, in the order in which they were first sent."""
        query = "SELECT doc FROM rows ORDER BY rowid"
        return self._use(lambda connection: [json.loads(doc) for (doc,) in connection.execute(query)], [])

    def find_root(self, prefix: str) -> list[str]:
        """The ids of the traces whose ``root_span_id`` starts with the prefix; only the exact match if there is one."""

        def read(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute(
                "SELECT DISTINCT root_span_id FROM rows WHERE root_span_id >= ? AND root_span_id < ? ORDER BY 1",
                (_column(prefix), f"{_column(prefix)}\U0010ffff"),
            )
            roots = [str(root) for (root,) in found]
            return [prefix] if prefix in roots else roots

        return self._use(read, [])

    def _use(
        self, work: Callable[[sqlite3.Connection], T], absent: T, deadline: Deadline | None = None, *,
        write: bool = False,
    ) -> T:
        """Run ``work`` on the connection, and wait for the lock until the deadline. Returns ``absent`` if ``work``
        only reads and there is no store."""
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
            return work(connection) if self._has_schema(handle, connection) else absent
        if not handle.has_schema:
            self._has_schema(handle, connection)  # checked first, so that another program's file is not changed
            # Must run outside a transaction. The mode is stored in the file.
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._has_schema(handle, connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
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
        self._make_directory()
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

    def _make_directory(self) -> None:
        """Create the directory if it does not exist. ``check`` tells which directories must not be used."""
        self._check()
        if not os.path.lexists(self.path.parent):
            make_parents(self.path.parent)
            own_directory(self.path.parent)

    def _check_directory(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            check_directory(self.path.parent, closed=True)

    def _has_schema(self, handle: _Handle, connection: sqlite3.Connection) -> bool:
        """False for an empty file.

        Raises:
            BackendUnavailable: the file belongs to a newer release, or to another program.
        """
        if handle.has_schema:
            return True
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version > SCHEMA_VERSION and "rows" in tables:
            raise BackendUnavailable(
                f"{self.path} was written by a newer release of trace-guard (its version is {version}, this release "
                f"knows {SCHEMA_VERSION}): upgrade trace-guard, or point TRACE_GUARD_DIR to another directory"
            )
        if (version, "rows" in tables) not in ((0, False), (SCHEMA_VERSION, True)) or (version == 0 and tables):
            raise BackendUnavailable(
                f"{self.path} is not a store of trace-guard but another SQLite file: move it away, or point "
                "TRACE_GUARD_DIR to another directory"
            )
        handle.has_schema = version == SCHEMA_VERSION
        return handle.has_schema

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


def _parse(encoded: bytes) -> Row:
    try:
        row = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise BackendRefused(f"a row is not JSON: {error}: {encoded[:80]!r}", status=400) from error
    if not isinstance(row, dict):
        raise BackendRefused(f"a row is not a JSON object: {encoded[:80]!r}", status=400)
    return row


def _write(connection: sqlite3.Connection, rows: Sequence[tuple[Row, bytes]]) -> None:
    for given, encoded in rows:
        row = dict(given)  # in case the whole batch must be repeated
        if row.get("id") is None:
            # A row must get the same id every time it is sent.
            row["id"] = hashlib.sha256(encoded).hexdigest()[:32]
        key = json.dumps(row_key(row))
        if row.get("_object_delete"):
            connection.execute("DELETE FROM rows WHERE key = ?", (key,))
            continue
        stored = connection.execute("SELECT doc FROM rows WHERE key = ?", (key,)).fetchone()
        if row.pop("_is_merge", False) and stored is not None:
            row = merge(json.loads(stored[0]), row)
        row = visible(row)
        columns = (_column(root_id_of(row)), start_of(row), _column(project_of(row)))
        connection.execute(_UPSERT, (key, *columns, dump(row).decode()))


def _of_trace(connection: sqlite3.Connection, root_span_id: str) -> list[Row]:
    found = connection.execute(
        "SELECT doc FROM rows WHERE root_span_id = ? ORDER BY start, rowid", (_column(root_span_id),)
    )
    return [json.loads(doc) for (doc,) in found]


def _column(value: str | None) -> str | None:
    # JSON may contain lone surrogates, SQLite's text may not.
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()


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


def _ending(filename: str) -> str:
    """The extension of a file's name, so that the attachment opens with the right program."""
    ending = Path(filename).suffix
    return ending if ending[1:].isalnum() and len(ending) <= 16 else ""
