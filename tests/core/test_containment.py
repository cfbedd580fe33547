"""Faults of trace-guard never reach the user's function (P7)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import braintrust
import braintrust.logger as bt
import pytest
from support import pending_in, still_open

import trace_guard
from trace_guard import Deadline, Guard, contain, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.runtime import current
from trace_guard.runtime.state import PROCESS
from trace_guard.sdk.sdk import Sdk
from trace_guard.testing import steps as declared
from trace_guard.testing.steps import OUTERMOST, OUTERMOST_OF_BLOCKS, replaced
from trace_guard_lambda import guard_handler

OURS = tuple(str(Path(place).parent) for place in (trace_guard.__file__, sys.modules["trace_guard_lambda"].__file__))
FLUSH_SECONDS = 0.1
SLACK = 1.0
ERROR = LookupError("the user's own")
ARM = "trace_guard.runtime.watchdog:Watchdog.arm"
BEGIN = "trace_guard.runtime.pipeline:Pipeline.begin"


class Fault(Exception):
    """Raised by broken steps."""


@pytest.fixture(autouse=True)
def no_faults() -> None:
    """Replace the fixture of this name, because these tests cause faults."""


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the SDK's sleep before a retry to a hundredth."""
    fast = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 100)})
    monkeypatch.setattr("braintrust.logger.time", fast)


Way = Callable[[Guard], Callable[[Any, Any], Any]]


def handler(event: Any, context: Any) -> Any:
    with braintrust.start_span("step"):
        pass
    braintrust.start_span("forgotten")
    if event["raises"]:
        raise ERROR
    return event


def handler_of(guard: Guard) -> Callable[..., Any]:
    return guard_handler(guard=guard)(handler)


def wrapped(guard: Guard) -> Callable[..., Any]:
    return guard.wrap(handler)


def with_block(guard: Guard) -> Callable[..., Any]:
    def call(event: Any, context: Any) -> Any:
        with guard.invocation("root", input=event, metadata={"a": 1}, tags=["t"]) as invocation:
            result = handler(event, context)
            invocation.set_output(result)
            return result

    return call


def nested(guard: Guard) -> Callable[..., Any]:
    def call(event: Any, context: Any) -> Any:
        with guard.invocation("outer"), guard.invocation("inner", input=event):
            return handler(event, context)

    return call


def async_with_block(guard: Guard) -> Callable[..., Any]:
    async def main(event: Any, context: Any) -> Any:
        async with guard.invocation("root"):
            return handler(event, context)

    return lambda event, context: asyncio.run(main(event, context))


