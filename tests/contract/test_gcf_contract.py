"""The contract for functions of every kind under the Functions Framework and its real servers."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from contract.suite import Contract, Seen
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, until

from trace_guard.testing import BraintrustServer, CloudRunSandbox

TESTS = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


class Function(NamedTuple):
    """A function or a service of ``functions/gcf_contract``.

    Attributes:
        request: the path, headers and body that make it run a piece of user code.
        input: the logged input of that request.
        server: the server of a service, whose middleware sees responses and no results.
    """

    target: str
    request: Callable[[str], tuple[str, dict[str, str], Any]]
    input: Callable[[str], Any]
    options: str = ""
    server: str = ""

    @property
    def command(self) -> str:
        return self.server or f"functions-framework --target {self.target} --host 127.0.0.1 {self.options}"


def as_json(code: str) -> tuple[str, dict[str, str], Any]:
    return "/ask", {}, {"code": code}


def as_query(code: str) -> tuple[str, dict[str, str], Any]:
    return f"/ask?code={code}", {}, None


def as_cloud_event(code: str) -> tuple[str, dict[str, str], Any]:
    attributes = {"specversion": "1.0", "id": "e1", "type": "order.placed", "source": "//shop"}
    return "/", {f"ce-{name}": value for name, value in attributes.items()}, {"code": code}


def as_background_event(code: str) -> tuple[str, dict[str, str], Any]:
    context = {"eventId": "e1", "eventType": "order.placed", "timestamp": "2026-01-01T00:00:00Z", "resource": "shop"}
    return "/", {}, {"context": context, "data": {"code": code}}


def request_of(code: str) -> Any:
    return {"method": "POST", "path": "/ask", "body": {"code": code}}


def data_of(code: str) -> Any:
    return {"code": code}


def query_of(code: str) -> Any:
    return {"method": "POST", "path": "/ask", "query": {"code": code}}


FUNCTIONS = [
    Function("http", as_json, request_of),
    Function("cloud_event", as_cloud_event, data_of),
    Function("event", as_background_event, data_of, "--signature-type event"),
    Function("typed", as_json, request_of),
    Function("aio_http", as_json, request_of),
    Function("aio_cloud_event", as_cloud_event, data_of),
    Function("aio_in_thread", as_query, query_of),
    Function("wsgi", as_query, query_of, server="gunicorn --bind 127.0.0.1:$PORT --threads 8 wsgi:app"),
    Function("asgi", as_query, query_of, server="uvicorn --host 127.0.0.1 --port $PORT asgi:app"),
]


class InFramework:
    """Calls the function over HTTP. The exception that left the guard is in a file, because the framework answers it
    with a response."""

    def __init__(self, function: Function, sandbox: CloudRunSandbox, server: BraintrustServer, report: Path) -> None:
        self.captures_output = not function.server
        self._function = function
        self._sandbox = sandbox
        self._server = server
        self._report = report
        self._status = 0

    def run(self, code: Callable[[], Any]) -> Seen:
        self._server.clear()
        self._report.unlink(missing_ok=True)
        until(lambda: self._ask(code.__name__))
        report = json.loads(self._report.read_text())
        seen = Seen(value=report.get("value"), rows=self._server.span_rows())
        if "error" in report:
            seen.error = type(report["error"], (Exception,), {})()
            assert self._status >= 500
        else:
            assert self._status == 200, self._sandbox.log
        for row in seen.rows:
            about = (row.get("metadata") or {}).pop("trace_guard", None)
            if row["span_parents"] is None:
                assert row.pop("input") == self._function.input(code.__name__)
                assert self._function.server or row["metadata"]["faas.invocation_id"]
                assert row["metadata"]["cloud.provider"] == "gcp"
            row["metadata"] = {} if about is None else {"trace_guard": about}
        return seen

    def _ask(self, code: str) -> bool:
        """True once the function has run. A request may be lost with a worker that has ended, and gunicorn itself ends
        if a worker exits with status 3, "failed to boot"."""
        path, headers, body = self._function.request(code)
        self._sandbox.start()
        with contextlib.suppress(RuntimeError):  # the worker has just ended
            self._status = self._sandbox.request(
                "POST", path, headers={"content-type": "application/json", **headers},
                body=b"" if body is None else json.dumps(body).encode(),
            ).status
        return self._report.exists()

    def tells(self, error: type[BaseException]) -> str:
        return error.__name__


@pytest.fixture(scope="module", params=FUNCTIONS, ids=lambda function: function.target)
def in_framework(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InFramework]:
    function: Function = request.param
    report = tmp_path_factory.mktemp(function.target) / "report"
    with BraintrustServer() as server:
        server.add_project("project", PROJECT_ID)
        environment = {
            "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
            "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "REPORT": str(report),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")])),
        }
        with CloudRunSandbox(function.command, code=TESTS / "functions" / "gcf_contract", env=environment) as sandbox:
            yield InFramework(function, sandbox, server, report)
            assert "trace-guard: could not" not in sandbox.log


@pytest.fixture
def subject(in_framework: InFramework) -> InFramework:
    return in_framework


class TestFunctionsFramework(Contract):
    """Functions and services that have no CPU between two requests."""
