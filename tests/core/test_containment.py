"""Promise P7: whatever of ours fails, the user's function does not notice."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
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
import pytest
from support import pending_in, still_open

import trace_guard
from trace_guard import Deadline, Guard, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.runtime import current
from trace_guard.runtime.state import PROCESS
from trace_guard.sdk.gateway import Gateway
from trace_guard.sdk.sdk import Sdk
from trace_guard_lambda import guard_handler

OURS = tuple(str(Path(place).parent) for place in (trace_guard.__file__, sys.modules["trace_guard_lambda"].__file__))
FLUSH_SECONDS = 0.1
SLACK = 1.0
ERROR = LookupError("the user's own")


class Fault(Exception):
    """What our steps raise here."""


@pytest.fixture(autouse=True)
def no_faults() -> None:
    """In place of the fixture of that name: here faults are made on purpose."""


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK sleeps for seconds before it tries again what a fault of ours has refused; here a hundredth of that."""
    hasty = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 100)})
    monkeypatch.setattr("braintrust.logger.time", hasty)


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


def make(directory: Path) -> Guard:
    return Guard(
        backend=MemoryBackend(), dir=directory, project="p", flush_timeout=FLUSH_SECONDS, reserve=0.01,
        exit_timeout=0.05,
    )


def steps_of_a_healthy_run(directory: Path) -> list[str]:
    """Every function of ours that runs while a guarded handler is called, on whatever thread, by its full name."""
    return steps_of(directory, [handler_of], everywhere=True)


