from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trace_guard import BackendRefused, BackendUnavailable, Deadline, LocalStore

Row = dict[str, Any]

PROCESSES = 6
MERGES = 40


def row(span_id: str, *, root: str = "r", start: float = 10.0, **fields: Any) -> Row:
    return {
        "id": f"id-{span_id}", "span_id": span_id, "root_span_id": root, "span_parents": None, "project_id": "p",
        "log_id": "g", "metrics": {"start": start}, **fields,
    }


def send(store: LocalStore, *rows: Row, deadline: Deadline | None = None) -> None:
    store.send([json.dumps(one).encode() for one in rows], deadline or Deadline.after(10))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    made = LocalStore(tmp_path / "below" / "traces.db")
    yield made
    made.close()


# What is stored


def test_merges(store: LocalStore) -> None:
    """A merge keeps the fields of the stored row, and is stored without the flag."""
    send(store, row("a", metadata={"tenant": "acme"}))
    send(store, row("a", _is_merge=True, metrics={"end": 12.0}, metadata={"trace_guard": {"outcome": "ok"}}))
    assert store.all_rows() == [
        row("a", metrics={"start": 10.0, "end": 12.0}, metadata={"tenant": "acme", "trace_guard": {"outcome": "ok"}})
    ]


def test_sending_twice(store: LocalStore) -> None:
    """Rows that arrive twice or late change nothing."""
    start, end = row("a", _is_merge=True), row("a", _is_merge=True, metrics={"end": 12.0})
    send(store, start, end)
    once = store.all_rows()
    send(store, start, end)
    assert store.all_rows() == once


def test_replaces(store: LocalStore) -> None:
    """A row that is not a merge replaces the stored one."""
    send(store, row("a", input="first"))
    send(store, row("a", output="second"))
    assert store.all_rows() == [row("a", output="second")]


def test_deletes(store: LocalStore) -> None:
    """A delete removes the stored row."""
    send(store, row("a"), row("b"))
    send(store, row("a", _object_delete=True))
    assert store.all_rows() == [row("b")]


def test_row_without_an_id(store: LocalStore) -> None:
    """A row without an id is stored once, however often it is sent."""
    send(store, {"dataset_id": "d", "input": 1})
    send(store, {"dataset_id": "d", "input": 1})
    (only,) = store.all_rows()
    assert only == {"dataset_id": "d", "input": 1, "id": only["id"]}


@pytest.mark.parametrize("bad", [b"{", b"[1]", b"\xff"])
def test_refused(store: LocalStore, bad: bytes) -> None:
    """A batch with a row that is not a JSON object is refused as a whole."""
    with pytest.raises(BackendRefused) as refused:
        store.send([json.dumps(row("a")).encode(), bad], Deadline.after(10))
    assert (refused.value.status, store.all_rows()) == (400, [])


def test_half_a_surrogate(store: LocalStore) -> None:
    """Ids and texts with lone surrogates are stored and found again."""
    odd = row("a", root="\ud800", input="\udfff")
    send(store, odd)
    assert store.rows("\ud800") == [odd]


# What is found


def test_traces(store: LocalStore) -> None:
    """Traces are listed newest first, optionally limited and filtered by project."""
    for number in range(4):
        send(store, row(f"s{number}", root=f"r{number}", start=float(number), project_id=f"p{number % 2}"))
    assert [one.root_span_id for one in store.traces()] == ["r3", "r2", "r1", "r0"]
    assert [one.root_span_id for one in store.traces(limit=2)] == ["r3", "r2"]
    assert [one.root_span_id for one in store.traces(limit=None, project="p0")] == ["r2", "r0"]
    assert store.traces(limit=0) == []


def test_spans(store: LocalStore) -> None:
    """The spans of a trace are returned as a tree."""
    send(store, row("child", start=11.0, span_parents=["root"]), row("root"), row("other", root="elsewhere"))
    assert [(span.span_id, span.depth) for span in store.spans("r")] == [("root", 0), ("child", 1)]


