"""Rows on their way from the writer of a journal to the courier, in memory.

The journal hands over what it has just written, in order. The courier reads from disk only what is not here: the
backlog at a start, what was written while the memory was full, and what another process wrote.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from ..backends.project_ids import is_placeholder, project_name
from ..journal.format import Flag, Position
from ..journal.reader import has_valid_ids, parse_payload
from ..journal.row_facts import NewRow, RowFacts
from ..rows import Row

__all__ = ["MEMORY", "Handover", "PendingRow"]

_VERBATIM = int(Flag.VERBATIM)
# What a row takes in memory beside its bytes.
_ROW_BYTES = 700


class PendingRow:
    """A row that is in a journal and not delivered.

    Attributes:
        encoded: the row as in the journal.
        start: the position behind the row before it, once it is in a lane.
        end: the position behind it.
        row_id: its id. Rows of one id arrive in order.
        trace: its ``root_span_id``; "" if it is not a row of a span.
        verbatim: it is sent byte for byte, and never combined with another row.
        is_plain: it is a valid merge, so its bytes can be sent as they are.
        project: the name of the project in its placeholder, if it has one.
        settled: it is not to be sent any more, as it is delivered or a dead letter.
        held: the bytes that it takes in memory, until they are given back.
    """

    __slots__ = ("_row", "encoded", "end", "held", "is_plain", "project", "row_id", "settled", "start", "trace",
                 "verbatim")

    def __init__(self, facts: RowFacts | None, encoded: bytes, flags: int, end: Position) -> None:
        self.encoded = encoded
        self.start = self.end = end
        self.settled = False
        self.held = len(encoded) + _ROW_BYTES
        self._row: Row | None = None
        if facts is None:  # it can't be parsed, as :meth:`parse` will tell
            self.row_id, self.trace, self.verbatim, self.is_plain, self.project = "", "", False, False, None
            return
        row = facts.row
        project_id = row.get("project_id")
        self.row_id = str(facts.row_id)
        self.trace = facts.trace if facts.is_span and row.get("root_span_id") else ""
        self.verbatim = not facts.is_span or bool(flags & _VERBATIM)
        self.project = project_name(str(project_id)) if is_placeholder(project_id) else None
        # Python writes NaN and infinity, which are not JSON.
        self.is_plain = (
            row.get("_is_merge") is True and not self.verbatim and self.project is None and has_valid_ids(row)
            and b"NaN" not in encoded and b"Infinity" not in encoded
        )

    @classmethod
    def read(cls, encoded: bytes, flags: int, end: Position) -> PendingRow:
        """A row that was read from a journal. It keeps the parsed row until it is sent."""
        try:
            row = parse_payload(encoded)
        except ValueError:
            return cls(None, encoded, flags, end)
        pending = cls(RowFacts(row), encoded, flags, end)
        pending._row = row
        return pending

    def parse(self) -> Row:
        """The row, which the caller may change.

        Raises:
            ValueError: it is not a valid row.
        """
        row, self._row = self._row, None
        return parse_payload(self.encoded) if row is None else row


class _Memory:
    """What all rows on their way may take in memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Nothing is held, as in a forked child."""
        self.held = 0
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        return self.held >= self.limit

    def take(self, row: PendingRow) -> None:
        with self._lock:
            self.held += row.held

    def give_back(self, row: PendingRow) -> None:
        """Count a row no longer. Does nothing the second time."""
        with self._lock:
            self.held -= row.held
            row.held = 0


MEMORY = _Memory(12 * 1024 * 1024)
"""For the whole process. It holds the four batches that may be in flight, or some seconds of spans of a busy service.
While a backend is down, rows beyond it are only on disk."""


class Handover:
    """The rows that one journal has written and the courier has not taken yet.

    The journal calls :meth:`written` with its own lock held. Only the courier calls the other methods.

    Attributes:
        upto: everything before this position was handed over.
    """

    def __init__(self, start: Position) -> None:
        self.upto = start
        self._rows: deque[PendingRow] = deque()
        self._is_open = True

    def __len__(self) -> int:
        return len(self._rows)

    def written(self, start: Position, rows: Sequence[NewRow], end: Position) -> None:
        """See :meth:`.base.Follower.written`."""
        if not self._is_open:
            return
        if start != self.upto or (rows and MEMORY.is_full):
            self._is_open = False  # from here on the courier reads the disk, until it has caught up
            return
        behind = end.offset - sum([new.size for new in rows])
        for new in rows:
            behind += new.size
            row = PendingRow(new, new.encoded, new.flags, Position(end.segment, behind))
            MEMORY.take(row)
            self._rows.append(row)
        self.upto = end

    def take(self) -> list[PendingRow]:
        """Remove and return the rows."""
        rows = self._rows
        return [rows.popleft() for _ in range(len(rows))]

    def reopen(self, position: Position) -> None:
        """The courier has everything before this position."""
        if not self._is_open or self.upto < position:
            self.upto, self._is_open = position, True

    def close(self) -> None:
        """Take nothing more. The courier reads the disk."""
        self._is_open = False
