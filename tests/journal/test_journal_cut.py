"""A recorded journal is cut and damaged at every byte: whole entries are never lost, and no span stays open."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import Program, end_row, environment, journals, rows_in, settings_for, start_row, still_open

from trace_guard import Settings, recover
from trace_guard.backends.memory import MemoryBackend
from trace_guard.deadline import Deadline
from trace_guard.delivery.courier import Courier
from trace_guard.delivery.dead_letters import DeadLetters
from trace_guard.journal.directory import JOURNALS, StateDir, prepare
from trace_guard.journal.format import Entry, Flag, Kind
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.orphans import MOST_ADOPTED, OrphanSearch
from trace_guard.journal.reader import read_acked, read_entries, segments
from trace_guard.journal.row_facts import NewRow
from trace_guard.rows import row_key
from trace_guard.testing import BraintrustServer

RECORDER = """
    import braintrust, requests
    from trace_guard import Deadline, Guard
    from trace_guard.runtime.state import PROCESS

    guard = Guard(max_journal_bytes=1 << 17)
    with guard.invocation("done", deadline=Deadline.after(60), input={"n": 1}) as invocation:
        with braintrust.start_span("child") as child:
            child.log(input="x", output=["y"], metadata={"k": 1}, scores={"s": 0.5})
        invocation.span.log(tags=["t"])
    outer = guard.invocation("killed", metadata={"m": 1}).open()
    early = braintrust.start_span("early")
    (journal,) = guard.pipeline.courier.journals()
    # What follows fits in the segment that has just begun.
    while journal.end.segment < 2 or journal.end.offset > 2500:
        with braintrust.start_span("filler") as filler:
            filler.log(input="f" * 1500)
        braintrust.flush()
    guard.pipeline.flush(Deadline.after(10))
    say("delivered")
    listen()
    late = early.start_span("late", input={"deep": {"er": None}})
    with late.start_span("ended") as ended:
        ended.log(error="no")
    braintrust.current_logger().log_feedback(id=ended.id, scores={"thumbs": 1}, comment="good")
    rows = '{"rows": [{"id":"e1", "dataset_id": "d", "input" : 1.0e1}, {"id":"e2","dataset_id":"d"}], "api_version":2}'
    session = requests.Session()
    session.mount("http://", PROCESS.sdk.gateway)
    headers = {"Authorization": f"Bearer {guard.settings.api_key}"}
    assert session.post("http://braintrust/logs3", data=rows, headers=headers).ok
    try:
        with guard.invocation("inner"):
            raise SystemError("the user's own")
    except SystemError:
        pass
    PROCESS.sdk.drain(Deadline.after(10))
    say("written")
    listen()
"""


@dataclass
class Recording:
    """A journal as its process left it when it was killed."""

    path: Path
    settings: Settings
    entries: list[Entry]
    last: int

    def copied_to(self, directory: Path, segment: bytes) -> StateDir:
        """Copy the journal to another directory, with another content of the last segment."""
        state_dir = prepare(directory, 1 << 26)
        copy = directory / JOURNALS / self.path.name
        copy.mkdir()
        for file in self.path.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        (copy / f"{self.last:08d}.seg").write_bytes(segment)
        return state_dir

    @property
    def segment(self) -> bytes:
        """The content of the last segment."""
        return (self.path / f"{self.last:08d}.seg").read_bytes()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    directory = tmp_path_factory.mktemp("recorded")
    with BraintrustServer() as server, Program(RECORDER, environment(server, directory)) as program:
        program.expects("delivered")
        server.refuse_connections()
        program.tell()
        program.expects("written")
        program.kill()
        (path,) = journals(directory)
        return Recording(path, settings_for(server, directory), list(read_entries(path)), segments(path)[-1])


def test_the_recording_holds_every_kind_of_entry(recording: Recording) -> None:
    """The recording that the tests below cut has invocations, identities, rows, verbatim rows and open spans."""
    kinds = {(entry.kind, entry.flags) for entry in recording.entries if entry.end.segment == recording.last}
    assert [entry.end.segment for entry in recording.entries].count(recording.last) == len(recording.entries)
    assert kinds == {
        (Kind.INVOCATION, Flag.NONE), (Kind.IDENTITY, Flag.NONE), (Kind.ROW, Flag.NONE), (Kind.ROW, Flag.VERBATIM)
    }
    assert read_acked(recording.path).segment > 0
    parsed = [json.loads(entry.payload) for entry in recording.entries if entry.kind != Kind.INVOCATION]
    # The root, "early" and "late".
    assert len(still_open(parsed)) == 3


def recovered(state_dir: StateDir, settings: Settings) -> MemoryBackend:
    """Recover the directory step by step, as a process does, and return what was delivered."""
    backend = MemoryBackend()
    courier = Courier(backend, DeadLetters(state_dir.directory, 1 << 20), linger=0.0)
    search = OrphanSearch(state_dir, settings.destination)
    while orphans := search.adopt(MOST_ADOPTED, Deadline.never()):
        for orphan in orphans:
            started = [json.loads(entry.payload) for entry in read_entries(orphan.journal.path)
                       if entry.kind in (Kind.ROW, Kind.IDENTITY)]
            assert still_open(started) == set()
            courier.add(orphan.journal, first=orphan.closing, orphan=True)
        assert courier.drain(Deadline.after(10))
    courier.close()
    return backend


def check(recording: Recording, state_dir: StateDir, surviving: list[Entry], behind: Sequence[Entry] = ()) -> None:
    """Recover a damaged copy. ``surviving`` are the entries that can be read, ``behind`` those after damage in the
    acknowledged part."""
    path = state_dir.directory / JOURNALS / recording.path.name
    assert list(read_entries(path)) == surviving
    acked, known = read_acked(path), [*surviving, *behind]
    rows = recovered(state_dir, recording.settings).rows()
    assert list((state_dir.directory / JOURNALS).iterdir()) == []
    opened = still_open([json.loads(entry.payload) for entry in known if entry.kind in (Kind.ROW, Kind.IDENTITY)])
    ended = {row["id"] for row in rows if "end" in row.get("metrics", {})}
    assert opened <= ended
    assert still_open(rows) == set()
    pending = {row_key(row) for row in rows_in(entry for entry in known if entry.end > acked)}
    assert pending <= {row_key(row) for row in rows}


def edges(recording: Recording, step: int) -> set[int]:
    """The offsets where the result changes, on both sides of each entry's end, and every ``step`` bytes."""
    ends = {entry.end.offset for entry in recording.entries if entry.end.segment == recording.last}
    beside = {0, 7, 8, 9} | {end + by for end in ends for by in (-1, 0, 1)}
    return {place for place in beside if place < len(recording.segment)} | {*range(0, len(recording.segment), step)}


