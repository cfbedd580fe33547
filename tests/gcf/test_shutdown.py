"""The end of an instance: SIGTERM, and SIGKILL ten seconds later."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from gcf.services import GTHREAD, SYNC, UVICORN, named, roots, run
from support import Program, environment, journals, until

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, HttpResponse, Termination

PRELOADED = ("gunicorn --bind :$PORT --preload --threads 16 --workers 2 app:app", "gcf_apps_wsgi")
GUNICORN_UVICORN = ("gunicorn --bind :$PORT --worker-class uvicorn_worker.UvicornWorker app:app", "gcf_apps_asgi")
FRAMEWORK = ("functions-framework --target main --port $PORT", "gcf_apps_sync_function")
ASYNC_FRAMEWORK = ("functions-framework --asgi --target main --port $PORT", "gcf_apps_async_function")
SERVERS = {
    "gunicorn sync": SYNC, "gunicorn gthread": GTHREAD, "gunicorn --preload": PRELOADED, "uvicorn": UVICORN,
    "gunicorn with uvicorn": GUNICORN_UVICORN, "functions-framework": FRAMEWORK,
    "functions-framework --asgi": ASYNC_FRAMEWORK,
}
GRACE_SECONDS = 10.0


class Ended(NamedTuple):
    """The results of a service that was shut down during requests."""

    rows: list[Row]
    quick: HttpResponse | None
    termination: Termination


def end(which: tuple[str, str]) -> Ended:
    """Send a request that takes a minute and, if the server answers concurrently, one that takes three seconds, and
    end the instance."""
    with BraintrustServer(latency=0.05) as server, run(which, server) as sandbox, ThreadPoolExecutor(2) as clients:
        sandbox.request("GET", "/orders/1")
        server.clear()
        slow = clients.submit(sandbox.request, "GET", "/sleeps/60.0")
        until(lambda: roots(server.rows()))
        quick: Future[HttpResponse] | None = None
        if which is not SYNC:
            quick = clients.submit(sandbox.request, "GET", "/sleeps/3.0")
            until(lambda: len({row["id"] for row in roots(server.rows())}) == 2)
        termination = sandbox.terminate(GRACE_SECONDS)
        slow.result(20)
        return Ended(server.span_rows(), quick.result(20) if quick else None, termination)


@pytest.fixture(scope="module")
def ended() -> Iterator[dict[str, Future[Ended]]]:
    """The results of all servers, which are ended concurrently because each takes ten seconds."""
    with ThreadPoolExecutor(len(SERVERS)) as all_at_once:
        yield {name: all_at_once.submit(end, which) for name, which in SERVERS.items()}


def seconds_of(root: Row) -> float:
    """The seconds that the request was asked to take."""
    path = root["metadata"]["url.path"]
    return float(path.rpartition("/")[2])


@pytest.mark.parametrize("name", SERVERS)
def test_requests_that_do_not_end_in_time(ended: dict[str, Future[Ended]], name: str) -> None:
    """Requests that are still running shortly before the kill are closed as terminated, with their children, and
    delivered."""
    rows, _, termination = ended[name].result(60)
    assert termination.killed
    (root,) = [row for row in roots(rows) if seconds_of(row) == 60]
    trace = [row for row in rows if row["root_span_id"] == root["root_span_id"]]
    assert len(trace) > 1
    abouts = [row["metadata"]["trace_guard"] for row in trace]
    assert {(one["outcome"], one["closed_by"], one["reason"]) for one in abouts} == {("terminated", "guard", "signal")}
    assert root["error"].startswith("Terminated: SIGTERM came ")
    lasted = root["metrics"]["end"] - root["metrics"]["start"]
    assert 7.5 < lasted < 12


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "gunicorn sync"])
def test_requests_that_end_in_time(ended: dict[str, Future[Ended]], name: str) -> None:
    """A request that ends within the grace period is answered, and its trace has its own outcome."""
    rows, quick, _ = ended[name].result(60)
    assert quick is not None
    assert (quick.status, quick.end) == (200, "complete")
    (root,) = [row for row in roots(rows) if seconds_of(row) == 3]
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert 3 <= root["metrics"]["end"] - root["metrics"]["start"] < 6


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread", "uvicorn", "functions-framework"])
def test_the_servers_own_shutdown_is_not_changed(name: str) -> None:
    """An idle server ends as without the guard: with the same status and as fast."""

    def end_idle(**env: str) -> Termination:
        with BraintrustServer() as server, run(SERVERS[name], server, **env) as sandbox:
            assert sandbox.request("GET", "/orders/1").status == 200
            return sandbox.terminate(GRACE_SECONDS)

    with ThreadPoolExecutor(2) as both:
        plain = both.submit(end_idle, TRACE_GUARD_DISABLED="true")
        guarded = both.submit(end_idle)
        expected, found = plain.result(60), guarded.result(60)
    assert (found.exit_status, found.killed) == (expected.exit_status, expected.killed)
    # A gunicorn worker checks once a second whether it should end.
    assert abs(found.seconds - expected.seconds) < 2.0


OTHER = """
    import trace_guard, braintrust
    from trace_guard_gcf.middleware import GuardMiddleware
    def app(environ, start_response):
        with braintrust.start_span(name="step"):
            say("serving")
            while True:
                time.sleep(0.02)  # a signal just before a long one would be noticed after it
    GuardMiddleware(app)({"REQUEST_METHOD": "GET", "PATH_INFO": "/path"}, None)
"""


def test_a_program_without_a_handler(server: BraintrustServer, directory: Path) -> None:
    """A server without a handler dies of the signal at once, and its open invocations are closed and delivered."""
    with Program(OTHER, environment(server, directory)) as program:
        program.expects("serving")
        program.signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM
    assert named(server.span_rows()).keys() == {"GET /path", "step"}
    assert server.open_spans() == []
    assert named(server.span_rows())["GET /path"]["metadata"]["trace_guard"]["outcome"] == "terminated"


def test_a_program_with_a_handler_of_its_own(server: BraintrustServer, directory: Path) -> None:
    """A program's own handler decides what happens, and the request continues until then."""
    handler = 'signal.signal(signal.SIGTERM, lambda *_: say("told"))'
    code = OTHER.replace("    import trace_guard,", f"    {handler}\n    import trace_guard,")
    with Program(code, environment(server, directory)) as program:
        program.expects("serving")
        program.signal(signal.SIGTERM)
        program.expects("told")
        assert not program.ended
        assert [row for row in server.span_rows() if "end" in row["metrics"]] == []


STOPPED = """
    import asyncio, threading, urllib.request, uvicorn
    from trace_guard_gcf import AsyncGuardMiddleware
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})
        while scope["type"] == "lifespan":
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
    def request(port):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/path").read()
        say("answered")
    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            port = self.servers[0].sockets[0].getsockname()[1]
            threading.Thread(target=request, args=(port,), daemon=True).start()
    Server(uvicorn.Config(AsyncGuardMiddleware(app), port=0, log_level="error")).run()
"""


def test_a_clean_stop_leaves_no_journal(server: BraintrustServer, directory: Path) -> None:
    """uvicorn lets SIGTERM kill it after it has ended its requests. Nothing is left on disk then."""
    with Program(STOPPED, environment(server, directory)) as program:
        program.expects("answered")
        program.signal(signal.SIGTERM)
        program.wait()
    assert named(server.span_rows()).keys() == {"GET /path"}
    assert journals(directory) == []
