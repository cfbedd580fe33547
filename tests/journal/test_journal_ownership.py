"""A journal belongs to one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_mock import MockerFixture
from support import (
    Program,
    delivered,
    end_row,
    environment,
    journals,
    pending_in,
    rows_in,
    settings_for,
    start_row,
    until,
)

from trace_guard import recover
from trace_guard.journal.borrowed import BorrowedJournal
from trace_guard.journal.directory import JOURNALS, StateDir
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.locks import FileLock
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.reader import read_entries
from trace_guard.journal.row_facts import NewRow
from trace_guard.runtime.status import read_status
from trace_guard.testing import BraintrustServer

HOLDER = """
    from trace_guard import Guard
    guard = Guard(linger=60)
    open = guard.invocation("held").open()
    say(guard.pipeline.journal().path.name)
    listen()
"""


def test_a_live_journal_is_not_adopted(
    server: BraintrustServer, directory: Path, state_dir: StateDir
) -> None:
    """A journal can't be adopted while its process lives, even stopped; after a kill exactly one process adopts it."""
    with Program(HOLDER, environment(server, directory)) as program:
        path = directory / JOURNALS / program.hears()
        assert FileJournal.adopt(path, state_dir) is None
        program.stop()
        assert FileJournal.adopt(path, state_dir) is None
        program.kill()
    adopted = FileJournal.adopt(path, state_dir)
    assert adopted is not None
    assert [span.name for span in adopted.spans.all_open()] == ["held"]
    assert FileJournal.adopt(path, state_dir) is None
    adopted.abandon()


def test_a_removed_file_is_not_locked(tmp_path: Path) -> None:
    """A process that waits for a lock whose file is removed does not get it."""
    path = tmp_path / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.close(descriptor)
    inode = path.stat().st_ino
    lock = FileLock(path)
    moved = tmp_path / "moved"
    path.rename(moved)
    assert lock.acquire()
    assert path.stat().st_ino != inode
    lock.release()


def is_held(path: Path) -> bool:
    lock = FileLock(path)
    acquired = lock.acquire()
    lock.release()
    return not acquired


FORKING = """
    import os, signal, time
    from trace_guard import Deadline, Guard
    import braintrust
    guard = Guard(linger=60)
    outer = guard.invocation("parent's").open()
    mine = guard.pipeline.journal().path
    child = os.fork()
    if child == 0:
        with guard.invocation("child's") as invocation:
            braintrust.start_span("left open")
        say("child", invocation.delivery.verdict.value, guard.pipeline.journal().path != mine)
        listen()
        os._exit(0)
    say("parent", mine.name)
    with braintrust.start_span("after the fork"):
        pass
    if os.environ.get("PARENT_ENDS"):
        outer.close()
        guard.close()
        say("parent closed")
    os.waitpid(child, 0)
"""


def test_a_forked_child_makes_a_journal_of_its_own(
    server: BraintrustServer, directory: Path, state_dir: StateDir
) -> None:
    """A forked child writes and delivers its own journal, while the parent's stays locked by the parent."""
    with Program(FORKING, environment(server, directory)) as program:
        said = sorted([program.hears(), program.hears()])
        assert said[0] == "child delivered True"
        parents = said[1].split()[1]
        assert FileJournal.adopt(directory / JOURNALS / parents, state_dir) is None
        assert [row["span_attributes"]["name"] for row in server.span_rows()] == ["child's", "left open"]
        assert server.open_spans() == []
        # Killed while the child lives on: the child's copy of the lock must not keep the parent's journal locked.
        os.kill(program.pid, signal.SIGKILL)
        until(lambda: not is_held(directory / JOURNALS / parents / "lock"), what="the end of the parent's lock")
        found = recover(settings_for(server, directory), timeout=10)
        assert (found.journals, found.closed_spans, found.error) == (1, 1, None)
    names = {row["span_attributes"]["name"] for row in server.span_rows()}
    assert {"parent's", "child's"} <= names
    assert server.open_spans() == []


def test_the_parent_of_a_fork_goes_on(server: BraintrustServer, directory: Path) -> None:
    """After a fork the parent delivers its rows from its own journal, which is removed at its end."""
    with Program(FORKING, environment(server, directory, PARENT_ENDS="1")) as program:
        heard = {program.hears() for _ in range(3)}
        assert "parent closed" in heard
        program.tell()
        program.ends_well()
    assert {row["span_attributes"]["name"] for row in server.span_rows()} == {
        "parent's", "after the fork", "child's", "left open"
    }
    assert server.open_spans() == []
    # The child's is left: it went by os._exit, and all of it was delivered.
    assert recover(settings_for(server, directory)).pending_rows == 0
    assert journals(directory) == []


