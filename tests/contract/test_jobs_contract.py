"""The contract for jobs, plain and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from contract.suite import ContractInProcess, Seen

from trace_guard import Guard, guard_job
from trace_guard.testing import BraintrustServer


def decorated_async(guard: Guard, code: Callable[[], Any]) -> Any:
    @guard_job(guard=guard, name="root")
    async def main() -> Any:
        await asyncio.sleep(0)
        return code()

    return asyncio.run(main())


def block(guard: Guard, code: Callable[[], Any]) -> Any:
    with guard.job("root") as job:
        value = code()
        job.invocation.set_output(value)
        return value


class InProcess:
    """One of the jobs above."""

    captures_output = True

    def __init__(self, call: Callable[[Guard, Callable[[], Any]], Any], guard: Guard, server: BraintrustServer) -> None:
        self._call = call
        self._guard = guard
        self._server = server

    def run(self, code: Callable[[], Any]) -> Seen:
        self._server.clear()
        seen = Seen()
        try:
            seen.value = self._call(self._guard, code)
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            seen.error = error
        seen.rows = self._server.span_rows()
        return seen

    def tells(self, error: type[BaseException]) -> str:
        return error.__name__


@pytest.fixture(params=[decorated_async, block], ids=lambda call: call.__name__)
def subject(request: pytest.FixtureRequest, guard: Guard, server: BraintrustServer) -> InProcess:
    return InProcess(request.param, guard, server)


class TestJobs(ContractInProcess):
    """Jobs of every kind, in this process."""
