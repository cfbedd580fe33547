"""The local store: a SQLite file that keeps rows when there is no Braintrust key.

:mod:`.store_schema` describes its tables. Any number of processes may write at once. SQLite is imported only when a
store is used, so functions that deliver to Braintrust do not pay for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..deadline import Deadline
from ..errors import BackendRefused, BackendUnavailable, JournalUnavailable
from ..journal.directory import STORE_NAME
from ..journal.files import ATTACHMENTS
from ..journal.owned import (
    create_file,
    is_own_file,
    own_directory,
)
from ..rows import Row, dump, merge, row_key, visible
from .sqlite_file import SqliteFile
from .store_schema import UPSERT, column, columns_of
from .summaries import SpanSummary, TraceSummary, spans_of, summarize

if TYPE_CHECKING:
    import sqlite3

    from ..journal.spooled import Content, SpooledAttachment

__all__ = ["STORE_NAME", "LocalStore"]

T = TypeVar("T")

_NEWEST = (
    "SELECT root_span_id FROM rows WHERE root_span_id IS NOT NULL AND (?1 IS NULL OR project = ?1) "
    "GROUP BY root_span_id ORDER BY MIN(start) DESC LIMIT ?2"
)


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
        self._file = SqliteFile(self.path, check)

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Store all rows or none. See :meth:`trace_guard.backends.base.Backend.send`.

        Raises:
            BackendUnavailable: the file can't be written, or not before the deadline.
            BackendRefused: a row is not a JSON object, too large, or nested too deeply.
        """
        parsed = [(_parse(encoded), encoded) for encoded in rows]
        if parsed:
            self._file.use(lambda connection: _write(connection, parsed), None, deadline, write=True)

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
            self._file.make_directory()
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
        """The content of the attachment with this key; None if there is none."""
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
        self._file.close()

    def traces(self, limit: int | None = 50, project: str | None = None) -> list[TraceSummary]:
        """The newest traces, newest first.

        Args:
            limit: how many at most; None for all.
            project: only those with a span in the project or experiment of that id.
        """

        def read(connection: sqlite3.Connection) -> list[TraceSummary]:
            roots = connection.execute(_NEWEST, (project, -1 if limit is None else max(0, limit)))
            return summarize(row for (root,) in roots.fetchall() for row in _of_trace(connection, root))

        return self._file.use(read, [])

    def upgrade(self) -> None:
        """Bring a store of an older version to the present one. Without a store there is nothing to do."""
        if self.path.exists():
            self._file.use(lambda connection: None, None, write=True)

    def spans(self, root_span_id: str) -> list[SpanSummary]:
        """The spans of a trace as a tree; see :func:`trace_guard.backends.summaries.spans_of`."""
        return spans_of(self.rows(root_span_id), root_span_id)

    def rows(self, root_span_id: str) -> list[Row]:
        """The rows of a trace, by their start."""
        return self._file.use(lambda connection: _of_trace(connection, root_span_id), [])

    def all_rows(self) -> list[Row]:
        """Every row, in the order in which they were first sent."""
        query = "SELECT doc FROM rows ORDER BY rowid"
        return self._file.use(lambda connection: [json.loads(doc) for (doc,) in connection.execute(query)], [])

    def read(self, work: Callable[[sqlite3.Connection], T], absent: T) -> T:
        """Run ``work``, which only reads, on the file's connection; ``absent`` if there is no file yet."""
        return self._file.use(work, absent)

    def find_root(self, prefix: str) -> list[str]:
        """The ids of the traces whose ``root_span_id`` starts with the prefix; only the exact match if there is one."""

        def read(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute(
                "SELECT DISTINCT root_span_id FROM rows WHERE root_span_id >= ? AND root_span_id < ? ORDER BY 1",
                (column(prefix), f"{column(prefix)}\U0010ffff"),
            )
            roots = [str(root) for (root,) in found]
            return [prefix] if prefix in roots else roots

        return self._file.use(read, [])


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
        connection.execute(UPSERT, (key, *columns_of(row), dump(row).decode()))


def _of_trace(connection: sqlite3.Connection, root_span_id: str) -> list[Row]:
    found = connection.execute(
        "SELECT doc FROM rows WHERE root_span_id = ? ORDER BY start, rowid", (column(root_span_id),)
    )
    return [json.loads(doc) for (doc,) in found]


def _ending(filename: str) -> str:
    """The extension of a file's name, so that the attachment opens with the right program."""
    ending = Path(filename).suffix
    return ending if ending[1:].isalnum() and len(ending) <= 16 else ""
