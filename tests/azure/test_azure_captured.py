"""Captured bodies and results: no Azure keys from URLs, and no fragments of binary data."""

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

# The response of a durable function's HTTP starter, and a link to a blob.
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
    """Function keys, extension keys and storage signatures in URLs appear neither in inputs nor in outputs. Other
    values named ``code`` are kept."""

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


def test_the_charset_of_a_response_counts(guard: Guard, backend: MemoryBackend) -> None:
    """A text is logged as its charset says, whether the function names it in a header or not."""

    @guard_handler(guard=guard)
    def ask(req: func.HttpRequest) -> func.HttpResponse:
        if req.method == "GET":
            return func.HttpResponse("é", charset="latin-1")
        return func.HttpResponse("é".encode("utf-16"), headers={"content-type": "text/plain; charset=utf-16"})

    for method in ("GET", "POST"):
        ask(req=func.HttpRequest(method, "/", body=b""))
    assert [row["output"]["body"] for row in backend.rows()] == ["é", "é"]


def test_binary_bodies_are_logged_by_size(guard: Guard, backend: MemoryBackend) -> None:
    """Only the size of a binary body is logged, however long it is."""

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
    ("é".encode() * 4, f"éé {CUT}"),  # in the middle of the third character
    (b"a\xc3", "<2 bytes>"),
    (b"\xff" * 9, "<9 bytes>"),
    ("é".encode() * 2, "éé"),
    (b"[1]", [1]),
])
def test_a_body_is_cut_between_characters(body: bytes, shown: Any) -> None:
    """Text is cut at the end of a character and marked as cut. A body that ends in half a character is binary."""
    assert content_of(body, 5) == shown


def test_functions_choose_what_is_logged(guard: Guard, backend: MemoryBackend) -> None:
    """The functions of a decorator get the trigger's value and the response."""

    @guard_handler(
        guard=guard, capture_input=lambda req: req.get_json()["q"], capture_output=lambda response: response.status_code
    )
    def ask(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("fine", status_code=201)

    assert ask(func.HttpRequest("POST", "https://shop/api/ask", body=b'{"q": "why?"}')).status_code == 201
    (row,) = backend.rows()
    assert (row["input"], row["output"]) == ("why?", 201)
