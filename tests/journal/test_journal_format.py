"""The record layout: entries are read as written, and damage affects only what follows it in a segment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PROJECT_ID, end_row, start_row

from trace_guard.errors import JournalDamaged
from trace_guard.journal.directory import StateDir
from trace_guard.journal.format import (
    MAGIC,
    Entry,
    Flag,
    Kind,
    Position,
    decode_acked,
    decode_entries,
    encode_acked,
    encode_entry,
    segment_name,
)
from trace_guard.journal.invocation_record import InvocationRecord
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.reader import START, read_acked, read_entries, read_header
from trace_guard.journal.row_facts import NewRow
from trace_guard.rows import dump

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(Kind), st.binary(max_size=300), st.sampled_from([Flag.NONE, Flag.VERBATIM]),
        st.floats(allow_nan=False),
    )
)


@given(ENTRIES)
def test_entries_come_back_as_they_were_written(written: list[tuple[Kind, bytes, Flag, float]]) -> None:
    """Kind, flags, time, payload and position of every entry are read back."""
    encoded = [encode_entry(kind, payload, flags, at) for kind, payload, flags, at in written]
    ends = [8 + len(b"".join(encoded[: count + 1])) for count in range(len(encoded))]
    assert list(decode_entries(b"".join(encoded), 7, 8)) == [
        Entry(kind, flags, at, payload, Position(7, end))
        for (kind, payload, flags, at), end in zip(written, ends, strict=True)
    ]


@given(ENTRIES, st.data())
def test_a_flipped_bit_costs_only_what_follows_it(written: list[Any], data: st.DataObject) -> None:
    """Whichever bit of a segment is flipped, the entries before it are read, and no entry is read that was never
    written."""
    encoded = [encode_entry(kind, payload, flags, at) for kind, payload, flags, at in written]
    whole = b"".join(encoded)
    if not whole:
        return
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    before = [entry for entry in decode_entries(whole, 1) if entry.end.offset <= bit // 8]
    assert list(decode_entries(bytes(damaged), 1)) == before


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_the_acknowledged_position_comes_back(segment: int, offset: int) -> None:
    """The acknowledged position is read back as it was written."""
    assert decode_acked(encode_acked(Position(segment, offset))) == Position(segment, offset)


def test_a_torn_acked_file_reads_as_the_beginning(state_dir: StateDir) -> None:
    """However the file ``acked`` is cut or damaged, it reads as the beginning."""
    journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
    position = journal.append([NewRow.of(start_row("a")), NewRow.of(end_row("a"))])
    assert journal.take_delivery()
    journal.acknowledge(position)
    acked = journal.path / "acked"
    whole = acked.read_bytes()
    assert read_acked(journal.path) == position
    torn = [whole[:cut] for cut in range(len(whole))] + [whole + b"\0"]
    torn += [bytes(byte ^ (at == hit) for at, byte in enumerate(whole)) for hit in range(len(whole))]
    for content in torn:
        acked.write_bytes(content)
        assert read_acked(journal.path) == START
    acked.unlink()
    assert read_acked(journal.path) == START
    journal.abandon()


def test_a_journal_reads_back_what_was_written_to_it(state_dir: StateDir) -> None:
    """The header names destination and writer, and the entries are the rows in order, with their flags."""
    destination = {"backend": "braintrust", "api_url": None, "org_name": "ä", "project": "p", "project_id": PROJECT_ID}
    journal = FileJournal.create(state_dir, destination, OpenSpans())
    record = InvocationRecord("id-a", "a", "a", started=5.0, deadline=9.0, reserve=0.5)
    verbatim = b'{"id" : "1.0",\t"dataset_id":"d", "x":1e2}'
    start, end = start_row("a"), end_row("a", output="ä\u2028")
    journal.begin(record, [NewRow.of(start)])
    journal.append([NewRow(json.loads(verbatim), verbatim, Flag.VERBATIM)])
    last = journal.append([NewRow.of(end, Flag.VERBATIM)])
    header = read_header(journal.path)
    assert {key: header[key] for key in destination} == destination
    assert sorted(header.keys() - destination.keys()) == ["created", "format", "pid"]
    found = list(read_entries(journal.path))
    assert [(entry.kind, entry.flags, entry.payload) for entry in found] == [
        (Kind.INVOCATION, Flag.NONE, dump(record.to_row())),
        (Kind.ROW, Flag.NONE, dump(start)),
        (Kind.ROW, Flag.VERBATIM, verbatim),
        (Kind.ROW, Flag.VERBATIM, dump(end)),
    ]
    assert found[-1].end == last == Position(1, (journal.path / segment_name(1)).stat().st_size)
    assert InvocationRecord.from_row(json.loads(found[0].payload)) == record
    journal.abandon()


def test_reading_keeps_to_its_range(state_dir: StateDir) -> None:
    """Between two positions exactly the entries between them are read, across segments."""
    small = StateDir(state_dir.directory, 65536)
    journal = FileJournal.create(small, {"backend": "memory"}, OpenSpans())
    ends = [journal.append([NewRow.of({**start_row(f"s{count}"), "input": "x" * 1500})]) for count in range(12)]
    whole = list(read_entries(journal.path))
    assert [entry.end for entry in whole] == ends
    assert len({end.segment for end in ends}) > 3
    marks = [START, *ends]
    for low, after in enumerate(marks):
        for high, upto in enumerate(marks):
            assert list(read_entries(journal.path, after, upto)) == whole[low:high]
    journal.abandon()


def test_a_segment_without_magic_is_skipped(state_dir: StateDir) -> None:
    """A segment that is cut within its first bytes, or is another file, counts as empty; the segments around it are
    read."""
    journal = FileJournal.create(StateDir(state_dir.directory, 65536), {"backend": "memory"}, OpenSpans())
    for count in range(6):
        journal.append([NewRow.of({**start_row(f"s{count}"), "input": "x" * 1500})])
    whole = list(read_entries(journal.path))
    second = journal.path / segment_name(2)
    content = second.read_bytes()
    others = [entry for entry in whole if entry.end.segment != 2]
    assert 0 < len(others) < len(whole)
    for damaged in [content[:cut] for cut in range(len(MAGIC) + 1)] + [b"X" + content[1:]]:
        second.write_bytes(damaged)
        assert list(read_entries(journal.path)) == others
    second.unlink()
    assert list(read_entries(journal.path)) == others
    journal.abandon()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"format": 2}', b'{"format": "1"}', b"\xff\xfe", b'{"backend": "memory"}']
)
def test_a_damaged_header_says_so(state_dir: StateDir, content: bytes) -> None:
    """A header that is torn or from another release gives a clear error, and its journal is left as it is."""
    journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
    journal.append([NewRow.of(start_row("a"))])
    journal.abandon()
    (journal.path / "header").write_bytes(content)
    with pytest.raises(JournalDamaged, match=journal.path.name):
        read_header(journal.path)
    with pytest.raises(JournalDamaged):
        FileJournal.adopt(journal.path, state_dir)
    assert sorted(file.name for file in journal.path.iterdir()) == ["00000001.seg", "header", "lock"]
