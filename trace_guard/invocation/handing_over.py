"""Lets async code hand its result over before its rows are delivered.

A caller may have a time limit, such as ``asyncio.wait_for``, and a delivery must not count against it. So a thread
closes and delivers. The result is handed over as soon as the rows are in the journal. Only the end of the event loop
waits for the delivery, for a moment: a program often ends with its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable

from ..contain import contain
from ..deadline import Deadline
from ..outcome import FlushPolicy, Way
from ..runtime.state import PROCESS
from ..settings import may_freeze
from ..system.threads import QuietThread
from .state import Deliver

__all__ = ["HandingOver", "goes_on", "run_in_thread", "wait_at_end_of_loop"]

# Writing takes milliseconds, unless the disk hangs.
_WRITTEN_SECONDS = 0.5
# A backend that is up has answered by then, on a busy machine too.
_LOOP_END_SECONDS = 1.0

# The threads that deliver what has ended in an event loop, and the generator that waits for them.
_loops: dict[asyncio.AbstractEventLoop, tuple[set[threading.Thread], AsyncGenerator[None, None]]] = {}


def goes_on(flush: FlushPolicy) -> bool:
    """True if async code need not wait for its delivery, as the process can deliver after the response."""
    if flush is FlushPolicy.AUTO:
        return not may_freeze(os.environ) and _is_in_event_loop()
    return flush is FlushPolicy.AFTER_RESPONSE


class HandingOver:
    """Delivers on a thread of its own. Its caller waits until the rows are in the journal, which takes milliseconds."""

    def __init__(self) -> None:
        self._loop = _running_loop()
        self._written: asyncio.Future[None] | None = None

    def __call__(self, deliver: Deliver) -> Way | None:
        """Deliver. Returns None if no thread can start."""
        threads = _loops[self._loop][0] if self._loop in _loops else set()

        def run() -> None:
            try:
                deliver(Deadline.never(), Way.BACKGROUND)
            finally:
                self.written()
                threads.discard(thread)

        thread: threading.Thread = QuietThread(target=run, name="trace-guard-close", daemon=True)
        threads.add(thread)
        if self._loop is not None:
            self._written = self._loop.create_future()
        try:
            thread.start()
        except RuntimeError:
            threads.discard(thread)
            self._written = None
            return None
        PROCESS.join_at_exit(thread)
        return Way.BACKGROUND

    def written(self) -> None:
        """End the wait."""
        if self._loop is not None and self._written is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed since
                self._loop.call_soon_threadsafe(_settle, self._written)

    async def wait(self) -> None:
        """Wait until the rows are in the journal, or until that takes long."""
        if self._written is not None:
            await asyncio.wait([self._written], timeout=_WRITTEN_SECONDS)


async def wait_at_end_of_loop() -> None:
    """Have the end of this event loop wait for deliveries in the background. Returns at once.

    Loops close their asynchronous generators when they end.
    """
    loop = _running_loop()
    if loop is None or loop in _loops:
        return
    for other in [other for other in list(_loops) if other.is_closed()]:
        _loops.pop(other, None)
    threads: set[threading.Thread] = set()
    waiting = _wait_at_end(loop, threads)
    await waiting.__anext__()
    _loops[loop] = threads, waiting


async def _wait_at_end(
    loop: asyncio.AbstractEventLoop, threads: set[threading.Thread]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _loops.pop(loop, None)
        bound = Deadline.after(_LOOP_END_SECONDS)

        def join() -> None:
            for thread in list(threads):
                thread.join(bound.remaining)

        with contain("wait for deliveries"):
            done = run_in_thread(join) if threads else None
            if done is not None:
                await asyncio.wait([done])


def run_in_thread(work: Callable[[], object]) -> asyncio.Future[None] | None:
    """Run ``work`` in a new thread, because user code may keep all threads of the loop's executor busy. Returns None
    if there is no asyncio loop or no thread can start."""
    loop = _running_loop()
    if loop is None:
        return None
    done = loop.create_future()

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has been closed since
                loop.call_soon_threadsafe(_settle, done)

    thread = QuietThread(target=run, name="trace-guard-close", daemon=True)
    PROCESS.join_at_exit(thread)
    try:
        thread.start()
    except RuntimeError:
        return None
    return done


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _is_in_event_loop() -> bool:
    """False if a coroutine is driven by hand, whose caller may end without any loop."""
    if _running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