def test_a_journal_can_be_cut_at_every_byte(recording: Recording, tmp_path: Path) -> None:
    """Wherever the last segment is cut, the whole entries before the cut are read and delivered, and every span that
    began before it is closed."""
    content, places = recording.segment, edges(recording, 7)
    read = recording.copied_to(tmp_path / "read", content).directory / JOURNALS / recording.path.name
    segment = read / f"{recording.last:08d}.seg"
    for cut in range(len(content), -1, -1):
        surviving = [
            entry for entry in recording.entries if entry.end.segment < recording.last or entry.end.offset <= cut
        ]
        os.truncate(segment, cut)
        assert list(read_entries(read)) == surviving
        if cut in places or cut == len(content):
            check(recording, recording.copied_to(tmp_path / "room", content[:cut]), surviving)


def test_a_journal_can_be_damaged_at_every_byte(recording: Recording, tmp_path: Path) -> None:
    """Whichever byte of the last segment is damaged, the entries before it are read and delivered, and every span that
    began before it is closed."""
    content, acked, places = recording.segment, read_acked(recording.path), edges(recording, 17)
    read = recording.copied_to(tmp_path / "read", content).directory / JOURNALS / recording.path.name
    segment = read / f"{recording.last:08d}.seg"
    for hit in range(len(content)):
        damaged = bytearray(content)
        damaged[hit] ^= 0x10
        surviving = [
            entry for entry in recording.entries
            if entry.end.segment < recording.last or (entry.end.offset <= hit and hit >= 8)
        ]
        segment.write_bytes(damaged)
        assert list(read_entries(read)) == surviving
        if hit in places:
            behind = [] if hit < 8 else [e for e in recording.entries if e.end > acked > (recording.last, hit)]
            check(recording, recording.copied_to(tmp_path / "room", bytes(damaged)), surviving, behind)


def test_a_torn_tail_does_not_keep_a_journal(state_dir: StateDir, recording: Recording) -> None:
    """A journal without open spans is delivered and removed although its last entry is torn."""
    journal = FileJournal.create(state_dir, recording.settings.destination, OpenSpans())
    end = journal.append([NewRow.of(start_row("a")), NewRow.of(end_row("a"))])
    journal.append([NewRow.of(start_row("torn"))])
    journal.abandon()
    segment = journal.path / "00000001.seg"
    content = segment.read_bytes()
    for cut in range(end.offset, len(content)):
        copy = state_dir.directory / JOURNALS / f"copy-{cut}"
        shutil.copytree(journal.path, copy)
        (copy / segment.name).write_bytes(content[:cut])
    shutil.rmtree(journal.path)
    assert [row["id"] for row in recovered(state_dir, recording.settings).rows()] == ["id-a"]
    assert list((state_dir.directory / JOURNALS).iterdir()) == []


def test_recovery_of_a_cut_journal_leaves_no_span_open(
    recording: Recording, tmp_path: Path, server: BraintrustServer
) -> None:
    """``recover`` delivers a journal that is cut between or within entries up to its last whole row."""
    content = recording.segment
    last = [entry for entry in recording.entries if entry.end.segment == recording.last]
    for entry in last:
        for cut in (entry.end.offset, entry.end.offset - 1):
            state_dir = recording.copied_to(tmp_path / "room", content[:cut])
            path = state_dir.directory / JOURNALS / recording.path.name
            header = json.loads((path / "header").read_bytes())
            settings = settings_for(server, state_dir.directory)
            (path / "header").write_text(json.dumps({**header, **settings.destination}))
            known = [json.loads(one.payload) for one in read_entries(path) if one.kind in (Kind.ROW, Kind.IDENTITY)]
            found = recover(settings, timeout=10)
            assert (found.closed_spans, found.pending_rows, found.error) == (len(still_open(known)), 0, None)
            # This server has no start of a span that was delivered before the segment.
            assert [span for span in server.open_spans() if "metrics" in span] == []
            assert {row["id"] for row in known if row["id"] in still_open(known)} <= _ids(server.rows())
            assert journals(state_dir.directory) == []
            server.clear()


def _ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["id"] for row in rows}
