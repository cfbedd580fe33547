"""What is captured of bodies and results: no keys of Azure's in URLs, and no pieces of what is no text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.payload import CUT
from trace_guard_azure import guard_handler, guard_record
from trace_guard_azure.triggers.reading import content_of

# What an HTTP starter of durable functions answers with, and a link to a blob.
URLS = {
    "statusQueryGetUri": "https://shop/runtime/webhooks/durabletask/instances/7?taskHub=h&connection=S&code=SECRET1==",
    "blob": "https://shop.blob.core.windows.net/a/b?sv=2024&sig=SECRET2%2B%3D&se=2026",
    "code": 404,
    "escaped": '"https://shop/?a=1\\u0026code=SECRET3"',
}


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="shop")
    yield guard
    guard.close(timeout=1)


def message(body: bytes) -> Any:
    return func.servicebus.ServiceBusMessage(
        body=body, message_id="m1", application_properties={}, user_properties={}, delivery_count=1
    )


def test_no_key_in_a_url_is_captured(guard: Guard, backend: MemoryBackend) -> None:
    """Keys of functions and of extensions, and signatures of storage, stand neither in inputs nor in outputs, whatever
    has the URL; and what else is called a code stays."""

    @guard_handler(guard=guard)
    def start(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(json.dumps(URLS), mimetype="application/json")

    @guard_record
    def each(one: Any) -> str:
        return URLS["blob"]

    @guard_handler(guard=guard)
    def activity(given: Any) -> Any:
        each(given)
        return URLS

    body = json.dumps(URLS).encode()
    start(req=func.HttpRequest(
        "POST", "https://shop/api/start?code=SECRET4", headers={"content-type": "application/json"}, body=body,
        params={"Code": "SECRET4", "sig": "SECRET5"},
    ))
    activity(given=message(body))
    said = json.dumps(backend.rows())
    assert "SECRET" not in said
    assert said.count("taskHub=h&connection=S&code=[redacted]") == 5  # two inputs and two outputs, and a record
    assert backend.rows()[0]["output"]["body"]["code"] == 404


def test_long_bodies_that_are_no_text(guard: Guard, backend: MemoryBackend) -> None:
    """Of a body that is no text its size stands in the trace, however long it is."""

    @guard_handler(guard=guard)
    def store(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(b"\xff" * 200_000, mimetype="text/plain")

    @guard_handler(guard=guard)
    def receive(given: Any) -> None: ...

    store(req=func.HttpRequest("POST", "/", headers={"content-type": "application/x"}, body=b"\x80\xff" * 100_000))
    receive(given=message(b"\xfe" * 100_000))
    first, second = backend.rows()
    assert first["input"]["body"] == "<200000 bytes>"
    assert first["output"]["body"] == "<200000 bytes>"
    assert second["input"] == "<100000 bytes>"


@pytest.mark.parametrize(("body", "shown"), [
    ("é".encode() * 4, f"éé {CUT}"),  # through the middle of the third
    (b"a\xc3", "<2 bytes>"),
    (b"\xff" * 9, "<9 bytes>"),
    ("é".encode() * 2, "éé"),
    (b"[1]", [1]),
])
def test_a_body_is_cut_between_characters(body: bytes, shown: Any) -> None:
    """Text is cut where a character ends, and says that it was cut; half a character makes a whole body no text."""
    assert content_of(body, 5) == shown
