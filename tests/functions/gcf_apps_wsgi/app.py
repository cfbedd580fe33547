"""A service in Flask and plain WSGI for a real server."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import braintrust
import flask

from trace_guard_gcf import guard_handler
from trace_guard_gcf.middleware import GuardMiddleware

app = flask.Flask(__name__)
_gate = threading.Event()


@app.get("/orders/<order>")
def order_of(order: str) -> Any:
    with braintrust.start_span(name=f"look up {order}"):
        return {"order": order}


@app.get("/fails")
def fails() -> Any:
    with braintrust.start_span(name="step"):
        raise ValueError("no such order")


class Busy(Exception):
    pass


@app.errorhandler(Busy)
def is_busy(error: Busy) -> Any:
    return "busy", 503


@app.get("/answers/<int:status>")
def answers(status: int) -> Any:
    if flask.request.args.get("raise") == "busy":
        raise Busy
    if flask.request.args.get("raise"):
        flask.abort(status)
    return ("", status) if status == 204 else (f"status {status}", status)


@app.get("/streams")
def streams() -> Any:
    """``parts`` chunks of ten bytes; ``length``: with a Content-Length; ``fails`` after so many; ``pause``: seconds
    between them, or until ``/goes-on``; ``context``: with Flask's context kept."""
    asked = flask.request.args
    parts, fails = int(asked.get("parts", 3)), int(asked.get("fails", -1))
    _gate.clear()

    def body() -> Any:
        with braintrust.start_span(name="model"):
            for number in range(parts):
                if number == fails:
                    raise ValueError("the model is gone")
                with braintrust.start_span(name=f"token {number}"):
                    pass
                yield f"token {number:03}\n"
                if "gate" in asked:
                    _gate.wait(20)
                time.sleep(float(asked.get("pause", 0)))
        with braintrust.start_span(name="after the last chunk"):
            pass

    items = flask.stream_with_context(body()) if "context" in asked else body()
    headers = {"Content-Length": str(parts * 10)} if "length" in asked else {}
    return flask.Response(items, headers=headers)


@app.get("/goes-on")
def goes_on() -> Any:
    _gate.set()
    return "on"


@app.get("/sleeps/<float:seconds>")
def sleeps(seconds: float) -> Any:
    with braintrust.start_span(name="outer"), braintrust.start_span(name="inner"):
        time.sleep(seconds)
    return "woken"


@app.get("/file")
def file() -> Any:
    return flask.send_file(io.BytesIO(b"content of a file"), mimetype="text/plain")


@app.get("/decorated")
@guard_handler(name="decorated")
def decorated() -> Any:
    with braintrust.start_span(name="within"):
        return "done"


@app.get("/healthz")
def healthz() -> Any:
    return "well"


def plain(environ: dict[str, Any], start_response: Any) -> Any:
    """Responses that are only possible in plain WSGI."""
    path = environ["PATH_INFO"]
    if path == "/plain/writes":
        write = start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
        write(b"first")
        write(b"later")
        return []
    if path == "/plain/sends-nothing":
        start_response("302 Found", [("Location", "/"), ("Content-Length", "0")])
        return iter([b""])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (part for part in [b"for HEAD ", b"too"])


flask_app = app.wsgi_app
app.wsgi_app = GuardMiddleware(  # type: ignore[method-assign]
    lambda environ, start_response: (
        plain if environ["PATH_INFO"].startswith("/plain/") else flask_app
    )(environ, start_response),
    exclude=["/healthz", "/goes-on"], tags=["wsgi"],
)
