"""The contract for Azure functions under Microsoft's own runtime.

Both programming models run on Python 3.13, the only version with packages of the runtime. (The last complete worker
package, 1.1.9, needs Python 3.9 or older.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure_host import triggers
from azure_host.answer import Answer, WorkerEnded
from azure_host.deployment import Deployment, Deployments
from azure_host.installation import needs_runtime
from contract.suite import Contract, Seen

FUNCTIONS = [
    ("azure_contract", "http_sync"), ("azure_contract", "http_async"), ("azure_contract", "queue_sync"),
    ("azure_contract", "queue_async"), ("azure_contract_app", "root"), ("azure_contract_v1", "http_sync"),
    ("azure_contract_v1", "queue_async"),
]
# The exit status of a worker that an exception ended. The host then starts another.
DEATHS = {3: "SystemExit", -2: "KeyboardInterrupt"}

pytestmark = needs_runtime


class InRuntime:
    """Makes the host invoke a function. The result of an HTTP function is read from its response."""

    def __init__(self, app: Deployment, function: str) -> None:
        self._app = app
        self._function = function
        self._is_http = function.startswith("http")
        self.captures_output = not self._is_http

    def run(self, code: Callable[[], Any]) -> Seen:
        fired = (
            triggers.http("POST", body={"code": code.__name__}) if self._is_http else triggers.queue(code.__name__)
        )
        seen = Seen()
        try:
            answer, seen.rows = self._app.invoke(self._function, fired)
        except WorkerEnded as end:
            seen.rows = self._app.server.span_rows()
            seen.error = _error(DEATHS[end.status])
        else:
            self._read(answer, seen)
        for row in seen.rows:
            about = (row.get("metadata") or {}).pop("trace_guard", None)
            if row["span_parents"] is None:
                asked = row.pop("input")
                assert (asked["body"] == {"code": code.__name__}) if self._is_http else code.__name__ in str(asked)
                assert row["metadata"]["faas.invocation_id"]
                assert row["metadata"]["cloud.provider"] == "azure"
            row["metadata"] = {} if about is None else {"trace_guard": about}
        return seen

    def _read(self, answer: Answer, seen: Seen) -> None:
        if not answer.ok:
            # The message lacks the type of an error that can't be formatted.
            seen.error = _error(answer.stack.strip().splitlines()[-1].partition(":")[0].rpartition(".")[2])
        elif self._is_http:
            assert answer.value["status"] == 200
            seen.value = json.loads(answer.value["body"])
        else:
            seen.value = answer.value

    def tells(self, error: type[BaseException]) -> str:
        return error.__name__


def _error(name: str) -> BaseException:
    made: BaseException = type(name, (Exception,), {})()
    return made


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    with Deployments(tmp_path_factory.mktemp("azure")) as deployments:
        yield deployments


@pytest.fixture(params=FUNCTIONS, ids="/".join)
def subject(request: pytest.FixtureRequest, deploy: Deployments) -> InRuntime:
    app, function = request.param
    return InRuntime(deploy(app), function)


class TestAzureRuntime(Contract):
    """Functions of both programming models, guarded by a decorator or by their app."""
