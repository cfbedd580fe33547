"""Durable functions with the real SDK and a stand-in for the service."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from durable_service import DurableService, context
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, Program, environment, pending_in, settings_for, until

from trace_guard import Deadline, Guard, recover
from trace_guard.backends.memory import MemoryBackend
from trace_guard.testing import BraintrustServer, LambdaSandbox
from trace_guard_lambda import guard_handler

pytest.importorskip("aws_durable_execution_sdk_python", reason="the SDK for durable functions wants Python 3.11")

CODE = Path(__file__).parents[1] / "functions" / "durable_cases"
WAYS = ["above", "below", "both"]


def _app() -> Any:
    spec = importlib.util.spec_from_file_location("durable_app", CODE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


app = _app()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the SDK's log messages about exceptions of user code."""
    monkeypatch.setattr(logging.getLogger("aws_durable_execution_sdk_python"), "disabled", True)
    for name in ("execution", "state", "lambda_service"):
        monkeypatch.setattr(logging.getLogger(f"aws_durable_execution_sdk_python.{name}"), "disabled", True)


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=directory, project="p")
    yield guard
    guard.close(timeout=1)


def tree(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """For each span, in the order of their starts: its parent's name, its name, outcome and status, and whether it
    is open."""
    names = {row["span_id"]: row["span_attributes"]["name"] for row in rows}
    return [
        (
            *(names[parent] for parent in row["span_parents"] or ["-"] if parent in names),
            row["span_attributes"]["name"], about(row).get("outcome"),
            (row.get("metadata") or {}).get("aws.lambda.durable_status"), "end" not in row["metrics"],
        )
        for row in sorted(rows, key=lambda row: row["metrics"]["start"])
    ]


def about(row: dict[str, Any]) -> dict[str, Any]:
    return dict((row.get("metadata") or {}).get("trace_guard") or {})


def root(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [row for row in rows if not row["span_parents"]]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_all_invocations_of_an_execution_are_one_trace(guard: Guard, backend: MemoryBackend, way: str) -> None:
    """An execution that waits is one trace with a span for each invocation, which contains the user's spans. The
    root spans the whole execution and stays open during the wait."""
    service = DurableService({"question": "who", "branches": True, "password": "x"})
    handler = app.make(way, service, guard)
    assert service.invoke(handler)["Status"] == "PENDING"
    first = [("order", None, None, True), ("order", "first run", "ok", "PENDING", False),
             ("first run", "plan", None, None, False), ("plan", "ask", None, None, False),
             ("first run", "rest", None, None, False)]
    assert tree(backend.rows()) == first
    waiting = root(backend.rows())
    assert (about(waiting), waiting["input"]) == (
        {"durable": True}, {"question": "who", "branches": True, "password": "[redacted]"}
    )
    service.let_waits_end()
    assert service.invoke(handler)["Status"] == "SUCCEEDED"
    assert tree(backend.rows()) == [
        ("order", "ok", None, False), *first[1:],
        ("order", "replay", "ok", "SUCCEEDED", False), ("replay", "plan", None, None, False),
        ("replay", "rest", None, None, False), *[("replay", "ask", None, None, False)] * 3,
    ]
    ended = root(backend.rows())
    assert len({row["root_span_id"] for row in backend.rows()}) == 1
    assert ended["metrics"]["start"] == service.started / 1000
    assert (ended["output"], ended["tags"]) == ({"answers": ["who?", "why?"]}, ["nightly"])
    assert (ended["metadata"]["tenant"], ended["metadata"]["aws.lambda.durable_execution_arn"]) == ("acme", service.arn)
    assert not {"faas.invocation_id", "faas.coldstart"} & ended["metadata"].keys()
    # Also not in "rest", which the suspension passed through.
    assert [row["error"] for row in backend.rows() if row.get("error")] == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("input", [{"raises": "no such order"}, {"fails": "no such order"}], ids=["at once", "later"])
def test_an_execution_that_fails_is_an_error(
    guard: Guard, backend: MemoryBackend, way: str, input: dict[str, str]
) -> None:
    """A FAILED answer, which is a normal return for the runtime, makes the execution and its last invocation errors."""
    statuses, _ = (service := DurableService(input)).run(app.make(way, service, guard))
    assert statuses == ["FAILED"] if "raises" in input else ["PENDING", "FAILED"]
    rows = backend.rows()
    last = max((row for row in rows if row["span_parents"]), key=lambda row: row["metrics"]["end"])
    assert [about(one)["outcome"] for one in (root(rows), last)] == ["error", "error"]
    assert "no such order" in root(rows)["error"]
    assert "no such order" in last["error"]
    assert all("end" in row["metrics"] for row in rows)


@pytest.mark.parametrize("way", WAYS)
def test_a_retried_exception_leaves_the_execution_open(
    guard: Guard, backend: MemoryBackend, way: str
) -> None:
    """An exception that makes the service retry is an error of the invocation, not of the execution."""
    service = DurableService({"try_again": True})
    with pytest.raises(app.InvocationError, match="not now"):
        service.invoke(app.make(way, service, guard))
    assert tree(backend.rows())[:2] == [("order", None, None, True), ("order", "first run", "error", None, False)]
    assert service.run(app.make(way, service, guard, app.patient))[0] == ["PENDING", "SUCCEEDED"]
    assert (about(root(backend.rows())), "error" in root(backend.rows())) == ({"durable": True, "outcome": "ok"}, False)


@pytest.mark.parametrize("way", WAYS)
def test_a_timeout_only_ends_its_invocation(guard: Guard, backend: MemoryBackend, way: str) -> None:
    """A timeout closes the spans of its invocation, and the next invocation continues the execution."""
    service, go_on = DurableService({}), threading.Event()
    handler = app.make(way, service, guard, lambda event, context: go_on.wait(20))
    calling = threading.Thread(target=service.invoke, args=(handler,), kwargs={"seconds": 0.4})
    calling.start()
    try:
        until(lambda: ("order", "first run", "timed_out", None, False) in tree(backend.rows()))
        assert tree(backend.rows())[0] == ("order", None, None, True)
    finally:
        go_on.set()
        calling.join()


def test_rows_may_arrive_in_any_order(directory: Path) -> None:
    """Late rows of an earlier invocation do not reopen or change an execution that has ended."""

    class Recording(MemoryBackend):
        def send(self, rows: Any, deadline: Any) -> None:
            sent.append(list(rows))
            super().send(rows, deadline)

    sent: list[list[bytes]] = []
    backend = Recording()
    guard = Guard(backend=backend, dir=directory, project="p")
    service = DurableService({})
    service.run(app.make("above", service, guard))
    guard.close(timeout=1)
    reverse = MemoryBackend()
    for batch in reversed(sent):
        reverse.send(batch, Deadline.never())
    plain = {row["id"]: {**row, "span_attributes": None} for row in reverse.rows()}
    assert plain == {row["id"]: {**row, "span_attributes": None} for row in backend.rows()}


def test_each_invocation_is_delivered_before_the_freeze(server: BraintrustServer) -> None:
    """Under the runtime, each invocation of an execution is delivered after its response and before the freeze."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    server.add_project("project", PROJECT_ID)
    env = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "PYTHONPATH": os.pathsep.join(paths),
    }
    with LambdaSandbox("deployed.handler", code=CODE, env=env) as function:
        for way in ("above", "below"):
            for status, still_open in (("PENDING", ["order"]), ("SUCCEEDED", [])):
                result = function.invoke(function.invoke(way).payload)
                assert (result.status, result.payload["Status"]) == ("ok", status)
                assert [row["span_attributes"]["name"] for row in server.open_spans()] == still_open
                assert pending_in(function.trace_guard_dir) == []
        assert "trace-guard" not in function.log
    assert [about(row)["outcome"] for row in server.span_rows() if not row["span_parents"]] == ["ok", "ok"]


def test_a_process_that_dies_leaves_the_execution_open(server: BraintrustServer, directory: Path) -> None:
    """After SIGKILL in an invocation, the next start closes that invocation's spans, and another process continues
    the execution."""
    code = f"""
        sys.path[:0] = [{str(CODE)!r}, {str(Path(__file__).parent)!r}]
        import app
        from durable_service import DurableService
        service = DurableService({{}})
        def die(event, context):
            context.step(lambda step: None, name="first")
            with app.braintrust.start_span("last words"):
                say(service.state)
                listen()
        handler = app.make("above", service)
        say(service.invoke(handler)["Status"])
        service.let_waits_end()
        service.invoke(app.make("above", service, function=die))
    """
    with Program(code, environment(server, directory, TRACE_GUARD_LINGER="0.01")) as program:
        program.expects("PENDING")
        service = DurableService(state=program.hears())
        until(lambda: {row["span_attributes"]["name"] for row in server.open_spans()} >= {"replay", "last words"})
        assert program.kill() == -signal.SIGKILL
    recover(settings_for(server, directory))
    assert [row["span_attributes"]["name"] for row in server.open_spans()] == ["order"]
    closed = {row["span_attributes"]["name"] for row in server.span_rows() if "closed_by" in about(row)}
    assert closed == {"replay", "last words"}
    guard = Guard(settings_for(server, directory))
    assert service.run(app.make("above", service, guard))[0][-1] == "SUCCEEDED"
    guard.close()
    assert server.open_spans() == []
    done = root(server.span_rows())
    assert (about(done), done["metrics"]["start"]) == ({"durable": True, "outcome": "ok"}, service.started / 1000)
    assert done["project_id"] == PROJECT_ID


@pytest.mark.parametrize("event", [
    {"DurableExecutionArn": 5, "CheckpointToken": "t"},
    {"DurableExecutionArn": "arn", "CheckpointToken": "t", "InitialExecutionState": 5},
    {"DurableExecutionArn": "arn", "CheckpointToken": "t", "InitialExecutionState": {"Operations": [None, "x"]}},
    {"DurableExecutionArn": "arn", "CheckpointToken": "t", "InitialExecutionState": {"Operations": [
        {"Type": "EXECUTION", "StartTimestamp": "soon", "ExecutionDetails": {"InputPayload": "{"}}]}},
    {"Records": []}, None, [], "text",
])
def test_odd_events_do_no_harm(guard: Guard, backend: MemoryBackend, event: Any) -> None:
    """Any event reaches the handler unchanged, and its trace is closed."""

    @guard_handler(guard=guard)
    def handler(event: Any, context: Any) -> Any:
        return event

    assert handler(event, context()) is event
    assert handler(event, SimpleNamespace(execution_context=5, state=None)) is event
    durable = isinstance(event, dict) and isinstance(event.get("DurableExecutionArn"), str)
    assert [about(row) for row in backend.rows() if "end" not in row["metrics"]] == [{"durable": True}] * durable
    assert "aws_durable_execution_sdk_python" in sys.modules
