"""Well-formed entries and files with invalid content: each affects only itself."""

from __future__ import annotations

import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from support import end_row, journals, settings_for, start_row

from trace_guard import recover
from trace_guard.backends.project_ids import ProjectIds
from trace_guard.journal.attachments import FileSpool
from trace_guard.journal.directory import StateDir
from trace_guard.journal.format import Kind, Position, encode_acked, encode_entry
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.row_facts import NewRow
from trace_guard.journal.spooled import SpooledAttachment
from trace_guard.rows import dump
from trace_guard.runtime.status import read_status
from trace_guard.testing import BraintrustServer

DEEP = b'{"id": "odd", "span_id": "odd", "root_span_id": "odd", "metrics": {"start": 1}, "input": ' + b"[" * 50_000
NAN, HUGE = float("nan"), int("9" * 400)


def odd(**fields: Any) -> bytes:
    """A row with some invalid fields."""
    return json.dumps({**start_row("odd"), **fields}).encode()


ODD_ENTRIES: dict[str, tuple[int, bytes]] = {
    "no JSON": (Kind.ROW, b"{"),
    "no UTF-8": (Kind.ROW, b'{"id": "\xff"}'),
    "nothing": (Kind.ROW, b""),
    "a list": (Kind.ROW, b"[]"),
    "a number": (Kind.ROW, b"1"),
    "null": (Kind.INVOCATION, b"null"),
    "a text": (Kind.IDENTITY, b'"text"'),
    "too deep": (Kind.ROW, DEEP),
    "deep objects": (Kind.ROW, b'{"a":' * 50_000),
    "deep below a limit": (Kind.ROW, odd(input=json.loads("[" * 200 + "]" * 200))),
    "a number of 5,000 digits": (Kind.ROW, b'{"id": "odd", "metrics": {"start": ' + b"9" * 5000 + b"}}"),
    "a list as id": (Kind.ROW, odd(id=["odd"])),
    "an object as span_id": (Kind.ROW, odd(span_id={"odd": 1})),
    "a list as root_span_id": (Kind.ROW, odd(root_span_id=[])),
    "an object as project_id": (Kind.ROW, odd(project_id={})),
    "NaN as id": (Kind.ROW, odd(id=NAN)),
    "no id": (Kind.ROW, json.dumps({"span_id": "odd", "metrics": {"start": 1.0}}).encode()),
    "a number as span_parents": (Kind.ROW, odd(span_parents=7)),
    "objects as span_parents": (Kind.ROW, odd(span_parents=[{}])),
    "a text as metrics": (Kind.ROW, odd(metrics="start")),
    "NaN as start": (Kind.ROW, odd(metrics={"start": NAN})),
    "infinity as start": (Kind.ROW, odd(metrics={"start": float("inf")})),
    "a huge start": (Kind.ROW, odd(metrics={"start": HUGE})),
    "a list as span_attributes": (Kind.ROW, odd(span_attributes=[])),
    "a list as name": (Kind.ROW, odd(span_attributes={"name": [1]})),
    "a text as metadata": (Kind.ROW, odd(metadata="text")),
    "NaN as input": (Kind.ROW, odd(input=NAN)),
    "a row as invocation": (Kind.INVOCATION, odd()),
    "an invocation of lists": (Kind.INVOCATION, b'{"root": [], "span_id": {}, "root_span_id": 1, "started": "x"}'),
    "an invocation without an end": (
        Kind.INVOCATION,
        b'{"root": "r", "span_id": "r", "root_span_id": "r", "started": 1, "deadline": NaN, "reserve": "x"}',
    ),
    "an identity of lists": (Kind.IDENTITY, b'{"id": [], "span_id": [], "root_span_id": []}'),
    "an unknown kind": (77, b"[]"),
}


def entry_of(kind: int, payload: bytes, at: float = 1000.0) -> bytes:
    """An encoded entry of any kind."""
    rest = struct.pack(">BBHd", kind, 0, 0, at)
    return struct.pack(">II", len(payload), zlib.crc32(payload, zlib.crc32(rest))) + rest + payload


def orphan_with(state_dir: StateDir, settings: Any, entries: bytes) -> Path:
    """A journal of a dead process, with two whole spans around these entries."""
    journal = FileJournal.create(state_dir, settings.destination, OpenSpans())
    journal.append([NewRow.of(start_row("before"))])
    journal.abandon()
    with (journal.path / "00000001.seg").open("ab") as file:
        file.write(entries)
        for row in (end_row("before"), start_row("after")):
            file.write(encode_entry(Kind.ROW, dump(row), at=1001.0))
    return journal.path


@pytest.mark.parametrize("name", ODD_ENTRIES)
def test_an_invalid_entry_harms_no_other(
    server: BraintrustServer, directory: Path, state_dir: StateDir, name: str
) -> None:
    """An invalid entry with a valid checksum keeps no other entry from being read, closed and delivered."""
    settings = settings_for(server, directory)
    path = orphan_with(state_dir, settings, entry_of(*ODD_ENTRIES[name]))
    status = read_status(settings)
    assert [journal.path for journal in status.journals] == [path]
    found = recover(settings, timeout=10)
    assert (found.error, found.pending_rows) == (None, 0)
    rows = {row["id"]: row for row in server.rows() if row.get("id") in ("id-before", "id-after")}
    assert rows["id-before"]["metrics"] == {"start": 1000.0, "end": 1001.0}
    assert rows["id-after"]["metrics"]["end"] >= 1001.0
    assert [row for row in server.open_spans() if row["id"] != "id-odd"] == []
    assert journals(directory) == []


