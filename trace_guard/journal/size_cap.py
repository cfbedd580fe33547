"""Keeps trace-guard's directory below its size cap. The cap can cost detail, and never leaves a trace open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..contain import warn_once
from ..rows import without_payload
from .files import bytes_of_journals
from .format import PAYLOAD_LIMIT
from .open_spans import OpenSpans
from .row_facts import NewRow

__all__ = ["RECOUNT_BYTES", "SizeCap"]

RECOUNT_BYTES = 1024 * 1024
"""After this many written bytes, what other processes keep in the directory is counted again."""
_PAYLOAD_SHARE = 0.75
_SPANS_SHARE = 0.9
# Attachments fill at most this share of the directory, so that they never displace a row.
_ATTACHMENTS_SHARE = 0.5


class SizeCap:
    """Decides which rows one journal may still write.

    Payloads are dropped first, then spans whose start is not written yet. The rest of the room is for the ends of
    spans whose start is written.

    Args:
        limit: the most bytes that all journals in the directory may take.
        journal: the directory of the journal that writes.
        spans: its open spans.

    Attributes:
        dropped_spans: how many spans were not recorded.
    """

    def __init__(self, limit: int, journal: Path, spans: OpenSpans) -> None:
        self.dropped_spans = 0
        self._limit = limit
        self._journal = journal
        self._spans = spans
        self._others, self._uncounted = 0, RECOUNT_BYTES

    @property
    def attachments_limit(self) -> int:
        """The most bytes up to which attachments may fill the directory."""
        return int(self._limit * _ATTACHMENTS_SHARE)

    def others(self) -> int:
        """Bytes that other journals in the directory take now."""
        return bytes_of_journals(self._journal.parent, but=self._journal.name)

    def written(self, count: int) -> None:
        """So many bytes were written. Counts now and then what other processes have written."""
        self._uncounted += count
        if self._uncounted >= min(RECOUNT_BYTES, self._limit // 16):
            self._uncounted = 0
            self._others = self.others()

    def has_room_for(self, rows: Sequence[NewRow], used: int) -> bool:
        """True if these rows can be written as they are.

        Args:
            used: bytes that the journal takes with its attachments.
        """
        used += self._others
        for new in rows:
            used += new.size
            if new.size > PAYLOAD_LIMIT:
                return False
        return used <= self._limit * _PAYLOAD_SHARE and not self._spans.has_dropped

    def fit(self, rows: Sequence[NewRow], used: int) -> list[NewRow]:
        """The rows that may be written, without their payload where there is no room for it.

        Args:
            used: bytes that the journal takes with its attachments.
        """
        used += self._others
        fitting: list[NewRow] = []
        for new in rows:
            if len(new.encoded) > PAYLOAD_LIMIT:
                warn_once("cap:row", "a row of %d bytes is too large for the journal: its input and output are dropped",
                          len(new.encoded))
                if not new.is_span:
                    continue
                new = _without_payload(new)
            total = used + new.size
            if new.is_span:
                row_id = str(new.row_id)
                if self._spans.was_dropped(row_id):
                    continue
                if total > self._limit * _PAYLOAD_SHARE:
                    begun = self._spans.is_open(row_id) or any(other.row_id == row_id for other in fitting)
                    if not self._is_needed(new, row_id, begun=begun, full=total > self._limit * _SPANS_SHARE):
                        continue
                    warn_once("cap:payload", "the journal in %s is close to its size cap (%d bytes): inputs and "
                              "outputs are dropped until deliveries succeed again", self._journal, self._limit)
                    new = _without_payload(new)
            used += new.size
            fitting.append(new)
        return fitting

    def _is_needed(self, new: NewRow, row_id: str, *, begun: bool, full: bool) -> bool:
        """Whether a row is worth writing without its payload."""
        starts, ends = new.start is not None, new.end is not None
        if not full:
            return begun or starts or ends
        if not begun and starts:
            self._spans.drop(row_id)
            self.dropped_spans += 1
            warn_once("cap:spans", "the journal in %s is full (%d bytes): new spans are not recorded until "
                      "deliveries succeed again", self._journal, self._limit)
        return begun and ends


def _without_payload(new: NewRow) -> NewRow:
    return NewRow.of(without_payload(new.row), new.flags)