def test_find_root(store: LocalStore) -> None:
    """A trace is found by a literal prefix of its root's id, and by the complete id alone."""
    ids = ("abc", "abc1", "abc2", "ab%", "b")
    send(store, *(row(f"s{root}", root=root) for root in ids), row("more", root="abc1"))
    assert sorted(store.find_root("ab")) == ["ab%", "abc", "abc1", "abc2"]
    assert store.find_root("abc") == ["abc"]
    assert store.find_root("abc1") == ["abc1"]
    assert store.find_root("ab%") == ["ab%"]
    assert (store.find_root("x"), store.find_root("B")) == ([], [])


def test_project_id(store: LocalStore) -> None:
    """A project's name is its id."""
    assert store.resolve_project("support-bot", Deadline.after(1)) == "support-bot"


# The file


def test_missing_file(store: LocalStore) -> None:
    """A missing store reads as empty, and reading does not create it."""
    assert store.traces() == []
    assert (store.spans("r"), store.rows("r"), store.all_rows(), store.find_root("")) == ([], [], [], [])
    assert not store.path.parent.exists()


def test_nothing_to_send(store: LocalStore) -> None:
    """Sending no rows creates no file."""
    store.send([], Deadline.after(1))
    assert not store.path.parent.exists()


def test_empty_file(store: LocalStore) -> None:
    """An empty file is a store without rows, and is writable."""
    store.path.parent.mkdir()
    store.path.touch()
    assert store.traces() == []
    send(store, row("a"))
    assert store.all_rows() == [row("a")]


