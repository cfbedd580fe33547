"""Attachments: spooled on disk, uploaded beside the rows, and reported when they are lost."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import braintrust
import pytest
from braintrust import Attachment
from braintrust.logger import ReadonlyAttachment
from fixtures import MakeGuard
from support import Program, environment, journals, until

from trace_guard import Deadline, Delivery, Guard, LocalStore, Settings
from trace_guard.backends.memory import MemoryBackend
from trace_guard.delivery.dead_letters import read_dead_letters
from trace_guard.testing import BraintrustServer, Fault
from trace_guard.testing.faults import Exchange
from trace_guard.testing.http_wire import Response

UPLOAD = "/attachment/upload/{key}"
DONE = {"upload_status": "done"}


def attachment(data: bytes | str, name: str = "a.bin") -> Attachment:
    return Attachment(data=data, filename=name, content_type="application/octet-stream")


def traced(guard: Guard, *attachments: Attachment, name: str = "root", readable: bool = True) -> Delivery:
    """The delivery of an invocation that logs attachments."""
    with guard.invocation(name) as invocation:
        invocation.span.log(input={"files": list(attachments)})
        if readable:  # else the SDK's own flush() raises
            braintrust.flush()
    assert invocation.delivery is not None
    return invocation.delivery


def key_of(one: Attachment) -> str:
    return str(one.reference["key"])


def files_of(directory: Path) -> list[Path]:
    """The files of attachments that wait."""
    return sorted(path for journal in journals(directory) for path in (journal / "attachments").glob("*.*"))


def uploads(server: BraintrustServer) -> list[str]:
    return [request.method for request in server.requests if request.path.startswith("/attachment/upload/")]


# When all is well


def test_delivered_means_with_its_attachments(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """The attachments of a delivered invocation are complete in the object store, have the status "done", and leave
    nothing on disk."""
    large, empty, text = os.urandom(3_000_000), b"", b"text"
    seen: dict[str, Any] = {}

    def look(exchange: Exchange) -> Response:
        seen.update(exchange.request.headers)
        return exchange.answer()

    server.fail(UPLOAD, Fault("look", look), times=1)
    made = [attachment(large), attachment(empty), attachment(text)]
    delivery = traced(make_guard(), *made)
    assert (delivery.verdict, delivery.error) == (Delivery.DELIVERED, None)
    assert server.attachments == {key_of(one): data for one, data in zip(made, [large, empty, text], strict=True)}
    assert server.attachment_statuses == dict.fromkeys(server.attachments, DONE)
    (root,) = server.span_rows()
    assert root["input"]["files"] == [one.reference for one in made]
    assert files_of(directory) == []
    assert {request.authorization for request in server.requests if "/upload/" in request.path} == {None}
    assert seen["x-amz-meta-signed"] in server.attachments
    asked = json.loads(server.requests_to("/attachment")[0].body)
    assert asked["org_id"] == json.loads(server.requests_to("/attachment/status")[0].body)["org_id"]
    assert "trace-guard" not in json.dumps(asked)
    assert (asked["filename"], asked["content_type"]) == ("a.bin", "application/octet-stream")


def test_a_redirect_of_the_object_store_is_followed(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """An upload that the store redirects to another host arrives there complete, and without the key."""
    with BraintrustServer() as other:
        elsewhere = other._api._signed

        def redirect(exchange: Exchange) -> Response:
            key = exchange.request.path.rpartition("/")[2]
            return Response(307, headers={"Location": elsewhere("PUT", key)})

        server.fail(UPLOAD, Fault("redirect", redirect))
        content = os.urandom(700_000)
        one = attachment(content)
        assert traced(make_guard(), one).verdict is Delivery.DELIVERED
        assert other.attachments == {key_of(one): content}
        assert {request.authorization for request in other.requests} == {None}
        assert server.attachment_statuses == {key_of(one): DONE}


# When the network is not


def test_a_flush_does_not_wait_for_an_upload(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """If the object store never answers, flush() inside an invocation returns at once, the invocation waits no longer
    than its budget, and its rows are delivered. Once the store answers, the attachments are delivered too."""
    server.fail(UPLOAD, Fault.black_hole())
    guard = make_guard(flush_timeout=0.6, linger=0.01)
    one = attachment(b"content")
    with guard.invocation("root") as invocation:
        began = time.monotonic()
        invocation.span.log(input=one)
        braintrust.flush()
        assert time.monotonic() - began < 0.5
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    assert invocation.delivery is not None
    assert (invocation.delivery.verdict, "attachment" in str(invocation.delivery.error)) == (Delivery.SPOOLED, True)
    assert (len(server.span_rows()), server.open_spans(), server.attachments) == (1, [], {})
    assert sorted(path.suffix for path in files_of(directory)) == [".body", ".json"]
    assert {path.stat().st_mode & 0o777 for path in files_of(directory)} == {0o600}
    server.heal()
    assert guard.flush(20)
    assert server.attachments == {key_of(one): b"content"}
    assert server.attachment_statuses == {key_of(one): DONE}
    assert files_of(directory) == []


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(403), Fault.reset(), Fault.ingest_then_drop()])
@pytest.mark.parametrize("endpoint", ["/attachment", UPLOAD, "/attachment/status"])
def test_an_upload_that_fails_is_tried_again(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, endpoint: str, fault: Fault
) -> None:
    """Whichever of the three requests fails, and however, the attachment arrives in the end."""
    server.fail(endpoint, fault, times=2)
    guard = make_guard(flush_timeout=0.5)
    one = attachment(b"content")
    traced(guard, one)
    assert guard.flush(20)
    assert server.attachments == {key_of(one): b"content"}
    assert server.attachment_statuses == {key_of(one): DONE}
    assert files_of(directory) == []


def test_an_object_store_that_is_down_costs_a_healthy_function_nothing(
    server: BraintrustServer, make_guard: MakeGuard
) -> None:
    """Once uploads are known to fail, no invocation waits for one, and rows are delivered without delay."""
    server.fail(UPLOAD, Fault.status(503))
    guard = make_guard(flush_timeout=5)
    for turn in range(4):
        traced(guard, attachment(b"content"), name=f"before {turn}")
    took = []
    for turn in range(4):
        delivery = traced(guard, attachment(b"content"), name=f"after {turn}")
        took.append(delivery.seconds)
        assert delivery.verdict is Delivery.SPOOLED
    assert sorted(took)[1] < 0.2, took  # one of them may be the probe
    assert (len(server.span_rows()), server.open_spans()) == (8, [])
    assert traced(guard, name="without").verdict is Delivery.DELIVERED
    server.heal()
    assert guard.pipeline.courier.drain(Deadline.after(20), force=True)
    assert len(server.attachments) == 8


# What is lost says so


def test_a_refused_attachment_is_kept_as_a_dead_letter(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """An attachment that the object store refuses for good gets the status "error", becomes a dead letter with its
    content, and is not sent again. Its trace is REFUSED; others are not affected."""
    server.fail(UPLOAD, Fault.status(413), times=1)
    guard = make_guard()
    bad, good = attachment(b"too large", "bad.bin"), attachment(b"fine")
    refused, delivered = traced(guard, bad, name="bad"), traced(guard, good, name="good")
    assert (refused.verdict, delivered.verdict) == (Delivery.REFUSED, Delivery.DELIVERED)
    assert "413" in str(refused.error)
    assert server.attachments == {key_of(good): b"fine"}
    status = server.attachment_statuses[key_of(bad)]
    assert (status["upload_status"], "413" in status["error_message"]) == ("error", True)
    (letter,) = read_dead_letters(directory)
    assert (letter["status"], letter["attachment"]["filename"]) == (413, "bad.bin")
    assert (directory / "dead-letters" / letter["file"]).read_bytes() == b"too large"
    assert (uploads(server), files_of(directory)) == (["PUT", "PUT"], [])


def test_past_the_cap_an_attachment_is_dropped_and_says_so(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While nothing can be delivered, attachments take at most half of the journal's size limit. One that does not fit
    is reported once, gets the status "error", and costs no row."""
    server.fail("*", Fault.status(503))
    guard = make_guard(flush_timeout=0.05, max_journal_bytes=400_000, linger=60)
    made = [attachment(os.urandom(60_000)) for _ in range(5)]
    for one in made:
        traced(guard, one)
    assert sum(path.stat().st_size for path in files_of(directory) if path.suffix == ".body") <= 200_000
    server.heal()
    assert guard.flush(20)
    done = {key for key, status in server.attachment_statuses.items() if status == DONE}
    lost = [server.attachment_statuses[key_of(one)] for one in made if key_of(one) not in done]
    assert (len(done), set(server.attachments)) == (3, done)
    assert [(status["upload_status"], "no room" in status["error_message"]) for status in lost] == [("error", True)] * 2
    # Traces are delivered side by side, so they may arrive in any order.
    arrived = {row["input"]["files"][0]["key"]: row["input"]["files"] for row in server.span_rows()}
    assert arrived == {key_of(one): [one.reference] for one in made}
    assert len([record for record in caplog.records if "is lost" in record.getMessage()]) == 1


