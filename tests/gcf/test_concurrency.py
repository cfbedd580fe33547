"""Many concurrent requests, in threads and in an event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from gcf.services import UVICORN, Service, run

from trace_guard.testing import BraintrustServer

CLIENTS, REQUESTS = 64, 2000
THREADS = ("gunicorn --bind :$PORT --threads 80 app:app", "gcf_apps_wsgi")
SERVICES = {"80 threads": (THREADS, "GET /orders/<order>"), "one event loop": (UVICORN, "GET /orders/{order}")}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Iterator[tuple[Service, str]]:
    which, root = SERVICES[request.param]
    with BraintrustServer(latency=0.05) as server, run(which, server) as sandbox:
        yield Service(sandbox, server), root


def test_traces_do_not_mix(service: tuple[Service, str]) -> None:
    """In 2,000 requests by 64 clients, each trace has only its own spans, none is open, and deliveries are shared."""
    (sandbox, server), root = service
    together = threading.Barrier(CLIENTS)

    def client(first: int) -> list[int]:
        together.wait(20)
        return [sandbox.request("GET", f"/orders/{number}").status for number in range(first, REQUESTS, CLIENTS)]

    with ThreadPoolExecutor(CLIENTS) as clients:
        statuses = [status for each in clients.map(client, range(CLIENTS)) for status in each]
    assert statuses == [200] * REQUESTS
    traces: dict[str, set[str]] = {}
    for row in server.span_rows():
        name = row["span_attributes"]["name"]
        traces.setdefault(row["root_span_id"], set()).add(
            f"look up {row['input']['path'].rpartition('/')[2]}" if name == root else f"below {name}"
        )
    expected = sorted([f"below look up {number}", f"look up {number}"] for number in range(REQUESTS))
    assert sorted(sorted(names) for names in traces.values()) == expected
    assert server.open_spans() == []
    assert len(server.requests_to("/logs3")) < REQUESTS / 2