def steps_of(directory: Path, ways: list[Way], *, everywhere: bool) -> list[str]:
    """Every function of ours that runs while guarded code is called in these ways, on this thread or on any."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            seen.add(frame.f_code)

    guard = make(directory)
    handlers = [way(guard) for way in ways]
    # Only threads that begin from here on are watched: the SDK's own would otherwise do its part unseen.
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
    # A copy: threads that were started meanwhile are still looked at.
    return sorted(name for name in map(name_of, seen.copy()) if name)


def name_of(code: CodeType) -> str | None:
    """``module:qualified.name`` of a function that can be replaced: not a local one, and not a comprehension."""
    name = code.co_qualname if sys.version_info >= (3, 11) else _qualname(code)
    if name is None or "<" in name:
        return None
    module = next(
        one.__name__ for one in list(sys.modules.values())
        if getattr(one, "__file__", None) == code.co_filename and one.__name__.startswith("trace_guard")
    )
    return f"{module}:{name}"


def _qualname(code: CodeType) -> str | None:
    module = next(one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == code.co_filename)
    for owner in (module, *(one for one in vars(module).values() if inspect.isclass(one))):
        for one in vars(owner).values():
            function = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
            if getattr(function, "__code__", None) is code:
                return str(function.__qualname__)
    return None


# The outermost layer: it calls the user's function, and has nothing around it that could contain it. Each of these
# is a line or two that can't fail by itself.
OUTERMOST = {
    "trace_guard.contain:contain.__init__",
    "trace_guard.contain:contain.__enter__",
    "trace_guard.contain:contain.__exit__",
    "trace_guard.invocation.wrap:opened",
    "trace_guard.invocation.invocation:Invocation.close",
}
# The same of those ways that a handler is not guarded in.
OUTERMOST_OF_WAYS = OUTERMOST | {
    "trace_guard.deadline:Deadline.never",
    "trace_guard.guard:Guard.invocation",
    *(
        f"trace_guard.invocation.invocation:Invocation.{name}"
        for name in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__", "open", "aclose", "set_output")
    ),
    "trace_guard.invocation.wrap:_closed",
    "trace_guard.invocation.wrap:InContext.__init__",
    "trace_guard.invocation.wrap:InContext.__await__",
}


def fail(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    raise Fault(function.__qualname__)


def replace(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[..., Any] = fail) -> list[int]:
    """Make a function of ours raise, or act as told, each time that it is called, under whatever name it was
    imported; how often it was."""
    module, _, path = name.partition(":")
    owner: Any = sys.modules[module]
    *outer, last = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original, calls = inspect.getattr_static(owner, last), [0]
    function = original.fget if isinstance(original, property) else getattr(original, "__func__", original)

    def fails(*args: Any, **keywords: Any) -> Any:
        calls[0] += 1
        return act(function, *args, **keywords)

    wrapper: Any = functools.wraps(function)(fails)
    if isinstance(original, (property, staticmethod, classmethod)):
        wrapper = type(original)(wrapper)
    monkeypatch.setattr(owner, last, wrapper)
    if inspect.ismodule(owner):
        for other in list(sys.modules.values()):
            if other is not owner and is_ours(other) and vars(other).get(last) is original:
                monkeypatch.setattr(other, last, wrapper)
    elif module == "trace_guard.sdk.gateway":
        routes = [(*route[:2], wrapper if route[2] is original else route[2]) for route in Gateway._routes]
        monkeypatch.setattr(Gateway, "_routes", tuple(routes))
    return calls


def is_ours(module: Any) -> bool:
    return str(getattr(module, "__file__", None)).startswith(OURS)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return steps_of_a_healthy_run(tmp_path_factory.mktemp("healthy") / "trace-guard")


# A thread of ours that dies of the fault says so on stderr, as any thread does; the next that is needed is begun.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_step_may_fail(steps: list[str], tmp_path: Path) -> None:
    """Each function of ours that runs around a handler is made to raise in turn, and the handler's caller gets
    result and exception as without the guard, in time, while every span that has begun can still be closed."""
    assert len(steps) > 100, steps
    assert {*steps} >= OUTERMOST
    failed = failures([name for name in steps if name not in OUTERMOST], [handler_of], tmp_path)
    assert not failed, "\n".join(failed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_step_may_fail_in_every_way(steps: list[str], tmp_path: Path) -> None:
    """The same holds of every other way to guard, and of what is done at the first use of a guard, for each function
    that has a part in them alone."""
    others = steps_of(tmp_path / "healthy", WAYS, everywhere=True)
    assert {*others} >= OUTERMOST_OF_WAYS
    own = [
        name for name in others
        if name not in OUTERMOST_OF_WAYS and (name not in steps or name.startswith(OF_EACH_WAY))
    ]
    assert len(own) > 40, own
    failed = failures(own, WAYS, tmp_path)
    assert not failed, "\n".join(failed)


# The SDK asks these once in the life of a process.
ONCE = {
    *(f"trace_guard.sdk.gateway:{name}" for name in (
        "Gateway.send", "Gateway._version", "Gateway.logging_in", "Gateway.note_login", "_key_of", "_response",
    )),
    "trace_guard.sdk.login:Login.__call__", "trace_guard.sdk.login:Login._log_in",
}
OF_EACH_WAY = tuple(f"trace_guard.{name}:" for name in ("beginning", "ending", "invocation", "wrap"))


def failures(names: list[str], ways: list[Way], places: Path) -> list[str]:
    """What goes wrong for callers, and what is left open, when each of these functions raises."""
    failed = []
    for number, name in enumerate(names):
        directory = places / str(number)
        PROCESS.watchdog.after_fork()  # so that it starts in each step, as in a process of its own
        guard = make(directory)
        handlers = [way(guard) for way in ways]
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = replace(monkeypatch, name)
            # In a context of its own, as the step may be that which puts back what was current.
            for call in handlers:
                problems = contextvars.copy_context().run(list, problems_of(call))
                failed += [f"{name}: {problem}" for problem in problems]
            # What waits in the SDK's queue is of this step, and is not to find the step mended.
            with contextlib.suppress(Fault):
                PROCESS.sdk.drain(Deadline.after(1))
        if not calls[0] and name not in ONCE:
            failed.append(f"{name}: was not called")
        failed += [f"{name}: {problem}" for problem in left_by(guard, directory)]
        if PROCESS.logins.home is None:
            PROCESS._sdk = None  # one that came into being with no runtime would stay for the next step
        if current_invocation() is not None or braintrust.current_span() is not braintrust.NOOP_SPAN:
            failed.append(f"{name}: the invocation is still current")
    return failed


def left_by(guard: Guard, directory: Path) -> Iterator[str]:
    """Close the guard, as an exit does, and start another one, as the next process does, if spans are open still."""
    braintrust.flush()  # what the SDK still tries to send belongs to this step, not to the next
    guard.close()
    backend: Any = guard._backend
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
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is not the user's
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


def test_a_fault_while_it_opens_leaves_no_trace_open(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ours fails after the root's start was written, the root is closed all the same."""
    guard = make(directory)
    handler = handler_of(guard)
    replace(monkeypatch, "trace_guard.runtime.watchdog:Watchdog.arm")
    handler({"raises": False}, None)
    rows = guard.pipeline.backend.rows()  # type: ignore[attr-defined]
    assert rows
    assert all("end" in row["metrics"] for row in rows)
    monkeypatch.undo()
    guard.close()


