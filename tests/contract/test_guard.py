"""The contract for everything that a guard can wrap in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from contract.suite import ContractInProcess, Seen

from trace_guard import Guard
from trace_guard.testing import BraintrustServer
from trace_guard_lambda import guard_handler


def with_block(guard: Guard, code: Callable[[], Any]) -> Any:
    with guard.invocation("root") as invocation:
        value = code()
        invocation.set_output(value)
        return value


def async_with_block(guard: Guard, code: Callable[[], Any]) -> Any:
    async def main() -> Any:
        async with guard.invocation("root") as invocation:
            await asyncio.sleep(0)
            value = code()
            invocation.set_output(value)
            return value

    return asyncio.run(main())


def wrapped_function(guard: Guard, code: Callable[[], Any]) -> Any:
    return guard.wrap(code, name="root")()


def wrapped_coroutine(guard: Guard, code: Callable[[], Any]) -> Any:
    async def run() -> Any:
        await asyncio.sleep(0)
        return code()

    return asyncio.run(guard.wrap(run, name="root")())


def wrapped_generator(guard: Guard, code: Callable[[], Any]) -> Any:
    def run() -> Any:
        yield "first"
        return code()

    generator = guard.wrap(run, name="root")()
    assert next(generator) == "first"
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    return stopped.value.value


def wrapped_async_generator(guard: Guard, code: Callable[[], Any]) -> Any:
    async def run() -> Any:
        yield "first"
        await asyncio.sleep(0)
        yield code()

    async def main() -> Any:
        return [item async for item in guard.wrap(run, name="root")()]

    first, value = asyncio.run(main())
    assert first == "first"
    return value


def lambda_handler(guard: Guard, code: Callable[[], Any]) -> Any:
    return guard_handler(guard=guard, name="root")(lambda event, context: code())({}, None)


def async_lambda_handler(guard: Guard, code: Callable[[], Any]) -> Any:
    loops = []

    async def handler(event: Any, context: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return code()

    try:
        return guard_handler(guard=guard, name="root")(handler)({}, None)
    finally:
        loops[0].close()


class InProcess:
    """One of the functions above."""

    def __init__(self, call: Callable[[Guard, Callable[[], Any]], Any], guard: Guard, server: BraintrustServer) -> None:
        self._call = call
        self._guard = guard
        self._server = server
        self.captures_output = "generator" not in call.__name__

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


@pytest.fixture(params=[
    with_block, async_with_block, wrapped_function, wrapped_coroutine, wrapped_generator, wrapped_async_generator,
    lambda_handler, async_lambda_handler,
], ids=lambda call: call.__name__)
def subject(request: pytest.FixtureRequest, guard: Guard, server: BraintrustServer) -> InProcess:
    return InProcess(request.param, guard, server)


class TestGuard(ContractInProcess):
    """Every way to guard in this process."""
