"""The middleware for WSGI, around applications under real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from contract.suite import outcomes, parents
from gcf.services import GTHREAD, Service, named, roots, run
from support import PROJECT_ID, until
from werkzeug.test import Client

from trace_guard import Guard, SettingsError
from trace_guard.backends.memory import MemoryBackend
from trace_guard.testing import BraintrustServer
from trace_guard_gcf.middleware import GuardMiddleware


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with BraintrustServer(latency=0.05) as server, run(GTHREAD, server) as sandbox:
        yield Service(sandbox, server)


def test_a_request_is_one_trace(service: Service) -> None:
    """A request is a closed trace named after its route, with its spans below, delivered before the response ends."""
    response, rows = service.ask("/orders/7?why=not&api_key=secret")
    assert (response.status, response.json()) == (200, {"order": "7"})
    assert parents(rows) == {"GET /orders/<order>": None, "look up 7": "GET /orders/<order>"}
    assert outcomes(rows) == {"GET /orders/<order>": {"outcome": "ok"}, "look up 7": None}
    root = named(rows)["GET /orders/<order>"]
    assert root["input"] == {"method": "GET", "path": "/orders/7", "query": {"why": "not", "api_key": "[redacted]"}}
    assert root["tags"] == ["wsgi"]
    facts = {key: value for key, value in root["metadata"].items() if key.startswith(("http.", "url.", "faas.t"))}
    assert facts == {
        "http.request.method": "GET", "url.path": "/orders/7", "http.route": "/orders/<order>",
        "http.response.status_code": 200, "faas.trigger": "http",
    }
    assert root["metadata"]["cloud.platform"] == "gcp_cloud_run"


def test_an_exception_that_became_a_500(service: Service) -> None:
    """An exception that Flask turns into a 500 is recorded on the root with its type and traceback."""
    response, rows = service.ask("/fails")
    assert response.status == 500
    assert outcomes(rows) == {"GET /fails": {"outcome": "error"}, "step": None}
    root = named(rows)["GET /fails"]
    assert root["error"].startswith("Traceback")
    assert "in fails" in root["error"]
    assert root["error"].rstrip().endswith("ValueError: no such order")
    assert root["metadata"]["http.response.status_code"] == 500


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/answers/404", 404, None), ("/answers/404?raise=1", 404, None), ("/nowhere", 404, None),
        ("/answers/503", 503, "HTTP 503"), ("/answers/503?raise=1", 503, "HTTP 503"),
        ("/answers/200?raise=busy", 503, "HTTP 503"),
    ],
)
def test_a_status_is_an_error_from_500_on(service: Service, path: str, status: int, error: str | None) -> None:
    """A response below 500 is no error, however it is made, and a response from 500 on is an error."""
    response, rows = service.ask(path)
    (root,) = rows
    assert response.status == status == root["metadata"]["http.response.status_code"]
    assert (root.get("error"), root["metadata"]["trace_guard"]["outcome"]) == (error, "error" if error else "ok")


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/answers/204", 204, b""),
        ("HEAD", "/streams", 200, b""),
        ("HEAD", "/plain/body", 200, b""),
        ("GET", "/file", 200, b"content of a file"),
        ("GET", "/plain/writes", 200, b"firstlater"),
        ("GET", "/plain/sends-nothing", 302, b""),
        ("GET", "/plain/body", 200, b"for HEAD too"),
    ],
)
def test_every_kind_of_response(service: Service, method: str, path: str, status: int, body: bytes) -> None:
    """However a response ends on the wire, it is unchanged and its trace has arrived by then."""
    response, rows = service.ask(path, method)
    assert (response.status, response.body, response.end) == (status, body, "complete")
    (root,) = rows
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert "client_disconnected" not in root["metadata"]


def test_excluded_paths(service: Service) -> None:
    """A path that is excluded is served and not traced."""
    response, rows = service.ask("/healthz")
    assert (response.body, rows) == (b"well", [])


def test_a_decorator_below(service: Service) -> None:
    """A guarded function below the middleware opens no root of its own and adds its description to the request's
    root."""
    response, rows = service.ask("/decorated")
    assert response.body == b"done"
    assert parents(rows) == {"decorated": None, "within": "decorated"}


def test_a_parent_in_braintrust() -> None:
    """A request whose headers name a Braintrust parent is a span below it. Other requests are traces of their own."""
    with BraintrustServer() as server, run(GTHREAD, server, cloud_trace=False) as sandbox:
        trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        headers = {"traceparent": f"00-{trace}-{span}-01"}
        _, (foreign, _) = Service(sandbox, server).ask("/orders/1", headers=headers)
        headers["baggage"] = f"braintrust.parent=project_id%3A{PROJECT_ID}"
        _, rows = Service(sandbox, server).ask("/orders/2", headers=headers)
    assert foreign["span_parents"] is None
    assert foreign["metadata"]["traceparent"] == f"00-{trace}-{span}-01"
    assert {row["root_span_id"] for row in rows} == {trace}
    assert named(rows)["GET /orders/<order>"]["span_parents"] == [span]


def test_the_platforms_deadline() -> None:
    """A request that runs into the platform's timeout is closed and delivered before, with the span that was
    running."""
    with BraintrustServer() as server, run(GTHREAD, server, timeout=1) as sandbox:
        _, rows = Service(sandbox, server).ask("/sleeps/30.0")
    timed_out = {"outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline"}
    assert outcomes(rows) == {
        "GET /sleeps/<float:seconds>": {**timed_out, "running": "inner"}, "outer": timed_out, "inner": timed_out,
    }


def test_around_the_frameworks_application() -> None:
    """In a function's module, the middleware guards the Functions Framework's application."""
    command = ("functions-framework --target main --port $PORT", "gcf_apps_function")
    with BraintrustServer() as server, run(command, server, throttle=False) as sandbox:
        response = sandbox.request("GET", "/some/where")
        assert response.status == 200
        until(lambda: named(server.span_rows()).keys() == {"GET /some/where", "work", "at import"})
        assert server.open_spans() == []
        assert len(roots(server.span_rows())) == 2


# In this process


def hello(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def names(backend: MemoryBackend) -> list[str]:
    return [row["span_attributes"]["name"] for row in backend.rows()]


def test_names(guard: Guard, backend: MemoryBackend) -> None:
    """A root span has the given name, or the result of the given function."""
    for name in ("fixed", lambda request: f"{request.path} of {request.headers['host']}", None):
        Client(GuardMiddleware(hello, name=name)).get("/path")
    assert names(backend) == ["fixed", "/path of localhost", "GET /path"]


def test_a_name_function_that_raises(guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture) -> None:
    """If the function for names raises, this is logged and the request has its default name."""
    assert Client(GuardMiddleware(hello, name=lambda request: str(1 / 0))).get("/path").data == b"hello"
    assert names(backend) == ["GET /path"]
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "trace-guard: could not name a request; your code is not affected"
    ]
    caplog.clear()


def test_a_bad_keyword_shows_at_once() -> None:
    """An invalid keyword raises at once."""
    with pytest.raises(SettingsError, match="flush='later'"):
        GuardMiddleware(hello, flush="later")


def test_a_bad_environment_takes_nothing_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With an invalid variable, requests are served unguarded and the log has the reason."""
    monkeypatch.setattr("trace_guard.guard._default", None)
    monkeypatch.setenv("TRACE_GUARD_RESERVE", "soon")
    assert Client(GuardMiddleware(hello)).get("/").data == b"hello"
    assert any("TRACE_GUARD_RESERVE" in record.getMessage() for record in caplog.records)
    assert os.environ["TRACE_GUARD_RESERVE"] == "soon"