def test_what_is_too_large_for_the_disk_is_uploaded_at_once(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """An attachment that is larger than its share of the disk is uploaded at once."""
    guard = make_guard(max_journal_bytes=100_000)
    content = os.urandom(80_000)
    one = attachment(content)
    assert traced(guard, one).verdict is Delivery.DELIVERED
    assert server.attachments == {key_of(one): content}
    assert server.attachment_statuses == {key_of(one): DONE}
    assert files_of(directory) == []


def test_a_file_that_can_t_be_read_is_told_of(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, tmp_path: Path
) -> None:
    """If the file of an attachment is gone when the SDK reads it, its status says why, and its trace is closed."""
    one = attachment(str(tmp_path / "gone.txt"))
    delivery = traced(make_guard(), one, readable=False)
    assert (delivery.verdict, "Failed to read file" in str(delivery.error)) == (Delivery.REFUSED, True)
    status = server.attachment_statuses[key_of(one)]
    assert (status["upload_status"], "Failed to read file" in status["error_message"]) == ("error", True)
    assert (server.open_spans(), server.attachments, files_of(directory)) == ([], {}, [])


def test_a_disk_that_won_t_have_it_costs_no_attachment(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """If attachments can't be written to disk they are uploaded at once."""
    guard = make_guard()
    traced(guard)
    (journal,) = journals(directory)
    (journal / "attachments").touch()  # no directory can be made there
    one = attachment(b"content")
    assert traced(guard, one, name="second").verdict is Delivery.DELIVERED
    assert server.attachments == {key_of(one): b"content"}


# Read back


def test_an_attachment_can_be_read_back_before_and_after(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """An attachment can be read back: from the disk before its upload, from the server afterwards."""
    braintrust.logger._state.reset_login_info()  # another test of this process may have logged in elsewhere
    server.fail("/attachment", Fault.status(503))
    guard = make_guard(flush_timeout=0.1)
    one = attachment(b"content")
    traced(guard, one)
    assert ReadonlyAttachment(one.reference).data == b"content"
    assert ReadonlyAttachment(one.reference).status() == {"upload_status": "done"}
    assert uploads(server) == []
    server.heal()
    assert guard.flush(20)
    assert ReadonlyAttachment(one.reference).data == b"content"
    assert uploads(server) == ["PUT", "GET"]


def test_without_a_key_attachments_are_files_beside_the_local_store(directory: Path) -> None:
    """Without a server attachments are kept as files that only their owner can read, and can be read back."""
    guard = Guard(Settings.from_env({"TRACE_GUARD_DIR": str(directory), "TRACE_GUARD_BACKEND": "local"}))
    try:
        one = attachment(b"content", "report.pdf")
        assert traced(guard, one).verdict is Delivery.DELIVERED
        assert ReadonlyAttachment(one.reference).data == b"content"
        store = LocalStore(directory / "traces.db")
        path = store.attachment_path(key_of(one))
        assert path == directory / "attachments" / f"{key_of(one)}.pdf"
        assert path is not None
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"content", 0o600)
        (row,) = store.all_rows()
        assert row["input"]["files"] == [one.reference]
        store.close()
    finally:
        guard.close(timeout=2)


@pytest.mark.parametrize("writable", [True, False])
def test_a_backend_in_memory_has_them_too(directory: Path, writable: bool) -> None:
    """A backend for tests keeps attachments in memory, and without a directory they wait in memory as well."""
    if not writable:
        directory.parent.mkdir(exist_ok=True)
        directory.touch()
    backend = MemoryBackend()
    guard = Guard(Settings.from_env({"TRACE_GUARD_DIR": str(directory)}), backend=backend)
    try:
        one = attachment(b"content")
        assert traced(guard, one).verdict is Delivery.DELIVERED
        assert backend.attachments == {key_of(one): b"content"}
    finally:
        guard.close(timeout=2)


def test_references_to_files_elsewhere_pass_as_rows_alone(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """A reference to a file in the user's own object store is logged, and nothing is uploaded; a JSON attachment is
    like any other."""
    external = braintrust.ExternalAttachment(url="s3://bucket/key", filename="x", content_type="text/plain")
    as_json: Callable[..., Any] = braintrust.JSONAttachment
    with make_guard().invocation("root") as invocation:
        invocation.span.log(input=external, output=as_json({"a": [1, 2]}))
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.DELIVERED
    (root,) = server.span_rows()
    assert root["input"] == external.reference
    assert {key: json.loads(data) for key, data in server.attachments.items()} == {root["output"]["key"]: {"a": [1, 2]}}


def test_those_who_use_none_pay_for_none(server: BraintrustServer, make_guard: MakeGuard, directory: Path) -> None:
    """Without attachments there is no directory, no thread and no request for them."""
    before = set(threading.enumerate())
    assert traced(make_guard()).verdict is Delivery.DELIVERED
    assert "trace-guard-uploads" not in {thread.name for thread in set(threading.enumerate()) - before}
    assert not any((journal / "attachments").exists() for journal in journals(directory))
    assert {request.path for request in server.requests} <= {"/logs3", "/api/apikey/login"}
    until(lambda: server.open_spans() == [])


# Freezes and ends


def test_an_upload_under_way_during_a_freeze_holds_up_nothing(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """An upload that was in flight when the process was frozen is started again, because its answer may never come."""
    server.fail(UPLOAD, Fault.black_hole(), times=1)
    guard = make_guard(flush_timeout=0.1)
    one, two = attachment(b"one"), attachment(b"two")
    assert traced(guard, one).verdict is Delivery.SPOOLED
    guard.pipeline.courier.thawed()
    traced(guard, two, name="second")
    assert guard.flush(5)  # left alone, the first upload would wait for half a minute
    assert server.attachments == {key_of(one): b"one", key_of(two): b"two"}


def test_without_threads_whoever_waits_does_the_work(server: BraintrustServer, directory: Path) -> None:
    """When no thread can be started, as at the interpreter's exit, attachments are uploaded by the thread that
    waits."""
    server.fail("/attachment", Fault.status(503))
    code = """
        import threading, braintrust
        from trace_guard import Deadline, Guard
        start = threading.Thread.start
        def refuse(self):
            if self.name == "trace-guard-uploads":
                raise RuntimeError("can't start new thread at interpreter shutdown")
            start(self)
        threading.Thread.start = refuse
        guard = Guard(flush_timeout=0.05)
        with guard.invocation("root") as invocation:
            one = braintrust.Attachment(data=b"content", filename="a", content_type="text/plain")
            invocation.span.log(input=one)
            braintrust.flush()
        say(one.reference["key"])
        listen()
        say(guard.pipeline.courier.drain(Deadline.after(20), force=True))
    """
    with Program(code, environment(server, directory)) as program:
        key = program.hears()
        server.heal()
        program.tell()
        program.expects(True)
        program.ends_well()
    assert (server.attachments, server.attachment_statuses) == ({key: b"content"}, {key: DONE})


# An attachment that the store fails over


@pytest.mark.parametrize("failure", [Fault.status(500), Fault.reset()], ids=["500", "reset"])
def test_an_attachment_that_always_fails_is_given_up(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, failure: Fault
) -> None:
    """An attachment that makes the object store fail, while it accepts others, becomes a dead letter with its content.
    Its invocation is REFUSED, and all other attachments arrive."""
    bad = attachment(b"poison", "bad.bin")

    def injure(exchange: Exchange) -> Response | None:
        return failure.injure(exchange) if key_of(bad) in exchange.request.path else exchange.answer()

    server.fail(UPLOAD, Fault("over one", injure))
    guard = make_guard(linger=60, flush_timeout=5.0)
    good = [attachment(b"good") for _ in range(3)]
    assert traced(guard, good[0]).verdict is Delivery.DELIVERED
    delivery = traced(guard, bad)
    assert delivery.verdict is Delivery.REFUSED
    assert "fails over this attachment alone" in str(delivery.error)
    for one in good[1:]:
        assert traced(guard, one).verdict is Delivery.DELIVERED
    assert server.attachments == {key_of(one): b"good" for one in good}
    (letter,) = read_dead_letters(directory)
    assert letter["attachment"]["filename"] == "bad.bin"
    assert (directory / "dead-letters" / letter["file"]).read_bytes() == b"poison"
    assert files_of(directory) == []


def test_a_store_that_is_down_costs_no_attachment(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """While the object store accepts nothing, no attachment becomes a dead letter."""
    guard = make_guard(linger=60)
    first, second = attachment(b"first"), attachment(b"second")
    assert traced(guard, first).verdict is Delivery.DELIVERED
    server.fail(UPLOAD, Fault.status(503))
    assert traced(guard, second).verdict is Delivery.SPOOLED
    assert list(read_dead_letters(directory)) == []
    server.heal()
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert sorted(server.attachments.values()) == [b"first", b"second"]
