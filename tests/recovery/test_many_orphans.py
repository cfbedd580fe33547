"""Thousands of journals of dead processes: recovered with few descriptors and in little memory, and never in the way
of a process that starts beside them. ``--journals`` says how many; ``make recovery-scale`` has 10,000."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Program, environment, journals, settings_for, start_row, until

from trace_guard import recover
from trace_guard.backends.memory import MemoryBackend
from trace_guard.deadline import Deadline
from trace_guard.delivery.courier import Courier
from trace_guard.delivery.dead_letters import DeadLetters
from trace_guard.journal import files
from trace_guard.journal.directory import JOURNALS, StateDir
from trace_guard.journal.format import MAGIC, Kind, encode_entry
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.orphans import MOST_ADOPTED, OrphanSearch
from trace_guard.journal.row_facts import NewRow
from trace_guard.journal.spooled import SpooledAttachment
from trace_guard.rows import Row
from trace_guard.runtime.status import read_status
from trace_guard.settings import Settings
from trace_guard.testing import BraintrustServer, Fault

SPANS = 10
LIMITED = """
    import json, resource
    from support import peak_memory
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    from trace_guard import recover
    say("ready")
    listen()
    began = time.monotonic()
    done = recover(timeout=float(os.environ.get("SECONDS", "600")))
    say(json.dumps({**done.to_json(), "seconds": time.monotonic() - began,
                    "rss": peak_memory()}))
"""
STATUS = """
    import contextlib, io, json, resource
    from support import peak_memory
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    from trace_guard.cli import main
    began = time.monotonic()
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main(["status"])
    say(json.dumps({"lines": len(text.getvalue().splitlines()), "seconds": time.monotonic() - began,
                    "rss": peak_memory()}))
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="resource limits and memory as Linux has them")


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("journals"))


def leave(state_dir: StateDir, settings: Settings, count: int, *, spans: int = SPANS, first: int = 0) -> None:
    """Write journals as killed processes leave them, each with a number of open spans, the first of which is a root."""
    for number in range(first, first + count):
        path = state_dir.directory / JOURNALS / f"17000{number:08d}-{number}-00000000"
        path.mkdir(mode=0o700)
        header = {"format": 1, "created": 1.7e9, "pid": number, **settings.destination}
        (path / "header").write_text(json.dumps(header))
        (path / "lock").touch(mode=0o600)
        os.utime(path / "lock", (1.7e9, 1.7e9))
        root = f"root-{number}"
        record = {"root": f"id-{root}", "span_id": root, "root_span_id": root, "started": 1000.0}
        rows = [start_row(root)]
        rows += [start_row(f"child-{number}-{n}", parent=root, root=root) for n in range(1, spans)]
        entries = [encode_entry(Kind.INVOCATION, json.dumps(record).encode(), at=1.7e9)]
        entries += [encode_entry(Kind.ROW, json.dumps(row).encode(), at=1.7e9) for row in rows]
        (path / "00000001.seg").write_bytes(MAGIC + b"".join(entries))


def run(code: str, env: dict[str, str], seconds: float = 600.0) -> dict[str, Any]:
    with Program(code, env) as program:
        if code is LIMITED:
            program.expects("ready")
            program.tell()
        found: dict[str, Any] = json.loads(program.hears(seconds))
        program.ends_well()
    return found


def spans_of(server: BraintrustServer) -> dict[str, Row]:
    return {row["id"]: row for row in server.span_rows()}


# Recovery


