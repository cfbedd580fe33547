"""The tracebacks of errors on spans."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from trace_guard import Guard, guard_job, process, step
from trace_guard.testing import BraintrustServer
from trace_guard_azure import guard_handler as azure_handler
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware
from trace_guard_gcf import guard_handler as gcf_handler
from trace_guard_lambda import guard_handler as lambda_handler
from trace_guard_lambda import guard_record


def fails(*args: Any) -> Any:
    raise ValueError("mine")


async def fails_later(*args: Any) -> Any:
    await asyncio.sleep(0)
    raise ValueError("mine")


def generates(*args: Any) -> Any:
    yield 1
    raise ValueError("mine")


async def generates_later(*args: Any) -> Any:
    yield 1
    raise ValueError("mine")


async def consume(items: Any) -> None:
    async for _ in items:
        pass


def in_step() -> None:
    with step("load"):
        raise ValueError("mine")


def of_items() -> None:
    for result in process([1], fails):
        assert result.error


def request(app: Any) -> None:
    app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: None)


SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}

CALLS: dict[str, Callable[[Guard], Any]] = {
    "wrap": lambda guard: guard.wrap(fails)(),
    "coroutine": lambda guard: asyncio.run(guard.wrap(fails_later)()),
    "generator": lambda guard: list(guard.wrap(generates)()),
    "asynchronous generator": lambda guard: asyncio.run(consume(guard.wrap(generates_later)())),
    "lambda": lambda guard: lambda_handler(guard=guard)(fails)({}, None),
    "lambda on a loop": lambda guard: lambda_handler(guard=guard)(fails_later)({}, None),
    "record": lambda guard: lambda_handler(guard=guard)(lambda event, _: guard_record(fails)(event))({}, None),
    "gcf": lambda guard: gcf_handler(guard=guard)(fails)({}),
    "azure": lambda guard: azure_handler(guard=guard)(fails)({}),
    "wsgi": lambda guard: request(GuardMiddleware(fails, guard=guard)),
    "asgi": lambda guard: asyncio.run(AsyncGuardMiddleware(fails_later, guard=guard)(SCOPE, fails, fails)),
    "job": lambda guard: guard_job(guard=guard)(fails)(),
    "step": lambda guard: guard_job(guard=guard)(in_step)(),
    "items": lambda guard: guard_job(guard=guard)(of_items)(),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_traceback_begins_in_the_users_code(
    make_guard: Callable[..., Guard], server: BraintrustServer, kind: str
) -> None:
    """The traceback of an error on a span begins with the first frame of the user's code."""
    guard = make_guard()
    with contextlib.suppress(ValueError):
        CALLS[kind](guard)
    assert guard.flush(10)
    errors = [row["error"] for row in server.span_rows() if row.get("error")]
    assert errors
    for error in errors:
        first, place, *_, last = error.strip().splitlines()
        assert (first, last) == ("Traceback (most recent call last):", "ValueError: mine")
        assert f'File "{__file__}"' in place, error


def test_a_call_that_can_t_be_made_has_no_traceback(
    make_guard: Callable[..., Guard], server: BraintrustServer
) -> None:
    """If no frame of the user's code is there, as for wrong arguments, the error is the exception alone."""
    guard = make_guard()
    with pytest.raises(TypeError):
        guard.wrap(lambda: None)(1)
    assert guard.flush(10)
    (error,) = [row["error"] for row in server.span_rows()]
    assert error.startswith("TypeError: ")