def test_a_fault_at_import_leaves_the_handler_as_it_is(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours while a handler is decorated does not take its module down: the handler runs unguarded."""
    guard = make(directory)
    calls = replace(monkeypatch, "trace_guard.guard:Guard.with_settings")
    event = {"raises": False}
    assert handler_of(guard)(event, None) is event
    assert calls == [1]
    monkeypatch.undo()
    braintrust.flush()
    guard.close()


def test_without_threads_it_still_delivers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the handler runs as ever, and its rows are delivered all the same."""
    guard = make(directory)
    handler = handler_of(guard)
    handler({"raises": False}, None)  # the SDK itself can't do without the thread that it starts with its first row

    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    event = {"raises": False}
    assert handler(event, None) is event
    monkeypatch.undo()
    guard.close()
    rows = guard._backend.rows()  # type: ignore[union-attr]
    assert rows
    assert all("end" in row["metrics"] for row in rows)


def test_broken_logging_does_no_harm(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours whose report fails too still does not reach the handler."""
    guard = make(directory)
    handler = handler_of(guard)
    replace(monkeypatch, "trace_guard.runtime.pipeline:Pipeline.begin")

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("stderr is closed")

    broken = Broken()
    logging.getLogger("trace_guard").addHandler(broken)
    try:
        event = {"raises": False}
        assert handler(event, None) is event
    finally:
        logging.getLogger("trace_guard").removeHandler(broken)
        monkeypatch.undo()
        guard.close()


def test_each_step_may_be_interrupted(tmp_path: Path) -> None:
    """KeyboardInterrupt that strikes in any function of ours on the caller's thread is raised on as it is, and what
    was open then is closed by exit or the next start at the latest."""
    names = steps_of(tmp_path / "healthy", [handler_of, with_block], everywhere=False)
    assert len(names) > 80, names
    failed = []
    for number, name in enumerate(names):
        directory, interrupt = tmp_path / str(number), KeyboardInterrupt(name)
        PROCESS.watchdog.after_fork()  # so that it starts in each step, as in a process of its own
        guard = make(directory)
        calls = [way(guard) for way in (handler_of, with_block)]

        def strike(
            function: Callable[..., Any], *args: Any, interrupt: BaseException = interrupt, **keywords: Any
        ) -> Any:
            if interrupt.__traceback__ is None and threading.current_thread() is threading.main_thread():
                raise interrupt
            return function(*args, **keywords)

        def call(calls: list[Callable[..., Any]] = calls) -> None:
            for one in calls:
                one({"raises": False}, None)
                with contextlib.suppress(LookupError):
                    one({"raises": True}, None)

        with pytest.MonkeyPatch.context() as monkeypatch:
            replace(monkeypatch, name, strike)
            try:
                contextvars.copy_context().run(call)
                failed.append(f"{name}: the interruption was swallowed")
            except BaseException as error:  # noqa: BLE001 - whatever else it is, is wrong
                if error is not interrupt:
                    failed.append(f"{name}: raised {error!r} instead")
            current.LIVE.clear()  # one whose closing was not come to is still live
        failed += [f"{name}: {problem}" for problem in left_by(guard, directory)]
    assert not failed, "\n".join(failed)


def test_a_signal_during_our_code_is_the_programs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt that strikes while our code runs is raised on: it is meant for the program."""
    guard = make(directory)
    handler = handler_of(guard)

    def interrupted(*args: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trace_guard.runtime.pipeline.Pipeline.begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        handler({"raises": False}, None)
    monkeypatch.undo()
    guard.close()