def test_a_fork_in_the_middle_of_work_harms_neither(server: BraintrustServer, directory: Path) -> None:
    """A process that forks repeatedly while its threads write and deliver ends well, and so do its children."""
    code = """
        import os, threading
        from support import end_row, start_row
        from trace_guard import Deadline, Guard
        from trace_guard.journal.invocation_record import InvocationRecord
        runtime = Guard(linger=0).pipeline
        def one(name):
            record = InvocationRecord(f"id-{name}", name, name, started=1.0)
            runtime.begin(record, start_row(name))
            runtime.spans.finish(record.root)
            journal, end = runtime.append([end_row(name)])
            return runtime.courier.deliver(journal, end, Deadline.after(10)).verdict.value
        stop, said = threading.Event(), set()
        def work(n):
            count = 0
            while not stop.is_set():
                count += 1
                said.add(one(f"thread-{n}-{count}"))
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        ends = []
        for n in range(30):
            child = os.fork()
            if child == 0:
                os._exit(0 if one(f"child-{n}") == "delivered" else 1)
            ends.append(os.waitpid(child, 0)[1])
        stop.set()
        for thread in threads:
            thread.join()
        say(sum(ends), *said)
    """
    with Program(code, environment(server, directory)) as program:
        program.expects(0, "delivered", seconds=60)
        program.ends_well()
    assert {f"id-child-{n}" for n in range(30)} <= {row["id"] for row in server.span_rows()}
    assert server.open_spans() == []


def test_journals_for_two_keys_never_mix(directory: Path) -> None:
    """Two keys that share a directory each deliver their own orphans only, and no key is on disk."""
    with BraintrustServer(api_keys=["first-secret"]) as first, BraintrustServer(api_keys=["second-secret"]) as second:
        for server, key in ((first, "first-secret"), (second, "second-secret")):
            with Program(HOLDER, environment(server, directory, BRAINTRUST_API_KEY=key)) as program:
                program.hears()
        written = [file.read_bytes() for file in directory.rglob("*") if file.is_file()]
        assert written
        assert not [content for content in written if b"-secret" in content]
        for url, key in ((first.url, "second-secret"), (second.url, "first-secret"), (first.url, "other")):
            settings = settings_for(None, directory, api_url=url, app_url=url, api_key=key)
            assert recover(settings, timeout=5).journals == 0
        assert [len(first.rows()), len(second.rows()), len(journals(directory))] == [0, 0, 2]
        for server, key, left in ((first, "first-secret", 1), (second, "second-secret", 0)):
            found = recover(settings_for(server, directory, api_key=key), timeout=10)
            assert (found.journals, found.closed_spans, found.pending_rows) == (1, 1, 0)
            assert len(journals(directory)) == left
            assert [len(server.span_rows()), len(server.open_spans())] == [1, 0]


