"""Servers that import the application before they fork workers, with spans at import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gcf.services import Service, named, roots, run
from support import Program, environment, until

from trace_guard.testing import BraintrustServer

# The framework forks workers after the import of the module, and so does gunicorn with --preload. With one thread
# each, the requests that a busy worker can't take go to the others.
SERVERS = {
    "functions-framework": ("functions-framework --target main --port $PORT", "gcf_apps_function"),
    "gunicorn --preload": ("gunicorn --preload --workers 3 --bind :$PORT app:app", "gcf_apps_preloaded"),
}
REQUESTS = 40


@pytest.fixture(scope="module", params=SERVERS)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    which, env = SERVERS[request.param], {"WORKERS": "3", "THREADS": "1"}
    with BraintrustServer(latency=0.02) as server, run(which, server, throttle=False, **env) as sandbox:
        yield Service(sandbox, server)


def test_spans_at_import_and_several_workers(service: Service) -> None:
    """With spans logged at import, no worker hangs, every trace is closed, and each row arrives exactly once."""
    sandbox, server = service
    with ThreadPoolExecutor(8) as clients:
        paths = [f"/sleeps/0.0{number % 10}" for number in range(REQUESTS)]
        responses = list(clients.map(lambda path: sandbox.request("GET", path), paths))
    assert [response.status for response in responses] == [200] * REQUESTS
    workers = {int(response.body) for response in responses}
    assert len(workers) > 1
    until(lambda: "at import" in named(server.span_rows()) and not server.open_spans())
    rows = server.span_rows()
    assert Counter(row["span_attributes"]["name"].split("/")[0] for row in rows) == {
        "at import": 1, "GET ": REQUESTS, "work": REQUESTS,
    }
    assert len(roots(rows)) == REQUESTS + 1
    assert sandbox.pid in {row["output"] for row in rows if row["span_attributes"]["name"] == "at import"}
    assert {row["output"] for row in rows if row["span_attributes"]["name"] == "work"} == workers
    starts = Counter(
        row["id"] for request in server.requests for row in request.rows
        if (row.get("metrics") or {}).get("start") and row.get("input") is None and row.get("span_parents") is None
    )
    assert starts[named(rows)["at import"]["id"]] == 1
    assert sandbox.terminate().killed is False
    assert server.open_spans() == []


FORK = """
    import threading, braintrust, trace_guard
    guard = trace_guard.default_guard().start()
    logger = braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"])
    logging = True
    def busy():
        while logging:
            logger.start_span(name="parent's").end()
            time.sleep(0.0005)
    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(20):
        logger.start_span(name=f"before {number}").end()
        child = os.fork()
        if not child:
            with guard.invocation(f"child {number}"):
                with braintrust.start_span(name=f"below {number}"):
                    pass
            guard.flush(10)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    logging = False
    for thread in threads:
        thread.join()
    guard.flush(20)
    say("done")
"""


def test_a_fork_while_threads_log(server: BraintrustServer, directory: Path) -> None:
    """The children of a process that forks while its threads log trace without a hang, and no row is lost."""
    with Program(FORK, environment(server, directory)) as program:
        program.expects("done", seconds=60)
        program.ends_well()
    names = Counter(row["span_attributes"]["name"] for row in server.span_rows())
    assert names.pop("parent's") > 0
    expected = {f"{what} {number}": 1 for what in ("before", "child", "below") for number in range(20)}
    assert names == expected
    assert server.open_spans() == []
