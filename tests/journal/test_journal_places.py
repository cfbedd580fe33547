"""Directories and disks that can't hold a journal: tracing continues in memory, and rows arrive."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture
from support import Program, end_row, environment, journals, settings_for, start_row, until, without_place

from trace_guard import Deadline, recover
from trace_guard.errors import JournalUnavailable
from trace_guard.journal import directory as places
from trace_guard.journal.directory import JOURNALS, StateDir, prepare
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.row_facts import NewRow
from trace_guard.testing import BraintrustServer, Fault

AS_ROOT = os.geteuid() == 0

# Root may write everywhere: without these capabilities the bits of a directory count for root as well.
WITHOUT_PRIVILEGES = """
    import ctypes
    if os.geteuid() == 0:
        taken = (1 << 1) | (1 << 2) | (1 << 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        libc, header, data = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        for word in range(3):
            data[word] &= ~taken
        assert libc.capset(header, data) == 0
"""

HANDLER = """
    import braintrust
    from trace_guard import Guard
    guard = Guard()
    @guard.wrap
    def handler(event):
        with braintrust.start_span("child") as child:
            child.log(input=event)
        braintrust.start_span("forgotten")
        return {"sum": sum(event)}
    say(handler([1, 2, 3]))
    listen()
    with guard.invocation("second") as invocation:
        result = "result"
    say(result, invocation.delivery.verdict.value)
    guard.close(timeout=0.1)
"""
HANDLED = "{'sum': 6}"


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """A file system in memory of its own size."""
    if not AS_ROOT:
        pytest.skip("only root may mount")
    path.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(directory: Path) -> Path:
    """Use up all free space."""
    filler = directory / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)
    return filler


def symlink(directory: Path) -> None:
    (directory.parent / "elsewhere").mkdir()
    directory.symlink_to(directory.parent / "elsewhere")


def symlink_below(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory.parent / "elsewhere").mkdir()
    (directory / "journals").symlink_to(directory.parent / "elsewhere")


def a_file(directory: Path) -> None:
    directory.write_text("")


def below_a_file(directory: Path) -> None:
    directory.parent.rmdir()
    directory.parent.write_text("")


def of_somebody_else(directory: Path) -> None:
    if not AS_ROOT:
        pytest.skip("only root may give a directory away")
    directory.mkdir(mode=0o777)
    os.chown(directory, 12345, 12345)


def read_only(directory: Path) -> None:
    directory.mkdir(mode=0o500)


def read_only_below(directory: Path) -> None:
    (directory / "journals").mkdir(parents=True)
    (directory / "journals").chmod(0o500)
    directory.chmod(0o700)


UNUSABLE = [symlink, symlink_below, a_file, below_a_file, of_somebody_else, read_only, read_only_below]


def warnings_in(program: Program) -> list[str]:
    return [line for line in program.stderr.splitlines() if "Tracing goes on in memory" in line]


def check_in_memory(server: BraintrustServer, directory: Path) -> None:
    """Run the handler with a working server and with one that is down, in a directory that can't be used."""
    with Program(WITHOUT_PRIVILEGES + HANDLER, environment(server, directory)) as program:
        program.expects(HANDLED)
        assert sorted(row["span_attributes"]["name"] for row in server.span_rows()) == ["child", "forgotten", "handler"]
        assert server.open_spans() == []
        server.refuse_connections()
        program.tell()
        program.expects("result", "lost")
        program.ends_well()
        assert len(warnings_in(program)) == 1, program.stderr


@pytest.mark.parametrize("spoil", UNUSABLE)
def test_an_unusable_directory_does_not_stop_tracing(
    server: BraintrustServer, directory: Path, spoil: Callable[[Path], None]
) -> None:
    """With a directory that can't be used safely the handler runs, its rows arrive, and one warning gives the
    reason."""
    directory = directory.parent / "below" / "trace-guard"
    directory.parent.mkdir()
    spoil(directory)
    check_in_memory(server, directory)


def test_a_read_only_file_system_does_not_stop_tracing(server: BraintrustServer, tmp_path: Path) -> None:
    """On a read-only file system the handler runs, its rows arrive, and one warning gives the reason."""
    with mounted(tmp_path / "disk", "size=64k,ro") as disk:
        check_in_memory(server, disk / "trace-guard")


def test_a_full_disk_does_not_stop_tracing(server: BraintrustServer, tmp_path: Path) -> None:
    """On a full disk the handler runs, its rows arrive, and one warning gives the reason."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        prepare(disk / "trace-guard", 1 << 20)
        fill(disk)
        check_in_memory(server, disk / "trace-guard")


@pytest.mark.parametrize("spoil", [symlink, symlink_below, a_file, below_a_file, of_somebody_else])
def test_an_unusable_directory_gives_a_clear_error(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """The error says what is wrong with a directory and what to do about it."""
    directory = tmp_path / "below" / "trace-guard"
    directory.parent.mkdir()
    spoil(directory)
    with pytest.raises(JournalUnavailable, match=r"below/trace-guard.*; set TRACE_GUARD_DIR"):
        prepare(directory, 1 << 20)


def test_files_are_private(server: BraintrustServer, directory: Path) -> None:
    """Whatever the umask and the mode of an existing directory, no other user can read the files."""
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    server.fail("/logs3", Fault.refuse_rows(lambda row: row.get("input") == "bad"))
    code = """
        os.umask(0)
        from trace_guard import Deadline, Guard
        guard = Guard(project="named", linger=60)
        with guard.invocation("refused", input="bad"):
            pass
        guard.pipeline.lookup.start("named")
        with guard.invocation("open") as invocation:
            say(invocation.span.id)
            listen()
    """
    with Program(code, environment(server, directory, TRACE_GUARD_PROJECT_ID="")) as program:
        program.hears()
    modes = {
        str(path.relative_to(directory)).replace(journals(directory)[0].name, "J"): stat.S_IMODE(path.lstat().st_mode)
        for path in directory.rglob("*")
    }
    names = [name for name in modes if name.startswith(("cache/", "dead-letters/"))]
    assert {name.split("/")[0] for name in names} == {"cache", "dead-letters"}
    directories = dict.fromkeys(("journals", "journals/J", "cache", "dead-letters"), 0o700)
    files = dict.fromkeys(
        [*names, *(f"journals/J/{name}" for name in ("lock", "courier.lock", "header", "acked", "00000001.seg"))], 0o600
    )
    assert modes == {**directories, **files}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


MIDWAY = """
    import braintrust, trace_guard.runtime.current_journal
    from trace_guard import Deadline, Guard
    trace_guard.runtime.current_journal._DISK_RETRY_SECONDS = float(os.environ.get("RETRY", "60"))
    guard = Guard(linger=60)
    def handler():
        with braintrust.start_span("before"):
            braintrust.flush()
        open = braintrust.start_span("open")
        braintrust.flush()
        say("in the middle", guard.pipeline.journal().durable)
        listen()
        with braintrust.start_span("after") as after:
            after.log(output="y" * 20000)
        return "the result"
    with guard.invocation("root") as invocation:
        result = handler()
    say(result, invocation.delivery.verdict.value)
    listen()
    with guard.invocation("later"):
        unended = braintrust.start_span("unended")
        braintrust.flush()
        say(guard.pipeline.flush(Deadline.after(10)))
        while not guard.pipeline.journal().durable:
            time.sleep(0.01)
        say("on disk")
        listen()
"""


def check_whole_trace(server: BraintrustServer, *more: str) -> None:
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert sorted(rows) == sorted(["root", "before", "open", "after", *more])
    assert rows["root"]["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert without_place(rows["open"]) == {"outcome": "ok", "closed_by": "guard", "reason": "left_open"}
    assert rows["after"]["output"] == "y" * 20000
    assert server.open_spans() == []


def test_a_disk_that_fills_up_midway_costs_nothing(server: BraintrustServer, tmp_path: Path) -> None:
    """If the disk fills up during an invocation, all its rows arrive, and a recovery after a kill leaves the ended
    trace alone."""
    with mounted(tmp_path / "disk", "size=96k") as disk:
        directory = disk / "trace-guard"
        with Program(MIDWAY, environment(server, directory)) as program:
            program.expects("in the middle", True)
            fill(disk)
            program.tell()
            program.expects("the result", "delivered")
            until(lambda: len(warnings_in(program)) == 1, what="the one warning")
            check_whole_trace(server)
            before = server.rows()
            program.kill()
            assert "could not" not in program.stderr
        found = recover(settings_for(server, directory), timeout=10)
        assert (found.closed_spans, found.error) == (0, None)
        assert server.rows() == before
        assert journals(directory) == []


def test_a_disk_that_fills_up_while_the_backend_is_down(server: BraintrustServer, tmp_path: Path) -> None:
    """A span that began on disk and ended in memory is closed if the process is killed before delivery."""
    with mounted(tmp_path / "disk", "size=96k") as disk:
        directory = disk / "trace-guard"
        with Program(MIDWAY, environment(server, directory)) as program:
            program.expects("in the middle", True)
            fill(disk)
            server.refuse_connections()
            program.tell()
            program.expects("the result", "lost")
            program.kill()
        server.accept_connections()
        found = recover(settings_for(server, directory), timeout=10)
        rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
        # The start of "after" may still fit in the last page of the file.
        assert sorted({*rows} - {"after"}) == ["before", "open", "root"]
        assert (found.closed_spans, found.pending_rows, found.error) == (len(rows) - 1, 0, None)
        assert rows["root"]["metadata"]["trace_guard"]["outcome"] == "abandoned"
        assert server.open_spans() == []


def test_the_disk_is_used_again_when_there_is_room(server: BraintrustServer, tmp_path: Path) -> None:
    """Once the disk has room the journal is on disk again, with the spans that began in memory, which are closed after
    a kill."""
    with mounted(tmp_path / "disk", "size=96k") as disk:
        directory = disk / "trace-guard"
        with Program(MIDWAY, environment(server, directory, RETRY="0.1")) as program:
            program.expects("in the middle", True)
            filler = fill(disk)
            program.tell()
            program.expects("the result", "delivered")
            program.tell()
            program.expects(True)
            filler.unlink()
            program.expects("on disk")
            program.kill()
        assert recover(settings_for(server, directory), timeout=10).error is None
        check_whole_trace(server, "later", "unended")
        assert journals(directory) == []


def test_a_size_limit_of_the_process_counts_as_a_full_disk(server: BraintrustServer, directory: Path) -> None:
    """A process with a file size limit continues in memory, with one warning, and its rows arrive."""
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))\n" + "\n".join(
        line[4:] for line in MIDWAY.splitlines()
    )
    with Program(code, environment(server, directory)) as program:
        program.expects("in the middle", True)
        program.tell()
        program.expects("the result", "delivered")
        until(lambda: len(warnings_in(program)) == 1, what="the one warning")
    check_whole_trace(server)


def test_recovery_delivers_from_a_full_disk(server: BraintrustServer, tmp_path: Path) -> None:
    """On a full disk, where no closing row can be written, recovery still delivers it."""
    with mounted(tmp_path / "disk", "size=96k") as disk:
        directory = disk / "trace-guard"
        with Program(MIDWAY, environment(server, directory)) as program:
            program.expects("in the middle", True)
        fill(disk)
        found = recover(settings_for(server, directory), timeout=10)
        assert (found.closed_spans, found.pending_rows, found.error) == (2, 0, None)
        assert sorted(row["span_attributes"]["name"] for row in server.span_rows()) == ["before", "open", "root"]
        assert server.open_spans() == []
        before = server.rows()
        (disk / "filler").unlink()
        assert recover(settings_for(server, directory), timeout=10).pending_rows == 0
        assert server.rows() == before
        assert journals(directory) == []


def test_sync_always_syncs_before_it_returns(state_dir: StateDir, mocker: MockerFixture) -> None:
    """With ``sync=always`` header, names and every row are on disk when the call returns; with ``os`` no call waits for
    the disk."""
    synced: list[str] = []
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        plain(descriptor)

    mocker.patch("os.fsync", fsync)
    lazy = FileJournal.create(state_dir, {"backend": "memory"}, OpenSpans(), sync="os")
    lazy.append([NewRow.of(start_row("a"))])
    assert synced == []
    lazy.abandon()
    small = StateDir(state_dir.directory, 65536)
    journal = FileJournal.create(small, {"backend": "memory"}, OpenSpans(), sync="always")
    hidden = str(journal.path.parent / f".new-{journal.path.name}")
    assert synced == [f"{hidden}/header", hidden, str(journal.path.parent)]
    synced.clear()
    journal.append([NewRow.of(start_row("a"))])
    assert synced == [str(journal.path), str(journal.path / "00000001.seg")]
    synced.clear()
    journal.append([NewRow.of(end_row("a"))])
    assert synced == [str(journal.path / "00000001.seg")]
    journal.append([NewRow.of({**start_row("b"), "input": "x" * 4000})])
    assert synced[1:] == [str(journal.path), str(journal.path / "00000002.seg")]
    journal.abandon()


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "ceph"])
def test_a_network_file_system_is_not_trusted(
    kind: str, tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """With a directory on a network mount the journal is kept in the temporary directory, with one warning."""
    network, local = tmp_path / "network", tmp_path / "local"
    local.mkdir()
    mocker.patch.object(places, "_filesystem", lambda path: kind if path == network else "ext4")
    mocker.patch("tempfile.gettempdir", return_value=str(local))
    state_dirs = {prepare(network, 1 << 20) for _ in range(3)}
    assert state_dirs == {StateDir(local / f"trace-guard-{os.getuid()}", 1 << 20)}
    assert not network.exists()
    assert len([record for record in caplog.records if "network file system" in record.getMessage()]) == 1


def test_the_cap_is_a_tenth_of_memory_where_the_disk_is_memory(
    tmp_path: Path, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files are in memory, as on Cloud Run, journals take at most a tenth of it."""
    mocker.patch.object(places, "_memory", return_value=128 << 20)
    assert prepare(tmp_path / "a", 64 << 20).byte_limit == 64 << 20
    monkeypatch.setenv("K_SERVICE", "service")
    assert prepare(tmp_path / "a", 64 << 20).byte_limit == (128 << 20) // 10
    monkeypatch.delenv("K_SERVICE")
    with mounted(tmp_path / "disk", "size=64k") as disk:
        assert prepare(disk / "a", 64 << 20).byte_limit == (128 << 20) // 10


def test_rows_in_memory_are_bounded(server: BraintrustServer, make_guard: Any, tmp_path: Path) -> None:
    """Undelivered rows in memory are bounded, newer ones are dropped, and the kept ones arrive."""
    from trace_guard.journal.memory import MemoryJournal

    server.refuse_connections()
    (tmp_path / "file").write_text("")
    guard = make_guard(directory=tmp_path / "file", linger=60)
    journal = guard.pipeline.journal()
    assert isinstance(journal, MemoryJournal)
    journal.max_bytes = 3000
    for count in range(5):
        journal.append([NewRow.of({**start_row(f"s{count}"), "input": "x" * 800})])
    assert journal.dropped_rows == 3
    journal.append([NewRow.of(end_row(f"s{count}")) for count in range(5)])
    assert journal.dropped_rows == 6
    server.accept_connections()
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert [(row["id"], row["metrics"]) for row in server.span_rows()] == [
        (f"id-s{count}", {"start": 1000.0, "end": 1001.0}) for count in range(2)
    ]
    assert server.open_spans() == []


def test_two_failures_in_a_row_lose_no_row(server: BraintrustServer, directory: Path) -> None:
    """If the journal was removed and the next one can't be written either, rows go to memory and arrive."""
    code = """
        import resource, shutil
        from support import end_row, start_row
        from trace_guard import Deadline, Guard
        runtime = Guard(linger=60).pipeline
        runtime.append([start_row("a"), start_row("b")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))
        shutil.rmtree(runtime.journal().path)
        runtime.append([end_row("a", output="y" * 20000)])
        say(runtime.journal().durable)
        runtime.append([end_row("b")])
        say(runtime.flush(Deadline.after(10)))
    """
    with Program(code, environment(server, directory)) as program:
        program.expects(False)
        program.expects(True)
        program.ends_well()
    ends = {row["id"]: row["metrics"]["end"] for row in server.span_rows()}
    assert ends == {"id-a": 1001.0, "id-b": 1001.0}


def test_a_shared_directory_keeps_its_mode(tmp_path: Path) -> None:
    """A directory like /tmp keeps its mode, and files go to a private subdirectory."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    own = prepare(shared, 1 << 20).directory
    assert own == shared / f"trace-guard-{os.getuid()}"
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert own.stat().st_mode & 0o7777 == (own / JOURNALS).stat().st_mode & 0o7777 == 0o700
    assert [path.name for path in shared.iterdir()] == [own.name]
