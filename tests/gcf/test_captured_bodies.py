"""Bodies are copied while they pass: what is logged of them, and that application and client see the same as alone."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import flask
import pytest
import starlette.applications
import starlette.requests
import starlette.responses
import starlette.routing
from gcf_client import root_of

from trace_guard import Guard, SettingsError
from trace_guard.backends.memory import MemoryBackend
from trace_guard.payload import CUT
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware, guard_handler

JSON = "application/json"
SECRET = {"q": "why?", "password": "hunter2"}
HIDDEN = {"q": "why?", "password": "[redacted]"}


def call_wsgi(
    app: Any, body: bytes = b"", content_type: str = JSON, method: str = "POST", **environ: Any
) -> tuple[str, bytes]:
    """What a client gets from a WSGI application."""
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": "/ask", "CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body), **environ,
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    sent: list[bytes] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        statuses.append(status)
        return sent.append

    items = app(environ, start_response)
    sent.extend(items)
    getattr(items, "close", lambda: None)()
    return statuses[-1], b"".join(sent)


async def call_asgi(app: Any, parts: list[bytes], content_type: str = JSON, method: str = "POST") -> list[Any]:
    """The messages that an ASGI application sends."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
    waiting.append({"type": "http.request", "body": parts[-1] if parts else b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", content_type.encode()), (b"content-length", str(sum(map(len, parts))).encode())]
    scope = {"type": "http", "method": method, "path": "/ask", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent


def answering(read: Callable[[Any], Any], content_type: str = "text/plain") -> Any:
    """A WSGI application that answers with what it reads."""

    def app(environ: Any, start_response: Any) -> Any:
        answer = read(environ["wsgi.input"])
        start_response("200 OK", [("Content-Type", content_type)])
        return [answer if isinstance(answer, bytes) else b"|".join(answer)]

    return app


def twice(stream: Any) -> bytes:
    first: bytes = stream.read(9)
    stream.seek(0)
    return first + stream.read()


def into_a_buffer(stream: Any) -> bytes:
    buffer = bytearray(1000)
    return bytes(buffer[: stream.readinto(buffer)])


WAYS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda stream: stream.read(),
    "by length": lambda stream: stream.read(int(1e6)),
    "in pieces": lambda stream: list(iter(lambda: stream.read(3), b"")),
    "lines": lambda stream: list(stream),
    "line by line": lambda stream: list(iter(stream.readline, b"")),
    "all lines": lambda stream: stream.readlines(),
    "next": lambda stream: [next(stream), *stream],
    "into a buffer": into_a_buffer,
    "at once": lambda stream: stream.read1(),
    "twice": twice,
    "empty first": lambda stream: stream.read(0) + stream.read(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_body_is_copied_in_whatever_way_it_is_read(guard: Guard, backend: MemoryBackend, way: str) -> None:
    """A body is logged redacted, however the application reads it, and the application reads the same."""
    app, body = answering(WAYS[way]), json.dumps(SECRET, indent=1).encode()
    assert call_wsgi(GuardMiddleware(app), body) == call_wsgi(app, body)
    assert root_of(backend)["input"] == {"method": "POST", "path": "/ask", "query": {}, "body": HIDDEN}


def test_a_body_that_is_not_read_is_not_captured(guard: Guard, backend: MemoryBackend) -> None:
    """Nothing is read of a body that the application leaves, and nothing of it is logged."""
    stream = io.BytesIO(b'{"q": 1}')
    call_wsgi(GuardMiddleware(answering(lambda stream: b"no")), b'{"q": 1}', **{"wsgi.input": stream})
    assert stream.tell() == 0
    assert "body" not in root_of(backend)["input"]


FORM = "application/x-www-form-urlencoded"
PARTS = (
    b'--b\r\nContent-Disposition: form-data; name="q"\r\n\r\nwhy?\r\n'
    b'--b\r\nContent-Disposition: form-data; name="api_key"\r\n\r\nxyz\r\n'
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nabc'
    b"\r\n--b--\r\n"
)
FILE = {"filename": "a.txt", "size": 3, "content_type": "text/plain"}
LONG = b"x" * 5_000_000
KINDS: dict[str, tuple[str, bytes, Any]] = {
    "form": (FORM, b"a=1&a=2&secret=x", {"a": ["1", "2"], "secret": "[redacted]"}),
    "text": ("text/plain; charset=utf-8", "wörd".encode(), "wörd"),
    "another charset": ('text/plain; charset="ISO-8859-1"', "wörd".encode("latin-1"), "wörd"),
    "JSON in another charset": ("application/json;charset=utf-16", '{"q": "wörd"}'.encode("utf-16"), {"q": "wörd"}),
    "an unknown charset": ("text/plain; charset=klingon", "wörd".encode(), "wörd"),
    "no charset": ("text/plain; charset=punycode", "wörd".encode(), "wörd"),
    "no text": ("text/plain; charset=zlib", "wörd".encode(), "wörd"),
    "json lines": ("application/x-ndjson", b'{"password": "x"}\n{"n": 1}\n', '{"password": [redacted]}\n{"n": 1}\n'),
    "no type, text": ("", b"why?", "why?"),
    "no type, binary": ("", b"\xff\x00", "<2 bytes>"),
    "binary": ("image/png", b"\x89PNG", "<4 bytes of image/png>"),
    "multipart": ('multipart/form-data; boundary="b"', PARTS, {"q": "why?", "api_key": "[redacted]", "f": FILE}),
    "large multipart": ("multipart/form-data; boundary=b", LONG, "<5000000 bytes of multipart/form-data>"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", ["wsgi", "asgi"])
def test_each_kind_of_body(guard: Guard, backend: MemoryBackend, kind: str, protocol: str) -> None:
    """JSON, forms and text are logged in both directions, and of other bodies type and size."""
    content_type, body, shown = KINDS[kind]
    if protocol == "wsgi":
        app = answering(lambda stream: stream.read(), content_type)
        assert call_wsgi(GuardMiddleware(app), body, content_type) == call_wsgi(app, body, content_type)
    else:

        async def echo(scope: Any, receive: Any, send: Any) -> None:
            got = b""
            while (message := await receive()).get("more_body"):
                got += message["body"]
            got += message["body"]
            await send({
                "type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type.encode())],
            })
            await send({"type": "http.response.body", "body": got[:5], "more_body": True})
            await send({"type": "http.response.body", "body": got[5:]})

        parts = [body[:7], body[7:]]
        guarded = asyncio.run(call_asgi(AsyncGuardMiddleware(echo), parts, content_type))
        assert guarded == asyncio.run(call_asgi(echo, parts, content_type))
    row = root_of(backend)
    assert row["input"]["body"] == row["output"]["body"] == shown
    assert row["output"]["status_code"] == 200


def test_a_long_text_is_cut(guard: Guard, backend: MemoryBackend) -> None:
    """Of a text of 5 MB the beginning is logged up to the limit, marked as cut, and all of it passes."""
    app = answering(lambda stream: stream.read())
    assert call_wsgi(GuardMiddleware(app), LONG, "text/plain") == ("200 OK", LONG)
    row = root_of(backend)
    for body in (row["input"]["body"], row["output"]["body"]):
        assert body.startswith("xxx")
        assert body.endswith(CUT)
        assert len(body) <= guard.settings.max_payload_bytes + len(CUT) + 1


def test_secrets_in_long_json_are_redacted(guard: Guard, backend: MemoryBackend) -> None:
    """A JSON body that is cut has no secrets either."""
    body = json.dumps({"password": "hunter2", "q": "x" * 100_000}).encode()
    call_wsgi(GuardMiddleware(answering(lambda stream: stream.read(), JSON)), body)
    text = json.dumps(root_of(backend))
    assert "hunter2" not in text
    assert CUT in text


def test_a_compressed_body_is_logged_by_type_and_size(guard: Guard, backend: MemoryBackend) -> None:
    """A compressed body is not decompressed."""
    body = gzip.compress(b"{}")
    app = answering(lambda stream: stream.read())
    assert call_wsgi(GuardMiddleware(app), body, HTTP_CONTENT_ENCODING="gzip")[1] == body
    assert root_of(backend)["input"]["body"] == f"<{len(body)} bytes of application/json, gzip>"


def events() -> Iterator[str]:
    yield "data: wh"
    yield 'y?\n\ndata: {"token": "abc"}\n\n'


@pytest.mark.parametrize("way", ["middleware", "decorator"])
def test_a_stream_of_events(guard: Guard, backend: MemoryBackend, way: str) -> None:
    """The text of a stream of server-sent events is the output."""
    app = flask.Flask(__name__)

    def view() -> Any:
        return flask.Response(events(), mimetype="text/event-stream")

    app.get("/")(guard_handler(view) if way == "decorator" else view)
    if way == "middleware":
        app.wsgi_app = GuardMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    assert app.test_client().get("/").data.decode() == "".join(events())
    text = 'data: why?\n\ndata: {"token": [redacted]}\n\n'
    assert root_of(backend)["output"] == {"status_code": 200, "body": text}


def test_a_generator_s_text_is_the_output(guard: Guard, backend: MemoryBackend) -> None:
    """The output of a function that returns a generator is its text, and that of a tuple has the status too."""
    app = flask.Flask(__name__)
    app.get("/plain", endpoint="plain")(guard_handler(name="plain")(lambda: iter(["a", "b"])))
    app.get("/tuple", endpoint="tuple")(guard_handler(name="tuple")(lambda: (iter([b"a", b"b"]), 201)))
    assert [app.test_client().get(path).data for path in ("/plain", "/tuple")] == [b"ab", b"ab"]
    outputs = {row["span_attributes"]["name"]: row["output"] for row in backend.rows()}
    assert outputs == {"plain": "ab", "tuple": {"status_code": 201, "body": "ab"}}


def test_a_stream_that_fails_keeps_its_part(guard: Guard, backend: MemoryBackend) -> None:
    """What a stream sent before it raised is the output, beside the error."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"half"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        call_wsgi(GuardMiddleware(app))
    row = root_of(backend)
    assert row["output"] == {"status_code": 200, "body": "half"}
    assert "no more" in row["error"]


def test_a_starlette_stream(guard: Guard, backend: MemoryBackend) -> None:
    """A stream without a content type, as Starlette sends it by default, is logged as text."""

    async def ask(request: starlette.requests.Request) -> Any:
        assert await request.json() == SECRET

        async def chunks() -> Any:
            yield "wör"
            yield "d"

        return starlette.responses.StreamingResponse(chunks())

    app = starlette.applications.Starlette(routes=[starlette.routing.Route("/ask", ask, methods=["POST"])])
    sent = asyncio.run(call_asgi(AsyncGuardMiddleware(app), [json.dumps(SECRET).encode()]))
    assert b"".join(message.get("body", b"") for message in sent).decode() == "wörd"
    row = root_of(backend)
    assert (row["input"]["body"], row["output"]) == (HIDDEN, {"status_code": 200, "body": "wörd"})


def writing(environ: Any, start_response: Any) -> Any:
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"first ")
    return [b"later"]


def file(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"abc"))


def empty(environ: Any, start_response: Any) -> Any:
    start_response("204 No Content", [])
    return []


@pytest.mark.parametrize(
    ("app", "method", "output"),
    [
        (writing, "GET", {"status_code": 200, "body": "first later"}),
        (file, "GET", {"status_code": 200, "body": "<3 bytes of text/plain>"}),
        (empty, "GET", {"status_code": 204}),
    ],
)
def test_other_ways_to_answer(guard: Guard, backend: MemoryBackend, app: Any, method: str, output: Any) -> None:
    """Written chunks are part of the output, a file is logged by type and size, and an empty response by its status."""
    environ = {"wsgi.file_wrapper": FileWrapper}
    assert call_wsgi(GuardMiddleware(app), method=method, **environ) == call_wsgi(app, method=method, **environ)
    assert root_of(backend)["output"] == output


def test_the_input_s_other_attributes(guard: Guard, backend: MemoryBackend) -> None:
    """The application reaches all methods and attributes of the server's input, and misses those that it lacks."""

    def read(stream: Any) -> bytes:
        assert (stream.getvalue(), stream.closed, hasattr(stream, "none")) == (b"[1]", False, False)
        return b""

    call_wsgi(GuardMiddleware(answering(read)), b"[1]")


def test_nothing_is_copied_where_nothing_is_captured(guard: Guard, backend: MemoryBackend) -> None:
    """With capturing off the application gets the server's own input, and neither body is logged."""
    stream = io.BytesIO(b"[1]")

    def read(given: Any) -> bytes:
        assert given is stream
        return bytes(given.read())

    app = GuardMiddleware(answering(read), capture_input=False, capture_output=False)
    call_wsgi(app, b"[1]", **{"wsgi.input": stream})
    assert not {"input", "output"} & root_of(backend).keys()


@pytest.mark.parametrize("captures", [False, lambda request: {"only": request.method}])
def test_a_function_s_own_keyword_counts_under_the_middleware(
    guard: Guard, backend: MemoryBackend, captures: Any
) -> None:
    """Under the middleware, the keywords of the function's decorator decide about bodies."""
    app = flask.Flask(__name__)

    def view() -> Any:
        return flask.jsonify(flask.request.get_json())

    chosen = (lambda response: {"size": len(response.data)}) if captures else False
    app.post("/ask")(guard_handler(capture_input=captures, capture_output=chosen)(view))
    app.wsgi_app = GuardMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    assert app.test_client().post("/ask", json={"q": 1}).get_json() == {"q": 1}
    row = root_of(backend)
    assert row["input"] == {"method": "POST", "path": "/ask", "query": {}, **({"only": "POST"} if captures else {})}
    assert row.get("output") == ({"size": 8} if captures else None)


# Functions


def test_functions_of_the_middleware(guard: Guard, backend: MemoryBackend) -> None:
    """Functions get request and response with their bodies, and what they return is logged, redacted."""
    app = GuardMiddleware(
        answering(lambda stream: stream.read(), JSON),
        capture_input=lambda request: {"q": request.body["q"], "to": request.path, "token": "x"},
        capture_output=lambda response: [response.status_code, response.body, response.headers["content-type"]],
    )
    call_wsgi(app, json.dumps(SECRET).encode())
    row = root_of(backend)
    assert row["input"] == {"q": "why?", "to": "/ask", "token": "[redacted]"}
    assert row["output"] == [200, HIDDEN, JSON]


def test_a_request_without_a_body(guard: Guard, backend: MemoryBackend) -> None:
    """A function is called for a request without a body too, over both protocols, and None logs nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    def choose(request: Any) -> Any:
        return [request.method, request.body]

    call_wsgi(GuardMiddleware(empty, capture_input=choose, capture_output=lambda response: None), method="GET")
    asyncio.run(call_asgi(AsyncGuardMiddleware(app, capture_input=choose), [b""], method="GET"))
    assert [row["input"] for row in backend.rows()] == [["GET", None]] * 2
    assert "output" not in backend.rows()[0]


def test_functions_of_the_decorator(guard: Guard, backend: MemoryBackend) -> None:
    """Below the framework's decorator, functions get the framework's request and the function's result, or for a
    stream what it has sent."""
    app = flask.Flask(__name__)
    choose = {"capture_input": lambda request: request.get_json()["q"], "capture_output": lambda result: result["a"]}
    plain = guard_handler(name="plain", **choose)(lambda: {"a": 1, "b": flask.request.get_json()})
    stream = guard_handler(name="stream", capture_output=lambda response: response.body)(lambda: events())
    app.post("/plain", endpoint="plain")(plain)
    app.post("/stream", endpoint="stream")(stream)
    client = app.test_client()
    assert client.post("/plain", json=SECRET).get_json() == {"a": 1, "b": SECRET}
    assert client.post("/stream").data.decode() == "".join(events())
    rows = {row["span_attributes"]["name"]: row for row in backend.rows()}
    assert (rows["plain"]["input"], rows["plain"]["output"]) == ("why?", 1)
    assert rows["stream"]["output"].startswith("data: why?")


def test_a_function_that_raises(
    guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that raises is reported once, nothing is logged in its place, and the response is unchanged."""
    app = answering(lambda stream: stream.read())
    broken = GuardMiddleware(app, capture_input=lambda request: 1 / 0, capture_output=lambda response: 1 / 0)
    for _ in range(2):
        assert call_wsgi(broken, b"[1]") == ("200 OK", b"[1]")
    assert not any({"input", "output"} & row.keys() for row in backend.rows())
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    assert warnings == [
        f"trace-guard: could not call {keyword}; your code is not affected"
        for keyword in ("capture_input", "capture_output")
    ]


async def later(request: Any) -> None: ...


@pytest.mark.parametrize("value", ["sometimes", 3, later])
@pytest.mark.parametrize("keyword", ["capture_input", "capture_output"])
def test_a_bad_keyword_is_refused_at_import(guard: Guard, keyword: str, value: Any) -> None:
    """A keyword that is neither a boolean nor a plain function is refused where it stands."""
    for decorate in (GuardMiddleware, guard_handler):
        with pytest.raises(SettingsError, match=f"{keyword}= is .* not accepted: it takes true or false"):
            decorate(empty, **{keyword: value})  # type: ignore[operator]
