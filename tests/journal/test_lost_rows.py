"""Another program changes the files of a live journal: lost rows are never reported as delivered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import braintrust
import pytest
from fixtures import MakeGuard
from support import journals, start_row

from trace_guard import Delivery
from trace_guard.delivery.handover import MEMORY
from trace_guard.journal.journal import FileJournal
from trace_guard.testing import BraintrustServer

ROWS = 50


def segment_of(journal: Path) -> Path:
    return sorted(journal.glob("*.seg"))[-1]


def removed(journal: Path) -> None:
    segment_of(journal).unlink()


def emptied(journal: Path) -> None:
    os.truncate(segment_of(journal), 0)


def cut(journal: Path) -> None:
    os.truncate(segment_of(journal), segment_of(journal).stat().st_size // 2)


def cut_and_extended(journal: Path) -> None:
    size = segment_of(journal).stat().st_size
    cut(journal)
    with segment_of(journal).open("ab") as file:
        file.write(b"x" * size)


def overwritten(journal: Path) -> None:
    with segment_of(journal).open("r+b") as file:
        file.seek(100)
        file.write(b"\0" * 1000)


def replaced(journal: Path) -> None:
    other = journal.parent.parent / "other"
    other.write_bytes(segment_of(journal).read_bytes()[:200])
    os.replace(other, segment_of(journal))


def moved(journal: Path) -> None:
    segment_of(journal).rename(journal / "moved")


def extended(journal: Path) -> None:
    with segment_of(journal).open("ab") as file:
        file.write(b"not of ours")


def without_header(journal: Path) -> None:
    (journal / "header").unlink()


def renamed(journal: Path) -> None:
    journal.rename(journal.with_name("renamed"))


def all_removed(journal: Path) -> None:
    shutil.rmtree(journal)


# Whether rows are lost: the open file still leads to a segment whose name is gone.
CHANGES: dict[str, tuple[Callable[[Path], None], bool]] = {
    "removed": (removed, False), "emptied": (emptied, True), "cut": (cut, True),
    "cut and extended": (cut_and_extended, True), "overwritten": (overwritten, True), "replaced": (replaced, False),
    "moved": (moved, False), "extended": (extended, False), "without header": (without_header, False),
    "renamed": (renamed, False), "all removed": (all_removed, False),
}


@pytest.fixture(params=["in memory", "on disk"])
def is_in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the courier has the rows in memory, or reads them from disk as there are too many."""
    if request.param == "on disk":
        monkeypatch.setattr(MEMORY, "limit", 0)
    return bool(request.param == "in memory")


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "ends"])
def test_lost_rows_are_not_called_delivered(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, caplog: pytest.LogCaptureFixture, name: str,
    goes_on: bool, is_in_memory: bool,
) -> None:
    """Whatever happens to the live segment, the verdict is DELIVERED only if every row arrived, else LOST with a
    warning; later rows go to a new journal, and the trace has no open span. Rows in memory are not lost."""
    change, loses = CHANGES[name]
    loses = loses and not is_in_memory
    guard = make_guard(linger=60)
    with guard.invocation("root") as invocation:
        journal = guard.pipeline.journal()
        for number in range(ROWS):
            with invocation.span.start_span(f"span-{number}"):
                pass
        braintrust.flush()
        change(journals(directory)[0])
        if goes_on:
            with invocation.span.start_span("later"):
                pass
            braintrust.flush()
    assert isinstance(journal, FileJournal)
    assert guard.pipeline.journal() is not journal or CHANGES[name][1]
    names = {row.get("span_attributes", {}).get("name") for row in server.span_rows()}
    whole = {"root", *(f"span-{number}" for number in range(ROWS)), *(["later"] if goes_on else [])}
    assert invocation.delivery is not None
    assert (invocation.delivery.verdict is Delivery.DELIVERED) == (names >= whole)
    assert (invocation.delivery.verdict is Delivery.LOST) == loses, invocation.delivery
    assert (journal.lost is not None) == loses
    warnings = [record.getMessage() for record in caplog.records if "are lost" in record.getMessage()]
    assert len(warnings) == (1 if loses else 0)
    # An end that was only on disk, in the part that was cut off, is lost, and its span stays open at most.
    assert server.open_spans() == [] or (loses and "cut" in name)
    with guard.invocation("next") as following:
        pass
    assert following.delivery is not None
    assert following.delivery.verdict is Delivery.DELIVERED
    # Of rows that are delivered from memory nobody notices that they are overwritten.
    assert guard.pipeline.journal() is not journal or (is_in_memory and name == "overwritten")
    assert guard.pipeline.journal().durable


def test_rows_that_come_during_a_write_that_fails_are_kept(
    server: BraintrustServer, directory: Path, make_guard: MakeGuard
) -> None:
    """A row that a finalizer or signal handler logs while its thread writes is delivered, even if that write fails."""
    guard = make_guard()
    journal = guard.pipeline.journal()
    assert isinstance(journal, FileJournal)

    class Finalizer:
        """Follows the journal, whose write is not over yet."""

        def written(self, *_: object) -> None:
            shutil.rmtree(journal.path)
            guard.pipeline.append([start_row("inner")])

    journal.follow(Finalizer())
    guard.pipeline.append([start_row("outer")])
    assert guard.flush(10)
    assert {row["id"] for row in server.rows()} == {"id-outer", "id-inner"}