def test_status_counts_damaged_entries(server: BraintrustServer, directory: Path, state_dir: StateDir) -> None:
    """Status counts the entries that can't be used, and the others."""
    settings = settings_for(server, directory)
    orphan_with(state_dir, settings, entry_of(Kind.ROW, b"[]") + entry_of(Kind.INVOCATION, b"{}"))
    status = read_status(settings)
    assert status.damaged == 1
    assert any("has 2 damaged entries" in problem for problem in status.problems)
    assert [(one.pending_rows, one.open_spans) for one in status.journals] == [(3, 1)]


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1.0, 1e300])
def test_an_impossible_time_is_ignored(
    server: BraintrustServer, directory: Path, state_dir: StateDir, at: float
) -> None:
    """A time that no clock shows does not count as a sign of life."""
    settings = settings_for(server, directory)
    orphan_with(state_dir, settings, entry_of(Kind.ROW, dump(start_row("odd")), at))
    assert recover(settings, timeout=10).error is None
    ends = [row["metrics"]["end"] for row in server.span_rows()]
    assert len(ends) == 3
    assert all(1000.0 <= end <= time.time() for end in ends)


@pytest.mark.parametrize("position", [Position(1, 1 << 40), Position(9, 8), Position((1 << 64) - 1, 0)])
def test_an_impossible_acknowledged_position_is_ignored(
    server: BraintrustServer, directory: Path, state_dir: StateDir, position: Position
) -> None:
    """If ``acked`` points to a place that doesn't exist, everything is sent again."""
    settings = settings_for(server, directory)
    path = orphan_with(state_dir, settings, b"")
    (path / "acked").write_bytes(encode_acked(position))
    assert recover(settings, timeout=10).error is None
    assert {row["id"] for row in server.span_rows()} == {"id-before", "id-after"}


@pytest.mark.parametrize("name", ["x.seg", "².seg", "\u0661.seg", "1.seg", f"{10**30}.seg", "-1.seg", "00000001.SEG"])
def test_only_exact_names_are_segments(
    server: BraintrustServer, directory: Path, state_dir: StateDir, name: str
) -> None:
    """Files with names similar to a segment's are not read."""
    settings = settings_for(server, directory)
    path = orphan_with(state_dir, settings, b"")
    (path / name).write_bytes(b"nothing of ours")
    assert recover(settings, timeout=10).error is None
    assert {row["id"] for row in server.span_rows()} == {"id-before", "id-after"}


@pytest.mark.parametrize("header", [
    b"[]", b"{", b"[" * 100_000, b'{"format": [1]}', b'{"format": NaN}', b'{"format": 1, "pid": {}}',
    b'{"format": 1, "backend": "braintrust", "api_url": [1], "key_fingerprint": {}}', b"\xff", b" " * (1 << 20),
])
def test_an_invalid_header_harms_no_other_journal(
    server: BraintrustServer, directory: Path, state_dir: StateDir, header: bytes
) -> None:
    """A journal with an invalid header keeps no other from being recovered."""
    settings = settings_for(server, directory)
    odd_one = orphan_with(state_dir, settings, b"")
    (odd_one / "header").write_bytes(header)
    orphan_with(state_dir, settings, b"")
    assert read_status(settings).problems
    assert recover(settings, timeout=10).error is None
    assert {row["id"] for row in server.span_rows()} == {"id-before", "id-after"}
    assert journals(directory) == [odd_one]


@pytest.mark.parametrize("cached", [
    b"[]", b"null", b"[" * 100_000, b'{"organisation": [], "projects": []}', b'{"organisation": 1, "projects": {}}',
    b'{"organisation": {"id": [], "name": {}}, "projects": {"p": []}}', b'{"organisation": null, "projects": {"p": 1}}',
    b'{"organisation": {"id": "i", "name": "n", "x": "y"}, "projects": {}}', b" " * (2 << 20),
])
def test_an_invalid_cache_is_replaced(tmp_path: Path, cached: bytes) -> None:
    """An invalid cache is ignored and written again."""
    path = tmp_path / "cache" / "identity.json"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(cached)
    path.chmod(0o600)
    identity = ProjectIds(path)
    assert (identity.organisation, identity.project_id("p")) == (None, None)
    identity.learn_project("p", "id")
    assert ProjectIds(path).project_id("p") == "id"


def test_an_invalid_attachment_harms_no_other(state_dir: StateDir) -> None:
    """An invalid description keeps no other attachment from being read."""
    journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
    one = SpooledAttachment("key", "name.txt", "text/plain")
    journal.make_room_for_attachments().begin(one)
    assert journal.make_room_for_attachments().store(one, b"content")
    journal.abandon()
    kept = journal.path / "attachments"
    odd_ones = (b"[]", b"1", b"{", b"[" * 100_000, b'{"key": []}', b'{"key": "k", "x": "y"}', b'{"root": "r"}')
    for number, about in enumerate(odd_ones):
        (kept / f"odd-{number}.json").write_bytes(about)
    spool = FileSpool(kept.parent, 1 << 20, lambda: 0)
    assert [one.key for one in spool.waiting] == ["key"]
    assert [b"".join(one.content or ()) for one in spool.waiting] == [b"content"]