@linux
def test_a_recovery_has_few_descriptors_and_little_memory(
    server: BraintrustServer, directory: Path, state_dir: StateDir, count: int
) -> None:
    """Every open span of thousands of journals is closed with 256 descriptors, in memory that doesn't grow with their
    number."""
    settings, env = settings_for(server, directory), environment(server, directory)
    memory = {}
    for journals_here in (count // 10, count):
        leave(state_dir, settings, journals_here)
        server.clear()
        done = run(LIMITED, env)
        print(f"\nrecovered {journals_here} journals, {SPANS * journals_here} spans: {done}")
        assert (done["journals"], done["closed_spans"], done["error"]) == (
            journals_here, SPANS * journals_here, None
        )
        assert done["delivered_rows"] == 2 * SPANS * journals_here
        assert (len(server.span_rows()), server.open_spans()) == (SPANS * journals_here, [])
        assert journals(directory) == []
        memory[journals_here] = done["rss"]
    assert memory[count] <= 1.25 * memory[count // 10], memory


@linux
@pytest.mark.parametrize("interruption", ["SIGINT", "SIGKILL", "timeout"])
def test_a_recovery_that_is_interrupted_can_be_repeated(
    server: BraintrustServer, directory: Path, state_dir: StateDir, count: int, interruption: str
) -> None:
    """An interrupted recovery can be repeated with the same result, and no closed span changes again."""
    settings, env = settings_for(server, directory), environment(server, directory)
    count = min(count // 2, 1000)
    leave(state_dir, settings, count, spans=2)
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    assert recover(settings_for(server, copy), timeout=60).closed_spans == 2 * count
    expected = spans_of(server)
    server.clear()
    chance, closed = random.Random(1), {}
    for _ in range(4):
        share = len(journals(directory))
        with Program(LIMITED, {**env, "SECONDS": "0.15" if interruption == "timeout" else "60"}) as program:
            program.expects("ready")
            program.tell()
            if interruption == "timeout":
                done = json.loads(program.hears())
                assert (done["error"] is None) == (not journals(directory)), done
            else:
                until(lambda share=share: not share or len(journals(directory)) < share)
                time.sleep(chance.uniform(0.0, 0.02))
                program.signal(getattr(signal, interruption))
                program.wait()
        now = spans_of(server)
        assert {row_id: now.get(row_id) for row_id in closed} == closed
        closed = {row_id: row for row_id, row in now.items() if "end" in row["metrics"]}
    while recover(settings, timeout=60).error:
        pass
    assert spans_of(server) == expected
    assert journals(directory) == []


def test_a_recovery_that_can_t_deliver_counts_what_it_did_not_reach(directory: Path, state_dir: StateDir) -> None:
    """With a backend that is down, recovery counts all rows that are left, and the journals that it did not open."""
    count = 3 * MOST_ADOPTED
    settings = Settings.from_env(environment(None, directory, BRAINTRUST_API_URL="http://127.0.0.1:9"))
    leave(state_dir, settings, count, spans=1)
    done = recover(settings, timeout=1.0)
    assert (done.journals, done.closed_spans, done.delivered_rows) == (MOST_ADOPTED, MOST_ADOPTED, 0)
    assert done.pending_rows == count + MOST_ADOPTED
    assert done.error is not None
    assert done.error.endswith(f"; {count - MOST_ADOPTED} more journals were not reached")
    assert len(journals(directory)) == count


def test_attachments_that_can_t_be_uploaded_hold_up_no_rows(
    server: BraintrustServer, directory: Path, state_dir: StateDir
) -> None:
    """Orphans whose attachments the object store refuses don't delay the rows of others."""
    settings = settings_for(server, directory)
    leave(state_dir, settings, 2 * MOST_ADOPTED, spans=1)
    for path in journals(directory)[:MOST_ADOPTED]:
        journal = FileJournal.adopt(path, state_dir)
        assert journal is not None
        one = SpooledAttachment(f"key-{path.name}", "a.txt", "text/plain", "", f"root-{path.name}")
        spool = journal.make_room_for_attachments()
        spool.begin(one)
        assert spool.store(one, b"content")
        journal.abandon()
    server.fail("/attachment", Fault.status(500))
    done = recover(settings, timeout=6.0)
    assert (len(server.span_rows()), server.open_spans()) == (2 * MOST_ADOPTED, [])
    assert done.pending_rows == 0
    assert len(journals(directory)) == MOST_ADOPTED


@linux
def test_a_search_that_runs_out_of_descriptors_gives_half_of_them_back(
    directory: Path, state_dir: StateDir
) -> None:
    """A search that runs out of descriptors gives up half of its journals for later, and reports no fault."""
    settings = settings_for(None, directory)
    leave(state_dir, settings, 20, spans=1)
    search = OrphanSearch(state_dir, settings.destination)
    with all_but(9):
        found = search.adopt(MOST_ADOPTED, Deadline.never())
        assert 0 < len(found) < 9
        assert len(search.unreached) == 20 - len(found)
        os.close(os.open(os.devnull, os.O_RDONLY))
    found += search.adopt(MOST_ADOPTED, Deadline.never())
    assert len({orphan.journal.path for orphan in found}) == len(found) == 20
    for orphan in found:
        orphan.journal.abandon()


class all_but:
    """Leave the process only this many descriptors within the block."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __enter__(self) -> None:
        import resource

        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = [int(name) for name in os.listdir("/proc/self/fd")]
        free = [number for number in range(max(used) + self._left + 2) if number not in used]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[self._left], self._limits[1]))

    def __exit__(self, *_: object) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


# The journals of a process that starts beside them


STARTER = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    from trace_guard import Guard
    began = time.monotonic()
    guard = Guard().start()
    say(time.monotonic() - began)
    with guard.invocation("at work"):
        opened = [open(os.devnull) for _ in range(100)]
        say(len(os.listdir("/proc/self/fd")) - len(opened))
        listen()
        say(len(os.listdir("/proc/self/fd")) - len(opened))
    began = time.monotonic()
    guard.close(timeout=float(os.environ["EXIT_SECONDS"]))
    say(time.monotonic() - began)
"""


@linux
@pytest.mark.parametrize("is_down", [True, False])
def test_a_start_beside_thousands_takes_few_descriptors(
    server: BraintrustServer, directory: Path, state_dir: StateDir, count: int, is_down: bool
) -> None:
    """A process that starts beside thousands of orphans is not delayed, keeps its descriptors, and recovers them in
    rounds while it runs."""
    settings = settings_for(server, directory)
    env = environment(server, directory, TRACE_GUARD_LINGER="0.1", EXIT_SECONDS="1" if is_down else "20")
    leave(state_dir, settings, count, spans=2)
    if is_down:
        server.fail("/logs3", Fault.status(500))
    with Program(STARTER, env) as program:
        assert float(program.hears()) < 1.5  # the bound is 0.5 s; the rest is for a busy machine
        assert int(program.hears()) < 3 * MOST_ADOPTED + 20
        if not is_down:
            # Itself among them.
            until(lambda: len(journals(directory)) <= count - 3 * MOST_ADOPTED + 1, what="the third round")
        program.tell()
        assert int(program.hears()) < 3 * MOST_ADOPTED + 20
        exit_seconds = float(program.hears(60))
        program.ends_well()
    if is_down:
        assert len(journals(directory)) == count + 1
    else:
        assert exit_seconds < 15
        assert len([row for row in server.span_rows() if row["span_id"].startswith("root-")]) >= 3 * MOST_ADOPTED


def test_recent_orphans_are_recovered_first(server: BraintrustServer, directory: Path, state_dir: StateDir) -> None:
    """A process recovers its own children at exit before older orphans, however many there are."""
    settings, env = settings_for(server, directory), environment(server, directory, CHILD=CHILD)
    leave(state_dir, settings, 20 * MOST_ADOPTED, spans=1)
    with Program(PARENT, env) as program:
        program.expects("at work")
        program.ends_well()
    assert "of the child" in {row["span_attributes"]["name"] for row in server.span_rows()}
    assert server.open_spans() == []


PARENT = """
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", os.environ["CHILD"]], stdout=subprocess.PIPE)
    from trace_guard import Guard
    guard = Guard(linger=60)
    with guard.invocation("of the parent"):
        say(child.stdout.readline().decode().strip())
        child.kill()
        child.wait()
    guard.close(timeout=10)
"""
CHILD = """
import time
from trace_guard import Guard
with Guard(linger=60).invocation("of the child"):
    print("at work", flush=True)
    time.sleep(60)
"""


# What other journals cost


def test_other_journals_are_not_counted_one_by_one(
    directory: Path, state_dir: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write beside thousands of journals does not wait for all of them to be counted, and their size is estimated."""
    settings = settings_for(None, directory)
    leave(state_dir, settings, 1000, spans=1)
    looked_at = []
    scandir = os.scandir

    def counted(path: Any = ".") -> Any:
        looked_at.append(path)
        return scandir(path)

    monkeypatch.setattr(files.os, "scandir", counted)
    journal = FileJournal.create(state_dir, settings.destination, OpenSpans())
    journal.append([NewRow.of(start_row("a"))])
    assert len(looked_at) <= 300
    journal.close()
    monkeypatch.undo()
    size = sum(path.stat().st_size for path in (directory / JOURNALS).glob("17*/*.seg"))
    estimate = files.bytes_of_journals(directory / JOURNALS, but=journal.path.name)
    assert estimate == pytest.approx(size, rel=0.1)


def test_one_large_journal_does_not_stand_for_the_others(directory: Path, state_dir: StateDir) -> None:
    """The estimate counts a large journal once."""
    leave(state_dir, settings_for(None, directory), 1000, spans=1)
    names = os.listdir(directory / JOURNALS)
    (directory / JOURNALS / names[0] / "00000002.seg").write_bytes(bytes(8 << 20))
    assert 8 << 20 <= files.bytes_of_journals(directory / JOURNALS, but="") < 10 << 20


def test_dead_letters_are_not_counted_for_each(directory: Path, state_dir: StateDir) -> None:
    """Refused rows are kept up to the limit without counting every file each time."""
    letters = DeadLetters(directory, 100_000)
    (directory / "dead-letters").mkdir(mode=0o700)
    for number in range(100):
        (directory / "dead-letters" / f"20200101-{number}.seg").write_bytes(MAGIC)
    sizes = []
    for number in range(400):
        letters.keep(json.dumps({"id": number, "input": "x" * 1000}).encode(), 400, "no")
        sizes.append(sum(path.stat().st_size for path in (directory / "dead-letters").iterdir()))
    assert 95_000 < sizes[-1] < 105_000


@linux
def test_status_stays_small(server: BraintrustServer, directory: Path, state_dir: StateDir, count: int) -> None:
    """``status`` needs few descriptors, little memory and short output beside thousands of journals."""
    settings, env = settings_for(server, directory), environment(server, directory)
    found = {}
    for already, here in ((0, count // 10), (count // 10, count)):
        leave(state_dir, settings, here - already, first=already)
        found[here] = run(STATUS, env)
        print(f"\nstatus of {here} journals: {found[here]}")
    assert found[count]["lines"] <= 70
    assert found[count]["rss"] <= 1.5 * found[count // 10]["rss"]
    assert found[count]["seconds"] < 2 + count / 500
    status = read_status(settings)
    assert (len(status.journals), sum(one.open_spans for one in status.journals)) == (count, SPANS * count)


@pytest.fixture
def courier(state_dir: StateDir) -> Iterator[Courier]:
    courier = Courier(MemoryBackend(), DeadLetters(state_dir.directory, 1 << 20), linger=60.0)
    yield courier
    courier.close()


def test_a_released_journal_can_be_adopted(
    directory: Path, state_dir: StateDir, courier: Courier
) -> None:
    """A courier that releases a journal closes its files, so that another process can adopt it."""
    settings = settings_for(None, directory)
    leave(state_dir, settings, 2, spans=1)
    one, two = OrphanSearch(state_dir, settings.destination).adopt(2, Deadline.never())
    for orphan in (one, two):
        courier.add(orphan.journal, first=orphan.closing, orphan=True)
    courier.let_go([one.journal])
    assert courier.orphans() == [two.journal]
    (again,) = OrphanSearch(state_dir, settings.destination).adopt(2, Deadline.never())
    assert again.journal.path == one.journal.path
    assert again.closing == []
    again.journal.abandon()
