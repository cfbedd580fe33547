"""Promise P7: whatever of ours fails, the user's function does not notice."""

from __future__ import annotations

import contextvars
import functools
import inspect
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import braintrust
import pytest

import trace_guard
from trace_guard import Guard, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard_lambda import guard_handler

OURS = tuple(str(Path(place).parent) for place in (trace_guard.__file__, sys.modules["trace_guard_lambda"].__file__))
FLUSH_SECONDS = 0.1
ERROR = LookupError("the user's own")


class Fault(Exception):
    """What our steps raise here."""


@pytest.fixture(autouse=True)
def no_faults() -> None:
    """In place of the fixture of that name: here faults are made on purpose."""


def handler_of(guard: Guard) -> Callable[..., Any]:
    def handler(event: Any, context: Any) -> Any:
        with braintrust.start_span("step"):
            pass
        braintrust.start_span("forgotten")
        if event["raises"]:
            raise ERROR
        return event

    return guard_handler(guard=guard)(handler)


def make(directory: Path) -> Guard:
    return Guard(
        backend=MemoryBackend(), dir=directory, project="p", flush_timeout=FLUSH_SECONDS, reserve=0.01,
        exit_timeout=0.05,
    )


def steps_of_a_healthy_run(directory: Path) -> list[str]:
    """Every function of ours that runs while a guarded handler is called, on whatever thread, by its full name."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            seen.add(frame.f_code)

    guard = make(directory)
    handler = handler_of(guard)
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        handler({"raises": False}, None)
        with pytest.raises(LookupError):
            handler({"raises": True}, None)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    guard.close()
    return sorted(name for name in map(name_of, seen) if name)


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
    "trace_guard.wrap:opened",
    "trace_guard.invocation:Invocation.close",
    "trace_guard.invocation:Invocation._leave",
}


def replace(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Make a function of ours raise each time that it is called; how often it was."""
    module, _, path = name.partition(":")
    owner: Any = sys.modules[module]
    *outer, last = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original, calls = inspect.getattr_static(owner, last), [0]
    function = original.fget if isinstance(original, property) else getattr(original, "__func__", original)

    def fails(*args: Any, **keywords: Any) -> Any:
        calls[0] += 1
        raise Fault(name)

    wrapper: Any = functools.wraps(function)(fails)
    if isinstance(original, (property, staticmethod, classmethod)):
        wrapper = type(original)(wrapper)
    monkeypatch.setattr(owner, last, wrapper)
    return calls


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return steps_of_a_healthy_run(tmp_path_factory.mktemp("healthy") / "trace-guard")


# A thread of ours that dies of the fault says so on stderr, as any thread does; the next that is needed is begun.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_step_may_fail(steps: list[str], tmp_path: Path) -> None:
    """Each function of ours that runs around a handler is made to raise in turn, and the handler's caller gets
    result and exception as without the guard, in time."""
    assert len(steps) > 100, steps
    assert {*steps} >= OUTERMOST
    failed = []
    for number, name in enumerate(steps):
        if name in OUTERMOST:
            continue
        guard = make(tmp_path / str(number))
        handler = handler_of(guard)
        with pytest.MonkeyPatch.context() as monkeypatch:
            replace(monkeypatch, name)
            # In a context of its own, as the step may be that which puts back what was current.
            problems = contextvars.copy_context().run(list, problems_of(handler))
            failed += [f"{name}: {problem}" for problem in problems]
        guard.close()
        if current_invocation() is not None or braintrust.current_span() is not braintrust.NOOP_SPAN:
            failed.append(f"{name}: the invocation is still current")
    assert failed == []


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
    if time.monotonic() - began > 2 * (FLUSH_SECONDS + 1.5):
        yield f"took {time.monotonic() - began:.1f} s"


def test_a_fault_while_it_opens_leaves_no_trace_open(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ours fails after the root's start was written, the root is closed all the same."""
    guard = make(directory)
    handler = handler_of(guard)
    replace(monkeypatch, "trace_guard.watchdog:Watchdog.arm")
    handler({"raises": False}, None)
    rows = guard.runtime.backend.rows()  # type: ignore[attr-defined]
    assert rows
    assert all("end" in row["metrics"] for row in rows)
    monkeypatch.undo()
    guard.close()


def test_without_threads_it_still_delivers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the handler runs as ever, and its rows are delivered all the same."""
    guard = make(directory)
    handler = handler_of(guard)

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
    replace(monkeypatch, "trace_guard.runtime:Runtime.begin")

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


def test_a_signal_during_our_code_is_the_programs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt that strikes while our code runs is raised on: it is meant for the program."""
    guard = make(directory)
    handler = handler_of(guard)

    def interrupted(*args: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trace_guard.runtime.Runtime.begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        handler({"raises": False}, None)
    monkeypatch.undo()
    guard.close()