def test_an_interrupted_write_loses_no_whole_row(server: BraintrustServer, directory: Path) -> None:
    """An exception from a signal handler during a write loses no whole row, hides no later one, and leaves every span
    on disk known."""
    code = """
        import signal
        from trace_guard.journal.directory import prepare
        from trace_guard.journal.row_facts import NewRow
        from trace_guard.journal.journal import FileJournal
        from trace_guard.journal.open_spans import OpenSpans
        from support import start_row
        from pathlib import Path
        class Interrupted(BaseException):
            pass
        writing = False
        def interrupt(*_):
            global writing
            if writing:
                writing = False
                raise Interrupted
        signal.signal(signal.SIGALRM, interrupt)
        state_dir = prepare(Path(os.environ["TRACE_GUARD_DIR"]), 1 << 26)
        journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
        whole, n, interrupted = [], 0, 0
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        while interrupted < 400:
            n += 1
            try:
                writing = True
                journal.append([NewRow.of(start_row(f"s{n}"))])
                writing = False
                whole.append(f"id-s{n}")
            except Interrupted:
                interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        journal.append([NewRow.of(start_row("last"))])
        whole.append("id-last")
        known = {span.row_id for span in journal.spans.all_open()}
        say(len(set(whole) - known))
        (path := Path(os.environ["TRACE_GUARD_DIR"]) / "known").write_text("\\n".join(sorted(known)))
        say(journal.path.name, *journal.end)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with Program(code, environment(None, directory)) as program:
        program.expects(0, seconds=60)
        _, segment, offset = program.hears().split()
        program.wait()
    (path,) = journals(directory)
    found = [row["id"] for row in pending_in(directory)]
    assert len(found) == len(set(found))
    assert set(found) == set((directory / "known").read_text().split("\n"))
    assert (path / f"{int(segment):08d}.seg").stat().st_size == int(offset)


def test_other_journals_may_appear_and_vanish(state_dir: StateDir, mocker: MockerFixture) -> None:
    """Every write succeeds while other journals are made and removed."""
    mocker.patch("trace_guard.journal.size_cap.RECOUNT_BYTES", 1)
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            other = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
            end = other.append([NewRow.of(start_row("b")), NewRow.of(end_row("b"))])
            assert other.take_delivery()
            other.acknowledge(end)
            other.close()
            assert not other.path.exists()

    journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(come_and_go) for _ in range(2)]
        try:
            for count in range(1500):
                journal.append([NewRow.of(start_row(f"s{count}"))])
        finally:
            done.set()
        for other in others:
            other.result()
    assert len(rows_in(read_entries(journal.path))) == 1500
    journal.abandon()


@pytest.mark.parametrize("within", [False, True], ids=["before", "within"])
def test_a_borrowed_journal_may_be_removed_at_any_moment(
    state_dir: StateDir, mocker: MockerFixture, within: bool
) -> None:
    """If the owner removes its journal before or while another process takes over delivery, that process finds nothing
    to do."""
    journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
    end = journal.append([NewRow.of(start_row("a")), NewRow.of(end_row("a"))])
    borrowed = BorrowedJournal(journal.path)
    assert (borrowed.acked < end, borrowed.end) == (True, end)

    def finish() -> None:
        journal.acknowledge(end)
        journal.close()

    acquire = FileLock.acquire

    def acquire_too_late(lock: FileLock) -> bool:
        taken = acquire(lock)
        finish()
        return taken

    if within:
        mocker.patch.object(FileLock, "acquire", acquire_too_late)
    else:
        finish()
    assert borrowed.take_delivery()
    assert (borrowed.acked, list(borrowed.read(borrowed.acked))) == (end, [])
    borrowed.leave_delivery()
    assert not journal.path.exists()


def test_a_removed_journal_can_be_acknowledged(state_dir: StateDir) -> None:
    """If a borrowed journal is removed while its rows are being sent, acknowledging them raises nothing."""
    journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
    end = journal.append([NewRow.of(start_row("a"))])
    borrowed = BorrowedJournal(journal.path)
    assert borrowed.take_delivery()
    shutil.rmtree(journal.path)
    borrowed.acknowledge(end)
    assert borrowed.acked == end
    borrowed.close()
    journal.abandon()


def test_a_finished_journal_is_removed_and_others_are_kept(state_dir: StateDir) -> None:
    """Closing removes a journal that is delivered and has no open span, and keeps any other for recovery."""
    for rows, acknowledge, kept in (
        ([start_row("a"), end_row("a")], True, False),
        ([start_row("a"), end_row("a")], False, True),
        ([start_row("a")], True, True),
        ([], False, False),
    ):
        journal = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans())
        end = journal.append([NewRow.of(row) for row in rows])
        if acknowledge:
            assert journal.take_delivery()
            journal.acknowledge(end)
        journal.close()
        assert journal.path.exists() is kept
        if kept:
            adopted = FileJournal.adopt(journal.path, state_dir)
            assert adopted is not None
            adopted.handed_over = True
            adopted.acknowledge(adopted.end)
            adopted.close()
    assert list((state_dir.directory / JOURNALS).iterdir()) == []


def test_status_tells_live_journals_from_orphans(server: BraintrustServer, directory: Path) -> None:
    """Status calls a journal live while its process runs and orphan afterwards, without taking a lock."""
    settings = settings_for(server, directory)
    with Program(HOLDER, environment(server, directory)) as program:
        program.hears()
        assert [(one.state, one.ours, one.open_spans, one.pid) for one in read_status(settings).journals] == [
            ("live", True, 1, program.pid)
        ]
        program.kill()
    (one,) = read_status(settings).journals
    assert (one.state, one.ours, one.open_spans, one.pending_rows) == ("orphan", True, 1, 1)
    assert recover(settings, timeout=10).error is None
    assert delivered(server)
    assert read_status(settings).journals == ()


def test_half_made_journals_are_removed(server: BraintrustServer, directory: Path) -> None:
    """Hidden directories of processes that died while they made or removed a journal are removed by a later
    recovery."""
    settings = settings_for(server, directory)
    recover(settings)
    for name in (".new-1-2-3", ".gone-1-2-3"):
        left = directory / JOURNALS / name
        left.mkdir()
        (left / "header").write_text(json.dumps({}))
        recover(settings)
        assert left.exists()
        os.utime(left, (0, 0))
        recover(settings)
        assert not left.exists()
