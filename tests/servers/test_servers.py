"""The same promises under each server: delivery before the last byte, and nothing lost when the server stops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from gcf.services import Service, roots
from servers.installation import needs_servers
from servers.services import sandbox_of, serve
from support import until

from trace_guard.testing import BraintrustServer

pytestmark = needs_servers

GRANIAN = "granian --host 0.0.0.0 --port $PORT"
UWSGI = "uwsgi --http-socket :$PORT --need-app --die-on-term --wsgi-file any_wsgi.py"
SERVERS = {
    "gunicorn sync": "gunicorn --bind :$PORT any_wsgi",
    "gunicorn gthread": "gunicorn --bind :$PORT --threads 4 any_wsgi",
    "gunicorn gevent": "gunicorn --bind :$PORT -k gevent any_wsgi",
    "gunicorn gevent, preloaded": "gunicorn --bind :$PORT -k gevent --preload any_wsgi",
    "waitress": "waitress-serve --port=$PORT any_wsgi:application",
    "uwsgi, forking": f"{UWSGI} --master --processes 2",
    "uwsgi, forking with threads": f"{UWSGI} --master --processes 2 --threads 2",
    "uwsgi, lazy": f"{UWSGI} --master --processes 2 --enable-threads --lazy-apps",
    "granian wsgi": f"{GRANIAN} --interface wsgi any_wsgi:application",
    "granian asgi": f"{GRANIAN} --interface asgi any_asgi:application",
    "granian asgi without lifespan": f"{GRANIAN} --interface asginl any_asgi:application",
    "hypercorn": "hypercorn --bind 0.0.0.0:$PORT any_asgi:application",
    "uvicorn": "uvicorn --port $PORT any_asgi:application",
    "uvicorn without lifespan": "uvicorn --lifespan off --port $PORT any_asgi:application",
}
LATER = 5


@pytest.fixture(scope="module", params=SERVERS)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with serve(SERVERS[request.param], latency=0.02) as service:
        yield service


def _name(row: Any) -> str:
    return str(row.get("span_attributes", {}).get("name"))  # a row of an earlier trace may come late


def _ask(service: Service, path: str, method: str = "GET") -> list[Any]:
    # uWSGI and uvicorn close connections that the sandbox would use again.
    _, rows = service.ask(path, method, headers={"Connection": "close"})
    return rows


@pytest.mark.parametrize(("method", "path"), [("GET", "/ok"), ("GET", "/fails"), ("HEAD", "/ok"), ("GET", "/nothing")])
def test_delivered_before_the_last_byte(service: Service, method: str, path: str) -> None:
    """A trace is closed and delivered when the client has its response, also without a body that the server reads."""
    rows = _ask(service, path, method)
    (root,) = roots(rows)
    assert root["span_attributes"]["name"] == f"{method} {path}"
    assert "end" in root["metrics"]
    assert root["metadata"]["trace_guard"]["outcome"] == ("error" if path == "/fails" else "ok")


def test_nothing_is_lost_when_the_server_stops(service: Service) -> None:
    """Traces that wait for a CPU after their response arrive when the server is stopped, whatever hooks it calls,
    and it stops in time."""
    service.server.clear()
    for _ in range(LATER):
        service.sandbox.request("GET", "/later/ok", headers={"Connection": "close"})
    service.server.latency = 0.3
    ended = service.sandbox.terminate()
    assert not ended.killed, service.sandbox.log
    arrived = [row for row in service.server.span_rows() if _name(row) == "GET /later/ok"]
    assert len(arrived) == LATER
    assert service.server.open_spans() == []


@pytest.mark.parametrize("options", ["--enable-threads --py-call-uwsgi-fork-hooks", "--enable-threads --lazy-apps"])
def test_spans_at_import_under_uwsgi(options: str) -> None:
    """With the options that the warning names, spans at import arrive once for each process that imports the module."""
    command = f"{UWSGI} --master --processes 2 {options}"
    with serve(command, latency=0.02, throttle=False, SPAN_AT_IMPORT="1") as service:
        service.sandbox.request("GET", "/ok", headers={"Connection": "close"})
        imports = 2 if "lazy" in options else 1
        until(lambda: list(map(_name, service.server.span_rows())).count("at import") >= imports)
        assert not service.sandbox.terminate(10).killed
        names = [_name(row) for row in service.server.span_rows()]
        assert (names.count("at import"), names.count("GET /ok")) == (imports, 1)
        assert "--lazy-apps" not in service.sandbox.log


def test_uwsgi_without_fork_hooks_says_what_is_missing() -> None:
    """Spans at import, whose threads uWSGI's fork in C does not survive, are answered with the options that help."""
    with BraintrustServer() as server, contextlib.closing(
        sandbox_of(f"{UWSGI} --master", server, throttle=False, SPAN_AT_IMPORT="1")
    ) as sandbox:
        sandbox.startup_timeout = 1.0
        with contextlib.suppress(RuntimeError):  # the workers may never serve, which is what the warning says
            sandbox.start()
        until(lambda: "--lazy-apps or with --py-call-uwsgi-fork-hooks" in sandbox.log)


def test_gevent_that_patches_too_late_is_reported() -> None:
    """gunicorn's gevent worker with --preload breaks https for the whole service; the log has the fix."""
    nowhere = {"BRAINTRUST_API_URL": "https://localhost:1", "BRAINTRUST_APP_URL": "https://localhost:1"}
    with serve("gunicorn --bind :$PORT -k gevent --preload any_wsgi", throttle=False, **nowhere) as service:
        until(lambda: "`from gevent import monkey; monkey.patch_all()`" in service.sandbox.log)
