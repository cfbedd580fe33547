"""The contract for a handler under AWS's own runtime client."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.suite import Contract, Seen
from planted_keys import PLANTED_KEY
from support import PROJECT_ID

from trace_guard.testing import BraintrustServer, LambdaSandbox

TESTS = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


class InSandbox:
    """Invokes the function. Its caller gets the name and the text of an error."""

    captures_output = True

    def __init__(self, function: LambdaSandbox, server: BraintrustServer) -> None:
        self._function = function
        self._server = server

    def run(self, code: Callable[[], Any]) -> Seen:
        self._server.clear()
        result = self._function.invoke({"code": code.__name__})
        seen = Seen(rows=self._server.span_rows())
        for row in seen.rows:
            about = (row.get("metadata") or {}).pop("trace_guard", None)
            if row["span_parents"] is None:
                assert row.pop("input") == {"code": code.__name__}
                assert row["metadata"]["faas.invocation_id"] == result.request_id
            row["metadata"] = {} if about is None else {"trace_guard": about}
        if result.status == "ok":
            seen.value = result.payload
        else:
            seen.error = type(result.payload["errorType"], (Exception,), {})(result.payload["errorMessage"])
        return seen

    def tells(self, error: type[BaseException]) -> str:
        return error.__name__ if issubclass(error, Exception) else "Runtime.ExitError"


@pytest.fixture(scope="module")
def sandbox_and_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InSandbox]:
    with BraintrustServer() as server:
        server.add_project("project", PROJECT_ID)
        python_path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
        environment = {
            "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
            "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "PYTHONPATH": python_path,
        }
        code = TESTS / "functions" / "contract"
        with LambdaSandbox("app.handler", code=code, env=environment, timeout=10.0) as function:
            yield InSandbox(function, server)


@pytest.fixture
def subject(sandbox_and_server: InSandbox) -> InSandbox:
    return sandbox_and_server


class TestLambdaSandbox(Contract):
    """A function that is frozen after each answer."""
