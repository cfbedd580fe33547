"""Hostile files in place of ours: nothing hangs, fails or grows, and no other file is affected."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support import Program, environment, journals, settings_for, start_row

from trace_guard.journal.directory import prepare
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.row_facts import NewRow
from trace_guard.journal.spooled import SpooledAttachment
from trace_guard.rows import dump
from trace_guard.testing import BraintrustServer

AS_ROOT = os.geteuid() == 0
SOMEBODY = 12345

Make = Callable[[Path], None]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = os.getcwd()
        os.chdir(path.parent)  # the whole path can be too long for an address
        try:
            made.bind(path.name)
        finally:
            os.chdir(before)


def endless_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


def directory_instead(path: Path) -> None:
    path.mkdir()


def outside(path: Path) -> Path:
    """The path of a new file outside trace-guard's directory."""
    directory = next(above for above in path.parents if above.name.isdigit())
    return directory.with_name(f"outside-{directory.name}")


def link_to_file(path: Path) -> None:
    target = outside(path)
    target.write_bytes(b"{}")
    path.symlink_to(target)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def hard_link(path: Path) -> None:
    target = outside(path)
    target.write_bytes(b"{}")
    os.link(target, path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def of_somebody_else(path: Path) -> None:
    path.write_bytes(b"{}")
    os.chown(path, SOMEBODY, SOMEBODY)


def directory_of_somebody_else(path: Path) -> None:
    path.mkdir()
    os.chown(path, SOMEBODY, SOMEBODY)


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def empty(path: Path) -> None:
    path.touch()


FOR_ROOT: dict[str, Make] = {
    "a device": endless_device, "a file of somebody else": of_somebody_else,
    "a directory of somebody else": directory_of_somebody_else,
}
# Of these status says that they are not ours, wherever they are.
UNSAFE: dict[str, Make] = {
    "a FIFO": fifo, "a socket": listening, "a link": link_to_file, "a link to nothing": link_to_nothing,
    "a link to itself": link_to_itself, **FOR_ROOT,
}
KINDS: dict[str, Make] = {
    **UNSAFE, "a hard link": hard_link, "a directory": directory_instead, "a sparse file": sparse, "noise": noise,
    "an empty file": empty,
}
PLACES = (
    "journals", "journals/JOURNAL", "journals/other", "journals/JOURNAL/header", "journals/JOURNAL/lock",
    "journals/JOURNAL/courier.lock", "journals/JOURNAL/acked", "journals/JOURNAL/00000001.seg",
    "journals/JOURNAL/00000002.seg", "journals/JOURNAL/attachments", "journals/JOURNAL/attachments/lock",
    "journals/JOURNAL/attachments/key.json", "journals/JOURNAL/attachments/key.body", "cache", "cache/CACHE",
    "dead-letters", "dead-letters/20260101-1.seg", "traces.db", "traces.db-wal", "traces.db-shm", "attachments",
)

# What each place is put through, in a process of its own that may not use more memory than it has.
WORK = """
    import json, resource
    from pathlib import Path
    from trace_guard import Guard, Settings, recover
    from trace_guard.errors import JournalUnavailable
    from trace_guard.runtime.status import read_status
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while (place := listen()):
        directory, backend = place.split("|")
        settings = Settings.from_env({**os.environ, "TRACE_GUARD_DIR": directory, "TRACE_GUARD_BACKEND": backend})
        began, status = time.monotonic(), read_status(settings)
        guard = Guard(settings)
        guard.start()
        with guard.invocation("new") as invocation:
            invocation.span.log(output="fine")
        guard.close(timeout=1)
        try:
            error = recover(settings, timeout=3).error
        except JournalUnavailable as fault:
            error = str(fault)
        read_status(settings)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        say(json.dumps([
            status.damaged, list(status.problems), invocation.delivery.verdict.value, error,
            time.monotonic() - began, grown,
        ]))
"""


def left_behind(server: BraintrustServer, directory: Path) -> None:
    """The directory of a dead process: an open span, an attachment, a cache and a store."""
    settings = settings_for(server, directory)
    state_dir = prepare(directory, 1 << 26)
    journal = FileJournal.create(state_dir, settings.destination, OpenSpans())
    journal.append([NewRow.of(start_row("old"))])
    spool = journal.make_room_for_attachments()
    one = SpooledAttachment("key", "name.txt", "text/plain")
    spool.begin(one)
    spool.store(one, b"content")
    assert journal.take_delivery()
    journal.abandon()
    os.rename(journal.path, journal.path.with_name("1-JOURNAL"))
    (directory / "cache").mkdir(mode=0o700)
    (directory / "dead-letters").mkdir(mode=0o700)


def path_of(place: str, settings: Any, directory: Path) -> Path:
    cache = f"identity-{sha256(dump(settings.destination)).hexdigest()[:16]}.json"
    return directory / place.replace("JOURNAL", "1-JOURNAL").replace("CACHE", cache)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for below in path.iterdir():
            remove(below)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_harms_nothing_else(server: BraintrustServer, tmp_path: Path, kind: str) -> None:
    """Status, start, invocation and recovery end in time, without an exception and with little memory, and status says
    what is wrong."""
    if kind in FOR_ROOT and not AS_ROOT:
        pytest.skip("only root can make this")
    with Program(WORK, environment(server, tmp_path)) as program:
        for number, place in enumerate(PLACES):
            directory = tmp_path / str(number)
            left_behind(server, directory)
            path = path_of(place, settings_for(server, directory), directory)
            remove(path)
            KINDS[kind](path)
            is_local = place in ("attachments",) or place.startswith("traces.db")
            program.tell(f"{directory}|{'local' if is_local else 'braintrust'}")
            damaged, problems, verdict, error, seconds, grown = json.loads(program.hears(seconds=30))
            about = f"{kind} as {place}: {problems}, {verdict}, {error}"
            assert seconds < 8, about
            assert grown < 64 * 1024, about
            assert verdict == "delivered" or (is_local and verdict in ("spooled", "lost")), about
            if kind in UNSAFE and not (kind == "a directory of somebody else" and place == "journals/JOURNAL"):
                assert damaged >= 1, about
                assert any(str(path) in problem for problem in problems), about
            if place.startswith(("journals/other", "cache", "dead-letters")):
                assert error is None, about
                assert journals(directory) in ([], [directory / "journals" / "other"]), about
        program.tell()
        assert "Traceback" not in program.stderr, program.stderr
        assert server.span_rows() != []