def coroutine(guard: Guard) -> Callable[..., Any]:
    async def main(event: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return handler(event, context)

    guarded = guard.wrap(main)
    return lambda event, context: asyncio.run(guarded(event, context))


def generator(guard: Guard) -> Callable[..., Any]:
    def steps(event: Any, context: Any) -> Any:
        yield "first"
        return handler(event, context)

    def call(event: Any, context: Any) -> Any:
        return (yield from guarded(event, context))

    def last(event: Any, context: Any) -> Any:
        items = call(event, context)
        assert next(items) == "first"
        try:
            next(items)
        except StopIteration as stop:
            return stop.value

    guarded = guard.wrap(steps)
    return last


def async_generator(guard: Guard) -> Callable[..., Any]:
    async def steps(event: Any, context: Any) -> Any:
        yield "first"
        yield handler(event, context)

    async def main(event: Any, context: Any) -> Any:
        return [item async for item in guarded(event, context)][-1]

    guarded = guard.wrap(steps)
    return lambda event, context: asyncio.run(main(event, context))


WAYS: list[Way] = [wrapped, with_block, nested, async_with_block, coroutine, generator, async_generator]


def make(directory: Path, backend: MemoryBackend | None = None) -> Guard:
    return Guard(
        backend=backend or MemoryBackend(), dir=directory, project="p", flush_timeout=FLUSH_SECONDS, reserve=0.01,
        exit_timeout=0.05,
    )


def steps_of_a_healthy_run(directory: Path) -> list[str]:
    """The names of all our functions that run during calls of a guarded handler, on any thread."""
    return steps_of(directory, [handler_of], everywhere=True)


def steps_of(directory: Path, ways: list[Way], *, everywhere: bool) -> list[str]:
    """The names of all our functions that run while code is called in these ways, on this thread or on any."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            seen.add(frame.f_code)

    guard = make(directory)
    handlers = [way(guard) for way in ways]
    # Only new threads are profiled, so restart the SDK's thread.
    Sdk(PROCESS).after_fork()
    if everywhere:
        threading.setprofile(note)
    sys.setprofile(note)
    try:
        for handler in handlers:
            handler({"raises": False}, None)
            with pytest.raises(LookupError):
                handler({"raises": True}, None)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    guard.close()
    # A copy, because running threads may still add to the set.
    return sorted(name for name in map(name_of, seen.copy()) if name)


def name_of(code: CodeType) -> str | None:
    """``module:qualified.name`` of a function; None for local functions and comprehensions."""
    name = code.co_qualname if sys.version_info >= (3, 11) else _qualname(code)
    if name is None or "<" in name:
        return None
    module = next(
        module.__name__ for module in list(sys.modules.values())
        if getattr(module, "__file__", None) == code.co_filename and module.__name__.startswith("trace_guard")
    )
    return f"{module}:{name}"


def _qualname(code: CodeType) -> str | None:
    module = next(each for each in list(sys.modules.values()) if getattr(each, "__file__", None) == code.co_filename)
    for owner in (module, *(value for value in vars(module).values() if inspect.isclass(value))):
        for value in vars(owner).values():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if getattr(function, "__code__", None) is code:
                return str(function.__qualname__)
    return None


def fail(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    raise Fault(function.__qualname__)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return steps_of_a_healthy_run(tmp_path_factory.mktemp("healthy") / "trace-guard")


@pytest.mark.parametrize("name", sorted({
    *OUTERMOST_OF_BLOCKS, *declared.INVOCATION, *declared.RECORDS, *declared.AZURE,
}))
def test_every_declared_step_exists(name: str) -> None:
    """Each step that ``trace_guard.testing.steps`` declares is a function that can be replaced."""
    with replaced(name, fail) as calls:
        assert calls.count == 0


# A thread that ends with the fault is reported on stderr. The next one that is needed starts again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_step_may_fail(steps: list[str], tmp_path: Path) -> None:
    """If any one of our functions raises, the caller of a handler gets the same result or exception in time, and every
    span can still be closed."""
    assert len(steps) > 100, steps
    assert {*steps} >= OUTERMOST
    failed = failures([name for name in steps if name not in OUTERMOST], [handler_of], tmp_path)
    assert not failed, "\n".join(failed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_step_may_fail_in_every_way(steps: list[str], tmp_path: Path) -> None:
    """The same holds for every other way to guard code, for each function that only they use."""
    others = steps_of(tmp_path / "healthy", WAYS, everywhere=True)
    assert {*others} >= OUTERMOST_OF_BLOCKS
    own = [
        name for name in others
        if name not in OUTERMOST_OF_BLOCKS and (name not in steps or name.startswith(OF_EACH_WAY))
    ]
    assert len(own) > 40, own
    failed = failures(own, WAYS, tmp_path)
    assert not failed, "\n".join(failed)


# The SDK calls these once per process.
ONCE = {
    *(f"trace_guard.sdk.gateway:{name}" for name in (
        "Gateway.send", "Gateway._version", "Gateway.logging_in", "Gateway.note_login", "_key_of", "_response",
    )),
    "trace_guard.sdk.login:Login.__call__", "trace_guard.sdk.login:Login._log_in",
}
OF_EACH_WAY = tuple(f"trace_guard.invocation.{name}:" for name in ("opening", "closing", "invocation", "wrap"))


def failures(names: list[str], ways: list[Way], places: Path) -> list[str]:
    """Break each of these functions in turn. Returns what goes wrong for callers, and which spans stay open."""
    failed = []
    for number, name in enumerate(names):
        directory = places / str(number)
        PROCESS.watchdog.after_fork()  # so that it starts again for each step
        contain.forget()  # so that each step warns of the forgotten span
        backend = MemoryBackend()
        guard = make(directory, backend)
        handlers = [way(guard) for way in ways]
        with replaced(name, fail) as calls:
            # In a separate context, because the broken step may be the one that restores the context.
            for call in handlers:
                problems = contextvars.copy_context().run(list, problems_of(call))
                failed += [f"{name}: {problem}" for problem in problems]
            # Rows in the SDK's queue must leave it while the step is still broken.
            with contextlib.suppress(Fault):
                PROCESS.sdk.drain(Deadline.after(1))
        if not calls.count and name not in ONCE:
            failed.append(f"{name}: was not called")
        failed += [f"{name}: {problem}" for problem in left_by(guard, backend, directory)]
        if PROCESS.logins.home is None:
            PROCESS._sdk = None  # made without a pipeline, it would stay for the next step
        if current_invocation() is not None or braintrust.current_span() is not braintrust.NOOP_SPAN:
            failed.append(f"{name}: the invocation is still current")
    return failed


def left_by(guard: Guard, backend: MemoryBackend, directory: Path) -> Iterator[str]:
    """Close the guard, as an exit does. If spans are still open, start another guard, as the next process does."""
    try:
        braintrust.flush()  # rows of this step must not reach the next one
    except Exception:
        if bt._http_adapter is PROCESS.sdk.gateway:
            raise
        # The broken step kept the gateway out. The SDK alone has no key here, raises, and drops these rows.
    guard.close()
    if still_open(backend.rows() + pending_in(directory)):
        following = Guard(backend=backend, dir=directory, project="p").start()
        following.flush(5)
        following.close()
        if still_open(backend.rows() + pending_in(directory)):
            yield "leaves spans open that the next start does not close"
    lacking = [row for row in backend.rows() if {"start", "end"} & {*row.get("metrics", {})} == {"end"}]
    if lacking:
        yield f"leaves an end that has no start: {lacking}"


def problems_of(handler: Callable[..., Any]) -> Iterator[str]:
    event: dict[str, Any] = {"raises": False}
    began = time.monotonic()
    try:
        if handler(event, None) is not event:
            yield "another result"
    except BaseException as error:  # noqa: BLE001 - any exception is wrong here
        yield f"raised {error!r}"
    try:
        handler({"raises": True}, None)
        yield "the exception was swallowed"
    except LookupError as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        if error is not ERROR or error.__context__ is not None or frames[-1] != "handler":
            yield f"another exception: {error!r} from {frames}, in the context of {error.__context__!r}"
    except BaseException as error:  # noqa: BLE001 - as above
        yield f"raised {error!r} instead"
    finally:
        ERROR.__traceback__ = None
    if time.monotonic() - began > 2 * (FLUSH_SECONDS + SLACK):
        yield f"took {time.monotonic() - began:.1f} s"


def test_a_fault_during_opening_leaves_no_trace_open(directory: Path) -> None:
    """If a step fails after the root's start is written, the root is still closed."""
    guard = make(directory)
    handler = handler_of(guard)
    with replaced(ARM, fail):
        handler({"raises": False}, None)
    rows = guard.pipeline.backend.rows()  # type: ignore[attr-defined]
    assert rows
    assert all("end" in row["metrics"] for row in rows)
    guard.close()


def test_a_fault_at_import_leaves_the_handler_unguarded(directory: Path) -> None:
    """If a step fails while a handler is decorated, the module still loads and the handler runs unguarded."""
    guard = make(directory)
    event = {"raises": False}
    with replaced("trace_guard.guard:Guard.with_settings", fail) as calls:
        assert handler_of(guard)(event, None) is event
    assert calls.count == 1
    braintrust.flush()
    guard.close()


def test_without_threads_it_still_delivers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can start, the handler runs normally and its rows are still delivered."""
    backend = MemoryBackend()
    guard = make(directory, backend)
    handler = handler_of(guard)
    handler({"raises": False}, None)  # the SDK needs the thread that it starts with its first row

    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    event = {"raises": False}
    assert handler(event, None) is event
    monkeypatch.undo()
    guard.close()
    rows = backend.rows()
    assert rows
    assert all("end" in row["metrics"] for row in rows)


def test_broken_logging_is_harmless(directory: Path) -> None:
    """If logging a fault fails too, the handler still does not notice."""
    guard = make(directory)
    handler = handler_of(guard)

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("stderr is closed")

    broken = Broken()
    logging.getLogger("trace_guard").addHandler(broken)
    try:
        event = {"raises": False}
        with replaced(BEGIN, fail):
            assert handler(event, None) is event
    finally:
        logging.getLogger("trace_guard").removeHandler(broken)
        guard.close()


def test_each_step_may_be_interrupted(tmp_path: Path) -> None:
    """A KeyboardInterrupt in any of our functions reaches the caller unchanged, and open spans are closed at the exit
    or by the next start."""
    names = steps_of(tmp_path / "healthy", [handler_of, with_block], everywhere=False)
    assert len(names) > 80, names
    failed = []
    for number, name in enumerate(names):
        directory, interrupt = tmp_path / str(number), KeyboardInterrupt(name)
        PROCESS.watchdog.after_fork()  # so that it starts again for each step
        contain.forget()  # so that each step warns of the forgotten span
        backend = MemoryBackend()
        guard = make(directory, backend)
        calls = [way(guard) for way in (handler_of, with_block)]

        def strike(
            function: Callable[..., Any], *args: Any, interrupt: BaseException = interrupt, **keywords: Any
        ) -> Any:
            if interrupt.__traceback__ is None and threading.current_thread() is threading.main_thread():
                raise interrupt
            return function(*args, **keywords)

        def call(calls: list[Callable[..., Any]] = calls) -> None:
            for guarded in calls:
                guarded({"raises": False}, None)
                with contextlib.suppress(LookupError):
                    guarded({"raises": True}, None)

        with replaced(name, strike):
            try:
                contextvars.copy_context().run(call)
                failed.append(f"{name}: the interruption was swallowed")
            except BaseException as error:  # noqa: BLE001 - any other exception is wrong
                if error is not interrupt:
                    failed.append(f"{name}: raised {error!r} instead")
            current.LIVE.clear()  # an interrupted close leaves its invocation live
        failed += [f"{name}: {problem}" for problem in left_by(guard, backend, directory)]
    assert not failed, "\n".join(failed)


def test_an_interrupt_during_our_code_reaches_the_program(directory: Path) -> None:
    """A KeyboardInterrupt that is raised in our code reaches the program."""
    guard = make(directory)
    handler = handler_of(guard)

    def interrupted(*args: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    with replaced(BEGIN, interrupted), pytest.raises(KeyboardInterrupt):
        handler({"raises": False}, None)
    guard.close()
