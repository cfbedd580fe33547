"""Services with a failing backend, which must not affect them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from gcf.services import GTHREAD, UVICORN, Service, roots, run
from support import until

from trace_guard.testing import BraintrustServer, Fault

FLUSH_SECONDS = 0.5
REQUESTS = 24
# Allows for emptying the queue and for two busy cores. Without a bound it would take more than ten seconds.
SLACK_SECONDS = 3.0
FAULTS = {"black hole": Fault.black_hole(), "500": Fault.status(500), "reset": Fault.reset()}


@pytest.fixture(scope="module", params=["gthread", "uvicorn"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    which = {"gthread": GTHREAD, "uvicorn": UVICORN}[request.param]
    with BraintrustServer() as server, run(which, server, TRACE_GUARD_FLUSH_TIMEOUT=str(FLUSH_SECONDS)) as sandbox:
        sandbox.request("GET", "/orders/1")
        yield Service(sandbox, server)


@pytest.mark.parametrize("fault", [*FAULTS, "refused"])
def test_no_request_fails_or_waits_for_long(service: Service, fault: str) -> None:
    """With any failure of the backend, no request fails or waits longer than the budget, and no trace is lost."""
    sandbox, server = service
    server.clear()
    if fault == "refused":
        server.refuse_connections()
    else:
        server.fail("/logs3", FAULTS[fault])
    paths = [("/streams?length=1", "/orders/7")[number % 2] for number in range(REQUESTS)]
    try:
        with ThreadPoolExecutor(8) as clients:
            responses = list(clients.map(lambda path: sandbox.request("GET", path), paths))
    finally:
        server.heal()
        server.accept_connections()
    assert {(response.status, response.end) for response in responses} == {(200, "complete")}
    assert max(response.last_byte_seconds for response in responses) < FLUSH_SECONDS + SLACK_SECONDS

    def arrived() -> bool:
        sandbox.request("GET", "/healthz")
        sandbox.request("GET", "/orders/8")
        paths = [(row.get("input") or {}).get("path") for row in roots(server.span_rows())]
        return sum(path in ("/streams", "/orders/7") for path in paths) == REQUESTS and not server.open_spans()

    until(arrived)
