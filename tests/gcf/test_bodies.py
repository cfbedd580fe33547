"""The body of a request is logged, and the function can still read it."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest

from trace_guard.backends.memory import MemoryBackend

PLAIN = """
@functions_framework.http
@guard_handler
def main(request):
    return {"read": %s}
"""
ON_LOOP = """
async def parts(request):
    return b"".join([part async for part in request.stream()]).decode()

@functions_framework.aio.http
@guard_handler
async def main(request):
    return {"read": %s}
"""
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}

WAYS = {
    "json": (PLAIN, "request.get_json()"),
    "data": (PLAIN, "request.get_data(as_text=True)"),
    "stream": (PLAIN, "request.stream.read().decode()"),
    "lines": (PLAIN, "[line.decode() for line in request.stream]"),
    "server's stream": (PLAIN, "request.environ['wsgi.input'].read().decode()"),
    "async json": (ON_LOOP, "await request.json()"),
    "async body": (ON_LOOP, "(await request.body()).decode()"),
    "async stream": (ON_LOOP, "await parts(request)"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_body_is_logged_and_can_be_read(serve: Any, backend: MemoryBackend, way: str) -> None:
    """A function reads its body in any way, and the root has the body before."""
    kind, read = WAYS[way]
    sent = json.dumps({"q": "why?", "password": "x"})
    answer = serve(kind % read).post("/", data=sent, headers={"content-type": "application/json"})
    expected = json.loads(sent) if "json" in way else [sent] if way == "lines" else sent
    assert json.loads(answer.text) == {"read": expected}
    assert backend.rows()[0]["input"]["body"] == {"q": "why?", "password": "[redacted]"}


def test_a_form_is_logged_and_can_be_read(serve: Any, backend: MemoryBackend) -> None:
    """The fields of a form are logged by name, and the function gets all of them."""
    client = serve(PLAIN % "[request.form.to_dict(flat=False), request.args['page']]")
    answer = client.post("/?page=2&token=x", data="a=1&a=2&secret=x", headers=FORM)
    assert answer.get_json() == {"read": [{"a": ["1", "2"], "secret": ["x"]}, "2"]}
    row = backend.rows()[0]
    assert row["input"]["body"] == {"a": ["1", "2"], "secret": "[redacted]"}
    assert row["input"]["query"] == {"page": "2", "token": "[redacted]"}


LEFT_ALONE = {
    "large": ({"content-type": "text/plain"}, b"x" * 70_000),
    "packed": ({"content-type": "text/plain", "content-encoding": "gzip"}, gzip.compress(b"x")),
    "no text": ({"content-type": "application/octet-stream"}, b"\x00"),
    "without a type": ({}, b"x"),
    "empty": ({"content-type": "text/plain"}, b""),
}


@pytest.mark.parametrize("kind", [PLAIN, ON_LOOP], ids=["plain", "async"])
@pytest.mark.parametrize("case", LEFT_ALONE)
def test_large_and_binary_bodies_are_not_read(serve: Any, backend: MemoryBackend, case: str, kind: str) -> None:
    """A large, compressed or binary body is neither read before the function reads it nor logged."""
    headers, sent = LEFT_ALONE[case]
    untouched = "'stream' in vars(request)" if kind is PLAIN else "hasattr(request, '_body')"
    answer = serve(kind % untouched).post("/", data=sent, headers=headers)
    assert json.loads(answer.text) == {"read": False}
    assert backend.rows()[0]["input"] == {"method": "POST", "path": "/"}


def test_multipart_forms_are_not_read(serve: Any, backend: MemoryBackend) -> None:
    """Only the function reads a multipart form, and gets its files."""
    client = serve(PLAIN % "[request.form['a'], request.files['f'].read().decode()]")
    answer = client.post("/", data={"a": "1", "f": (io.BytesIO(b"of the file"), "f.txt")})
    assert answer.get_json() == {"read": ["1", "of the file"]}
    assert "body" not in backend.rows()[0]["input"]


def test_a_body_of_unknown_length_is_not_read(serve: Any, backend: MemoryBackend) -> None:
    """Only the function reads a chunked body, which may never end."""
    client = serve(PLAIN % "request.get_json()")
    environ = {"wsgi.input": io.BytesIO(b"[1]"), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
    assert client.post("/", headers=headers, environ_overrides=environ).get_json() == {"read": [1]}
    assert "body" not in backend.rows()[0]["input"]


def test_a_body_that_breaks_off_is_the_function_s_error(serve: Any, backend: MemoryBackend) -> None:
    """A client disconnect in the middle of the body raises where the function reads it, as without a guard."""
    client = serve(PLAIN % "request.get_json()")
    environ = {"wsgi.input": io.BytesIO(b"[1"), "CONTENT_LENGTH": "30"}
    answer = client.post("/", headers={"content-type": "application/json"}, environ_overrides=environ)
    assert answer.status_code == 400
    assert backend.rows()[0]["metadata"]["http.response.status_code"] == 400


@pytest.mark.parametrize("sent", [b"{", b"\xff\xfe", b"[" * 5000], ids=["torn", "no UTF-8", "deep"])
def test_invalid_json_is_logged_as_text(serve: Any, backend: MemoryBackend, sent: bytes) -> None:
    """A body that is declared as JSON and is not is logged as text, and reaches the function unchanged."""
    client = serve(PLAIN % "len(request.get_data())")
    answer = client.post("/", data=sent, headers={"content-type": "application/json"})
    assert answer.get_json() == {"read": len(sent)}
    assert isinstance(backend.rows()[0]["input"]["body"], str)


def test_a_query_of_very_many_fields_is_text(serve: Any, backend: MemoryBackend) -> None:
    """A query with very many fields is logged as text."""
    serve(PLAIN % "1").get("/?" + "&".join(f"k{n}=1" for n in range(2000)))
    assert backend.rows()[0]["input"]["query"].startswith("k0=1&k1=1")


@pytest.mark.parametrize("kind", [PLAIN, ON_LOOP], ids=["plain", "async"])
def test_nothing_is_read_where_nothing_is_captured(serve: Any, backend: MemoryBackend, kind: str) -> None:
    """With capture_input off, a request is not read."""
    untouched = "'stream' in vars(request)" if kind is PLAIN else "hasattr(request, '_body')"
    client = serve((kind % untouched).replace("@guard_handler", "@guard_handler(capture_input=False)"))
    assert json.loads(client.post("/", json={"n": 1}).text) == {"read": False}
    assert "input" not in backend.rows()[0]
