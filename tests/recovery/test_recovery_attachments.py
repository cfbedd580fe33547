"""Attachments that dead and live processes left are delivered once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import braintrust
import pytest
from fixtures import MakeGuard
from support import Program, environment, journals, settings_for, until

from trace_guard import Deadline, recover
from trace_guard.runtime.status import HeldLocks
from trace_guard.testing import BraintrustServer, Fault

DONE = {"upload_status": "done"}
BUSY = """
    import braintrust
    from trace_guard import Guard
    guard = Guard(linger=60, flush_timeout=0.05)
    with guard.invocation("root") as invocation:
        one = braintrust.Attachment(data=b"content" * 100_000, filename="a.bin", content_type="text/plain")
        invocation.span.log(input=one)
        braintrust.flush()
        if os.environ.get("WITHIN"):
            say(one.reference["key"])
            listen()
    say(one.reference["key"])
    listen()
"""
CONTENT = b"content" * 100_000


def spools(directory: Path) -> list[Path]:
    return [journal / "attachments" for journal in journals(directory) if (journal / "attachments").exists()]


def stops_between_attempts(program: Program, directory: Path) -> bool:
    """Stop a program, and let it continue if it was about to upload."""
    program.stop()
    if not any(HeldLocks().is_held(spool / "lock") for spool in spools(directory)):
        return True
    program.go_on()
    return False


@pytest.mark.parametrize("within", ["1", ""])
def test_the_next_start_delivers_attachments(server: BraintrustServer, directory: Path, within: str) -> None:
    """Attachments of a process that is killed during or after an invocation are delivered by the next start, which then
    removes the journal."""
    server.fail("/attachment", Fault.status(503))
    with Program(BUSY, environment(server, directory, WITHIN=within)) as program:
        key = program.hears()
        program.kill()
    server.heal()
    recover(settings_for(server, directory))
    assert (server.attachments, server.attachment_statuses) == ({key: CONTENT}, {key: DONE})
    assert (len(server.span_rows()), server.open_spans(), journals(directory)) == (1, [], [])


def test_an_attachment_that_was_being_read_gets_an_error(server: BraintrustServer, directory: Path) -> None:
    """If a process is killed before the SDK has read an attachment, its status is an error, not "uploading" for
    ever."""
    server.fail("/attachment", Fault.status(503))
    with Program(BUSY, environment(server, directory)) as program:
        key = program.hears()
        program.kill()
    (spool,) = spools(directory)
    (spool / f"{key}.body").rename(spool / f"{key}.part")  # as it is for a moment
    server.heal()
    recover(settings_for(server, directory))
    status = server.attachment_statuses[key]
    assert (status["upload_status"], "ended before" in status["error_message"]) == ("error", True)
    assert (server.attachments, journals(directory)) == ({}, [])


def test_a_damaged_description_holds_nothing_up(server: BraintrustServer, directory: Path) -> None:
    """Unreadable attachments of a dead process are skipped, and removed with its journal."""
    server.fail("/attachment", Fault.status(503))
    with Program(BUSY, environment(server, directory)) as program:
        key = program.hears()
        program.kill()
    (spool,) = spools(directory)
    (spool / "torn.json").write_text('{"key": "to')
    (spool / "newer.json").write_text(json.dumps({"key": "k", "unknown": 1}))
    server.heal()
    recover(settings_for(server, directory))
    assert (set(server.attachments), journals(directory)) == ({key}, [])


def test_attachments_of_a_live_process_are_uploaded_for_it(server: BraintrustServer, directory: Path) -> None:
    """Attachments that a live process could not upload are uploaded by another, and not uploaded again."""
    server.fail("/attachment", Fault.status(503))
    with Program(BUSY, environment(server, directory)) as program:
        key = program.hears()
        until(lambda: stops_between_attempts(program, directory), what="a pause between two attempts")
        server.heal()
        recover(settings_for(server, directory))
        assert (server.attachments, server.attachment_statuses) == ({key: CONTENT}, {key: DONE})
        assert [list(spool.glob("*.*")) for spool in spools(directory)] == [[]]
        program.go_on()
        program.tell()
        program.ends_well()
    until(lambda: journals(directory) == [], what="the end of the journal")
    assert len([one for one in server.requests if one.method == "PUT"]) == 1


def test_a_forked_child_leaves_attachments_to_its_parent(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A forked child neither uploads nor removes the attachments of its parent."""
    code = BUSY.rstrip().removesuffix("listen()") + """
    pid = os.fork()
    if pid == 0:
        with guard.invocation("child") as invocation:
            two = braintrust.Attachment(data=b"of the child", filename="b", content_type="text/plain")
            invocation.span.log(input=two)
        say(two.reference["key"])
        sys.exit()
    say("ended", os.waitpid(pid, 0)[1])
    listen()
"""
    server.fail("/attachment", Fault.status(503))
    with Program(code, environment(server, directory, TRACE_GUARD_EXIT_TIMEOUT="0.2")) as program:
        keys = [program.hears(), program.hears()]
        program.expects("ended", 0)
        assert len([path for spool in spools(directory) for path in spool.glob("*.body")]) == 2
        server.heal()
        program.tell()
        program.ends_well()
    recover(settings_for(server, directory))
    assert server.attachments == dict(zip(keys, [CONTENT, b"of the child"], strict=True))
    assert journals(directory) == []


def test_attachments_survive_a_cleared_directory(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """If the files of a live process are removed, waiting attachments are lost, and later ones are delivered."""
    server.fail("/attachment", Fault.status(503))
    guard = make_guard(flush_timeout=0.05)

    def log(content: bytes) -> str:
        one = braintrust.Attachment(data=content, filename="a", content_type="text/plain")
        with guard.invocation("root") as invocation:
            invocation.span.log(input=one)
        return str(one.reference["key"])

    log(os.urandom(1000))
    shutil.rmtree(directory)
    server.heal()
    key = log(b"after it")
    assert guard.pipeline.courier.drain(Deadline.after(20), force=True)
    assert server.attachments[key] == b"after it"
