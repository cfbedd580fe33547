"""One handler in several threads, as tests and local servers call it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trace_guard import Guard
from trace_guard_lambda import guard_handler


def test_an_async_handler_runs_in_several_threads(make_guard: Callable[..., Guard]) -> None:
    """Each thread has a loop of its own, so concurrent calls of an async handler give their results."""
    together = threading.Barrier(3)

    @guard_handler(guard=make_guard())
    async def handler(event: Any, context: Any) -> Any:
        together.wait(20)
        await asyncio.sleep(0)
        return event

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda number: handler(number, None), range(3))) == [0, 1, 2]