def test_private(store: LocalStore) -> None:
    """Only its owner can read the store."""
    send(store, row("a"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert modes == dict.fromkeys(("traces.db", "traces.db-wal", "traces.db-shm"), 0o600)
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_removed_file(store: LocalStore) -> None:
    """A store whose file is removed while it is open starts again with the next row."""
    send(store, row("a"))
    for path in store.path.parent.iterdir():
        path.unlink()
    assert store.all_rows() == []
    send(store, row("b"))
    assert store.all_rows() == [row("b")]


def test_closed_store(store: LocalStore) -> None:
    """A closed store opens again when it is used."""
    send(store, row("a"))
    store.close()
    send(store, row("b"))
    assert store.all_rows() == [row("a"), row("b")]


def test_damaged_file(store: LocalStore) -> None:
    """A file that is not a database is left alone, and the error says to move it away."""
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    before = store.path.read_bytes()
    for use in (lambda: send(store, row("a")), store.traces):
        with pytest.raises(BackendUnavailable, match="move it away"):
            use()
    assert store.path.read_bytes() == before


def test_torn_file(store: LocalStore) -> None:
    """A database with missing pages raises a BackendError, whichever pages are missing."""
    send(store, *(row(f"s{number}", root=f"r{number}", input="x" * 2000) for number in range(20)))
    store.close()
    whole = store.path.read_bytes()
    for size in range(4096, len(whole), 4096):
        store.path.write_bytes(whole[:size])
        for use in (store.all_rows, lambda: send(store, row("new"))):
            # The remaining pages may also be sufficient.
            with contextlib.suppress(BackendUnavailable):
                use()
        store.close()
        for path in store.path.parent.iterdir():
            path.unlink()


def test_newer_version(store: LocalStore) -> None:
    """A store of a newer release is left alone, and the error says to upgrade."""
    send(store, row("a"))
    store.close()
    _execute(store.path, "PRAGMA user_version = 3")
    for use in (lambda: send(store, row("b")), store.traces):
        with pytest.raises(BackendUnavailable, match="upgrade trace-guard"):
            use()
    store.close()
    _execute(store.path, "PRAGMA user_version = 2")
    assert store.all_rows() == [row("a")]


def test_older_version(store: LocalStore) -> None:
    """A store of version 1 can be read as it is, and the first write brings it to the present version with all rows."""
    store.path.parent.mkdir(mode=0o700)
    store.path.touch(0o600)
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        connection.executescript(f"""
            CREATE TABLE rows (key TEXT PRIMARY KEY, root_span_id TEXT, start REAL, project TEXT, doc TEXT NOT NULL);
            CREATE INDEX traces ON rows (root_span_id, start, project);
            INSERT INTO rows VALUES ('["a"]', 'r', 10.0, 'p', '{json.dumps(row("a"))}');
            PRAGMA user_version = 1;
        """)
    assert store.all_rows() == [row("a")]
    send(store, row("b"))
    assert store.all_rows() == [row("a"), row("b")]
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert connection.execute("SELECT COUNT(*) FROM rows WHERE root_span_id IS NOT NULL").fetchone() == (2,)


def test_somebody_elses_database(store: LocalStore) -> None:
    """Another program's database is left alone."""
    store.path.parent.mkdir()
    _execute(store.path, "CREATE TABLE theirs (x)")
    for use in (lambda: send(store, row("b")), store.traces):
        with pytest.raises(BackendUnavailable, match="not a store of trace-guard"):
            use()


def test_directory_in_its_place(store: LocalStore) -> None:
    """A path that can't be a file raises a BackendError."""
    store.path.mkdir(parents=True)
    with pytest.raises(BackendUnavailable, match="TRACE_GUARD_DIR"):
        send(store, row("a"))


# Permissions don't apply to root, and tests often run as root in a container.
READ_ONLY = """
import json, os, sqlite3, sys
from trace_guard import BackendUnavailable, Deadline, LocalStore
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    LocalStore(sys.argv[1] + "/traces.db").send([b'{"id": "a", "span_id": "a"}'], Deadline.after(10))
except BackendUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize("exists", [True, False])
def test_read_only(exists: bool) -> None:
    """An unwritable store raises an error that says what to do, whether the file exists or not."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "traces.db")
        if exists:
            made = LocalStore(path)
            send(made, row("a"))
            made.close()
            path.chmod(0o444)
        Path(directory).chmod(0o555)
        said = _python(READ_ONLY, directory)
        Path(directory).chmod(0o755)
    assert "Make it and its directory writable" in said
    assert directory in said


# Several at once


WRITER = """
import json, sys
from trace_guard import Deadline, LocalStore
path, name, merges = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = LocalStore(path)
print("ready", flush=True)
sys.stdin.readline()
for number in range(merges):
    mine = f"{name}.{number}"
    shared = {"id": "shared", "span_id": "s", "root_span_id": "r", "_is_merge": True, "metadata": {mine: 1}}
    own = {"id": mine, "span_id": mine, "root_span_id": name, "_is_merge": True}
    store.send([json.dumps(shared).encode(), json.dumps(own).encode()], Deadline.after(60))
"""


def test_many_processes(store: LocalStore) -> None:
    """Processes that create and write one store at the same time lose no update."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.path), f"w{number}", str(MERGES)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [_end(writer) for writer in writers] == [0] * PROCESSES
    names = [f"w{process}.{number}" for process in range(PROCESSES) for number in range(MERGES)]
    (shared,) = store.rows("r")
    assert shared["metadata"] == dict.fromkeys(names, 1)
    assert sorted(one["id"] for one in store.all_rows()) == sorted(["shared", *names])


def test_many_threads(store: LocalStore) -> None:
    """Threads can share a store."""
    def write(name: int) -> None:
        for number in range(20):
            send(store, row("s", _is_merge=True, metadata={f"{name}.{number}": 1}))
            store.rows("r")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (only,) = store.all_rows()
    assert only["metadata"] == {f"{name}.{number}": 1 for name in range(4) for number in range(20)}


FORK = """
import json, os, sys
from trace_guard import Deadline, LocalStore
store = LocalStore(sys.argv[1])
def send(name):
    store.send([json.dumps({"id": name, "span_id": name, "root_span_id": "r"}).encode()], Deadline.after(10))
send("before")
if os.fork() == 0:
    send("child")
    os._exit(0)  # as multiprocessing ends its children; nothing is closed
os.wait()
send("parent")
if os.fork() == 0:
    sys.exit(0)  # and as scripts end theirs, whose exit closes what it holds
os.wait()
send("last")
"""


def test_fork(store: LocalStore) -> None:
    """Parent and child of a fork both continue to write a store that was open before."""
    _python(FORK, str(store.path))
    assert [one["id"] for one in store.all_rows()] == ["before", "child", "parent", "last"]
    assert _execute(store.path, "PRAGMA integrity_check") == [("ok",)]


def test_deadline(store: LocalStore) -> None:
    """Writing to a locked store gives up at the deadline, and succeeds later."""
    send(store, row("a"))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    deadline = Deadline.after(0.1)
    with pytest.raises(BackendUnavailable, match="sent again later"):
        send(store, row("b"), deadline=deadline)
    assert -1 < deadline.remaining <= 0
    assert store.all_rows() == [row("a")]
    other.execute("ROLLBACK")
    other.close()
    send(store, row("b"))
    assert store.all_rows() == [row("a"), row("b")]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_another_program_s_file_is_left_as_it_is(store: LocalStore, mode: str) -> None:
    """A database of another program keeps its mode, and every byte."""
    store.path.parent.mkdir()
    _execute(store.path, f"PRAGMA journal_mode = {mode}")
    _execute(store.path, "CREATE TABLE theirs (x)")
    before = store.path.read_bytes()
    with pytest.raises(BackendUnavailable, match="not a store of trace-guard"):
        send(store, row("a"))
    store.close()
    assert _execute(store.path, "PRAGMA journal_mode") == [(mode,)]
    assert store.path.read_bytes() == before


LOCKED = """
import sqlite3, sys, threading, time
from trace_guard import Deadline, LocalStore
from trace_guard.errors import BackendUnavailable
store = LocalStore(sys.argv[1])
store.send([b'{"id": "a"}'], Deadline.after(10))
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN EXCLUSIVE")
def send():
    store.send([b'{"id": "b"}'], Deadline.after(60))
sender = threading.Thread(target=send, daemon=True)
sender.start()
while not sys._current_frames()[sender.ident].f_code.co_filename.endswith("sqlite_file.py"):
    time.sleep(0.001)
began = time.monotonic()
store.close()
print(time.monotonic() - began, flush=True)
"""


def test_the_exit_does_not_wait_for_another_s_lock(store: LocalStore) -> None:
    """While a thread waits for a locked store, neither closing the store nor the exit of the program waits."""
    began = time.monotonic()
    assert float(_python(LOCKED, str(store.path))) < 0.5
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("seconds", [0.05, 1.0])
@pytest.mark.parametrize("locking", ["NORMAL", "EXCLUSIVE"])
def test_every_wait_ends_at_the_deadline(store: LocalStore, seconds: float, locking: str) -> None:
    """No call waits beyond its deadline, however the file is locked."""
    send(store, row("a"))
    if locking == "EXCLUSIVE":
        store.close()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute(f"PRAGMA locking_mode = {locking}")
    other.execute("BEGIN EXCLUSIVE")
    for one in (store, LocalStore(store.path)):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            send(one, row("b"), deadline=Deadline.after(seconds))
        assert time.monotonic() - began < seconds + 0.5
    other.close()


def test_no_time_left(store: LocalStore) -> None:
    """With an expired deadline nothing is written."""
    with pytest.raises(BackendUnavailable, match="no time was left"):
        send(store, row("a"), deadline=Deadline.after(0))
    assert not store.path.exists()


def _execute(path: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def _python(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _end(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode
