"""Delivery between the response and the freeze, under AWS's own runtime client."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, pending_in, until

from trace_guard.testing import BraintrustServer, Fault, LambdaSandbox

CODE = Path(__file__).parents[1] / "functions" / "after_response"
ROUND_TRIP = 0.2
"""Seconds that a delivery takes at least: who waits for one can't be done sooner, and who does not easily is."""
WAYS = {"open": "internal-extension", "closed": "before-next-event", "managed": "before-next-event"}


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(latency=ROUND_TRIP) as server:
        server.add_project("project", PROJECT_ID)
        yield server


def sandbox(server: BraintrustServer, *, registration: Any = "open", timeout: float = 3.0, **env: str) -> LambdaSandbox:
    environment = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID, **env,
    }
    return LambdaSandbox("app.handler", code=CODE, env=environment, timeout=timeout, registration=registration)


def roots(server: BraintrustServer) -> list[dict[str, Any]]:
    """The root spans, oldest first."""
    found = [row for row in server.span_rows() if not row["span_parents"]]
    return sorted(found, key=lambda row: row["metrics"]["start"])


@pytest.mark.parametrize("registration", WAYS)
def test_the_caller_does_not_wait(server: BraintrustServer, registration: str) -> None:
    """The response does not wait for delivery but the freeze does, so no span is open when the environment freezes."""
    with sandbox(server, registration=registration) as function:
        assert function.invoke({}).payload == {"before": None}
        for _ in range(4):
            sent = len(server.requests)
            result = function.invoke({})
            assert result.payload == {"before": ["delivered", WAYS[registration]]}
            assert result.seconds < ROUND_TRIP <= result.billed_seconds < 3.0
            assert [request.path for request in server.requests[sent:]] == ["/logs3"]
            assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
        assert "trace-guard" not in function.log
    assert [root["metadata"]["trace_guard"] for root in roots(server)] == [{"outcome": "ok"}] * 5


def test_an_error_is_delivered_after_its_response_too(server: BraintrustServer) -> None:
    """The error response of a handler that raises does not wait, and its trace is delivered before the freeze."""
    with sandbox(server) as function:
        function.invoke({})
        result = function.invoke({"do": "fail"})
        assert (result.status, result.payload["errorType"]) == ("error", "ValueError")
        assert result.seconds < ROUND_TRIP
        assert server.open_spans() == []
    assert roots(server)[-1]["error"].rstrip().endswith("ValueError: no such order")


def test_an_exception_that_kills_the_runtime_is_delivered_first(server: BraintrustServer) -> None:
    """An exception that kills the runtime is delivered before it leaves the handler, because no code runs after it."""
    with sandbox(server) as function:
        function.invoke({})
        result = function.invoke({"do": "leave"})
        assert (result.status, result.exit_status) == ("crashed", 3)
        assert server.open_spans() == []
        assert roots(server)[-1]["error"].rstrip().endswith("SystemExit: 3")
        # The environment restarts.
        assert function.invoke({}).status == "ok"


@pytest.mark.parametrize("registration", ["open", "closed"])
def test_a_result_that_is_no_json_is_an_error(server: BraintrustServer, registration: str) -> None:
    """A result that the runtime can't serialise as JSON makes the root an error."""
    with sandbox(server, registration=registration) as function:
        function.invoke({})
        result = function.invoke({"do": "set"})
        assert (result.status, result.payload["errorType"]) == ("error", "Runtime.MarshalError")
        assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
        assert function.invoke({}).status == "ok"
    first, found, last = roots(server)
    assert found["metadata"]["trace_guard"] == {"outcome": "error", "reason": "result"}
    assert found["error"].startswith("the result was not accepted: Runtime.MarshalError: Unable to marshal response")
    assert [root["metadata"]["trace_guard"] for root in (first, last)] == [{"outcome": "ok"}] * 2


def test_a_result_that_is_too_large_is_an_error(server: BraintrustServer) -> None:
    """A result over 6 MB, which the service refuses, makes the root an error."""
    with sandbox(server) as function:
        function.invoke({})
        result = function.invoke({"do": "much"})
        assert result.status in ("error", "crashed")
        assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
    found = roots(server)[1]
    assert found["metadata"]["trace_guard"] == {"outcome": "error", "reason": "result"}
    assert found["error"].startswith("the result was not accepted: ")


def test_a_dead_backend_bills_its_budget_at_most(server: BraintrustServer) -> None:
    """A backend that never answers does not delay the response, and the billed time ends with the delivery budget."""
    with sandbox(server, TRACE_GUARD_FLUSH_TIMEOUT="0.4", timeout=10) as function:
        function.invoke({})
        server.fail("/logs3", Fault.black_hole())
        result = function.invoke({})
        assert result.seconds < ROUND_TRIP
        assert 0.4 <= result.billed_seconds < 1.9  # the default is 2
        assert pending_in(function.trace_guard_dir) != []
        server.heal()
        function.invoke({})
        function.invoke({})
        assert (server.open_spans(), pending_in(function.trace_guard_dir)) == ([], [])
    assert len(roots(server)) == 4


def test_delivery_ends_before_the_timeout(server: BraintrustServer) -> None:
    """Delivery after the response ends 300 ms before the function's timeout, so that no timeout is billed."""
    server.fail("/logs3", Fault.black_hole())
    with sandbox(server, timeout=1.0) as function:
        results = [function.invoke({}) for _ in range(2)]
    assert [result.status for result in results] == ["ok", "ok"]
    assert max(result.billed_seconds for result in results) < 1.0


def test_an_unguarded_function_is_not_delayed(server: BraintrustServer) -> None:
    """The extension does not delay the end of an invocation that runs no guarded code."""
    with sandbox(server) as function:
        function.invoke({})
        results = [function.invoke({"bypass": True}) for _ in range(3)]
    assert [result.payload for result in results] == ["bypassed"] * 3
    assert max(result.billed_seconds for result in results) < 2.7  # the extension would give up then


def test_the_user_can_choose_delivery_before_the_response(server: BraintrustServer) -> None:
    """With flush="before-response" the response waits for delivery, and the keyword overrides the environment."""
    with sandbox(server, TRACE_GUARD_FLUSH="before-response") as function:
        function.invoke({})
        results = [function.invoke({}) for _ in range(3)]
    assert [result.payload for result in results] == [{"before": ["delivered", "before-response"]}] * 3
    assert statistics.median(result.seconds for result in results) >= ROUND_TRIP


def test_tasks_that_an_async_handler_left_behind_are_named(server: BraintrustServer) -> None:
    """The root names tasks that still run when an async handler returns, because they will be frozen with it."""
    with sandbox(server) as function:
        function.invoke({"do": "leave_tasks"})
    assert roots(server)[0]["metadata"]["asyncio.pending_tasks"] == {"count": 2, "names": ["refresh", "warm up"]}


def test_many_orphans_do_not_delay_the_start(server: BraintrustServer) -> None:
    """Orphaned journals beyond half a megabyte are closed after the first response, not before it."""
    with sandbox(server) as function:
        server.refuse_connections()
        crashed = function.invoke({"do": "crash", "words": "x" * (1 << 20)})
        assert crashed.status == "crashed"
        server.accept_connections()
        assert function.invoke({}).status == "ok"
        until(lambda: len(roots(server)) == 2 and not server.open_spans(), what="the end of what had crashed")
        assert pending_in(function.trace_guard_dir) == []
    assert roots(server)[0]["metadata"]["trace_guard"]["outcome"] == "abandoned"
