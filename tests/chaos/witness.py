"""What the journals say at the moment of a kill, and whether the server agrees in the end. Reads files and compares
rows by itself, without the code that recovers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import journals

from trace_guard.journal.format import Kind
from trace_guard.journal.reader import read_acked, read_entries
from trace_guard.rows import Row, merge
from trace_guard.testing import BraintrustServer


def is_idle(server: BraintrustServer) -> bool:
    """True once the server has handled every request of a dead client."""
    return not server._connections


@dataclass
class Witness:
    """What is known of every span on the disk.

    Attributes:
        spans: what the rows on disk come to, by row id, in the order in which they were written.
        carried: ids of spans of which only the identity is left, as their start was delivered long ago.
        pending: ids of rows that are not known to be delivered.
        delivered: ids of rows that are.
        returned: ids of the roots of invocations that have returned to their caller, with their verdicts.
        was_full: the journal has reached its cap, past which new spans are not recorded.
    """

    spans: dict[str, Row] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)
    returned: dict[str, str] = field(default_factory=dict)
    was_full: bool = False

    def look(self, directory: Path) -> Witness:
        """Read all journals. Call it after each kill, before a recovery."""
        for path in journals(directory):
            acked = read_acked(path)
            for entry in read_entries(path):
                row = json.loads(entry.payload)
                if entry.kind == Kind.ROW:
                    row.pop("_is_merge", None)
                    merge(self.spans.setdefault(row["id"], {}), row)
                    (self.delivered if entry.end <= acked else self.pending).add(row["id"])
                elif entry.kind == Kind.IDENTITY:
                    self.carried.add(row["id"])
        return self

    @property
    def known(self) -> set[str]:
        return self.spans.keys() | self.carried

    @property
    def ended(self) -> set[str]:
        return {row_id for row_id, row in self.spans.items() if "end" in row.get("metrics", {})}

    @property
    def open(self) -> set[str]:
        started = {row_id for row_id, row in self.spans.items() if "start" in row.get("metrics", {})}
        return (started | self.carried) - self.ended

    def agrees_before(self, server: BraintrustServer) -> None:
        """Check before a recovery: the server has what was acknowledged, and nothing that the disk lacks."""
        rows = {row["id"]: row for row in server.rows()}
        unknown = {row["id"] for row in server.open_spans()} - self.known
        sent = [
            (request.at, row["id"], row.get("_is_merge"), row.get("metrics"))
            for request in server.requests for row in request.rows if row["id"] in unknown
        ]
        assert not unknown, f"open on the server, not in a journal: {[rows[one] for one in unknown]}, sent as {sent}"
        missing = self.delivered - rows.keys()
        assert not missing, f"acknowledged, and not on the server: {missing}"
        for root, verdict in self.returned.items():
            if verdict == "delivered":
                assert "end" in rows.get(root, {}).get("metrics", {}), f"said to be delivered: {rows.get(root)}"

    def agrees_after(self, server: BraintrustServer, killed_at: float) -> None:
        """Check after a recovery: no span is open or missing, and no ended span has changed."""
        rows = {row["id"]: row for row in server.rows()}
        assert not server.open_spans(), f"still open: {server.open_spans()}"
        missing = self.known - rows.keys()
        assert not missing, f"missing: {[self.spans.get(one, one) for one in missing]}"
        for row_id in self.ended:
            assert not _differences(self.spans[row_id], rows[row_id]), (self.spans[row_id], rows[row_id])
        for row_id in self.open:
            row = rows[row_id]
            about = row["metadata"]["trace_guard"]
            assert about["outcome"] in ("abandoned", "timed_out"), row
            assert (about["closed_by"], about["reason"]) == ("recovery", "process_ended"), row
            assert row["metrics"].get("start", 0.0) <= row["metrics"]["end"] <= killed_at, row
        for root in self.returned:
            if self.was_full and root not in self.known:
                continue
            about = rows[root]["metadata"]["trace_guard"]
            assert about["outcome"] in ("ok", "error", "timed_out"), rows[root]
            assert about.get("closed_by") in (None, "watchdog"), rows[root]
            assert "start" in rows[root]["metrics"], rows[root]


def _differences(expected: Any, found: Any) -> bool:
    """True if something expected is missing. Rows that were delivered earlier may be there in addition. A null takes
    a mark away."""
    if isinstance(expected, dict) and isinstance(found, dict | None):
        return any(_differences(value, (found or {}).get(key)) for key, value in expected.items())
    return bool(expected != found)
