"""Time limits and other exceptions that interrupt our code reach the program; our own faults don't."""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support import Program, environment, until

from trace_guard.contain import contain, contained
from trace_guard.errors import JournalError
from trace_guard.payload import Payload
from trace_guard.testing import BraintrustServer


class Limit(Exception):
    """A time limit as programs declare them."""


class LimitWithText(Exception):
    def __init__(self) -> None:
        super().__init__("time is up")


class Handler:
    """The forms that signal handlers have in real programs."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def method(self, number: int, frame: FrameType | None) -> None:
        raise self._error

    def any_arguments(self, *given: Any) -> None:
        self._end()

    def forgets(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._end()

    def bound_first(self, reason: str, number: int, frame: FrameType | None) -> None:
        self._end()

    __call__ = method

    def _end(self) -> None:
        raise self._error


FORMS: dict[str, Callable[[Handler], Any]] = {
    "a method": lambda handler: handler.method, "any arguments": lambda handler: handler.any_arguments,
    "an argument that is deleted": lambda handler: handler.forgets, "a callable object": lambda handler: handler,
    "a partial": lambda handler: functools.partial(handler.bound_first, "limit"),
}
ERRORS = (Limit("time is up"), LimitWithText(), TimeoutError("time is up"), OSError(5, "time is up"))


@pytest.fixture
def alarm() -> Iterator[Callable[[Any], None]]:
    """Installs a handler of SIGALRM and rings once."""
    before = signal.getsignal(signal.SIGALRM)

    def ring(handler: Any) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def busy() -> None:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        pass


def blocked() -> None:
    threading.Event().wait(10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("work", [busy, blocked])
def test_what_a_signal_handler_raises_goes_on(
    alarm: Callable[[Any], None], form: str, work: Callable[[], None]
) -> None:
    """An exception from a signal handler leaves contain(), whatever its type and however the handler is written."""
    for error in ERRORS:
        alarm(FORMS[form](Handler(error)))
        with pytest.raises(type(error)) as caught:
            contained("work", work, None)
        assert caught.value is error


def test_what_was_made_of_a_time_limit_is_the_time_limit(alarm: Callable[[Any], None]) -> None:
    """If our code takes a time limit for a failure and raises an error of its own from it, the time limit goes on."""
    limit = TimeoutError("time is up")

    def write() -> None:
        try:
            busy()
        except OSError as error:
            raise JournalError("the journal can't be written") from error

    alarm(Handler(limit).method)
    with pytest.raises(TimeoutError) as caught, contain("write"):
        write()
    assert caught.value is limit


def test_a_fault_while_a_time_limit_is_on_its_way_does_not_replace_it(alarm: Callable[[Any], None]) -> None:
    """If our clean-up fails after a time limit has struck, the time limit goes on and not our fault."""
    limit = Limit("time is up")

    def write() -> None:
        try:
            busy()
        finally:
            bare()

    alarm(Handler(limit).method)
    with pytest.raises(Limit) as caught, contain("write"):
        write()
    assert caught.value is limit


def test_a_time_limit_goes_through_the_copy_of_a_payload(alarm: Callable[[Any], None]) -> None:
    """A time limit that strikes while a value is copied is not taken for a fault of the value."""

    class Slow:
        def __repr__(self) -> str:
            busy()
            return "slow"

    alarm(Handler(Limit()).method)
    with pytest.raises(Limit):
        Payload().copy({"value": [Slow()]})


@pytest.mark.parametrize("kind", [Limit, LimitWithText, TimeoutError, ValueError])
def test_what_another_thread_raises_goes_on(kind: type[Exception]) -> None:
    """An exception that is set with PyThreadState_SetAsyncExc leaves contain()."""
    left: list[BaseException] = []
    has_begun = threading.Event()

    def work() -> None:
        has_begun.set()
        busy()

    def run() -> None:
        try:
            with contain("work"):
                work()
        except BaseException as error:  # noqa: BLE001 - compared below
            left.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    has_begun.wait(10)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind)) == 1
    thread.join(20)
    assert [type(error) for error in left] == [kind]


def test_what_a_trace_function_raises_goes_on() -> None:
    """A time limit that is enforced by a trace function leaves contain()."""
    before = sys.gettrace()

    def end(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is busy.__code__ and event == "line":
            raise Limit("time is up")
        return end

    def work() -> None:
        sys.settrace(end)
        busy()

    try:
        with pytest.raises(Limit):
            contained("work", work, None)
    finally:
        sys.settrace(before)


def bare() -> None:
    raise ValueError


def user_code() -> None:
    raise Limit("from a callback")


def cleaned_up() -> None:
    try:
        bare()
    finally:
        time.time()


FAULTS: dict[str, Callable[[], object]] = {
    "raised bare": bare, "of a callback": user_code, "through a finally": cleaned_up, "a key": lambda: {}["missing"],
    "an attribute": lambda: object().missing, "the end of an iterator": lambda: next(iter(())),  # type: ignore[attr-defined]
    "an empty queue": lambda: queue.SimpleQueue[int]().get_nowait(), "the system": lambda: os.stat("/no/file"),
    "no JSON": lambda: json.loads("{"), "an encoding": lambda: b"\xff".decode(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_own_faults_are_contained(alarm: Callable[[Any], None], fault: str) -> None:
    """An exception that our code or a callback raises by itself is contained, also while the program handles a time
    limit."""
    assert contained(f"try {fault}", FAULTS[fault], "default") == "default"
    alarm(Handler(Limit()))
    try:
        busy()
    except Limit:
        assert contained(f"try {fault}", FAULTS[fault], "default") == "default"


@pytest.fixture(autouse=True)
def no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the fixture of this name, because these tests cause faults."""
    monkeypatch.setattr("trace_guard.contain._raise", False)
    logging.getLogger("trace_guard").setLevel(logging.NOTSET)


def test_time_limits_in_steps_reach_the_job(server: BraintrustServer, directory: Path) -> None:
    """Every time limit that strikes in a loop of short steps reaches the code that set it, within our code or not, and
    each step that has begun is closed."""
    with Program("""
    import braintrust
    from trace_guard import guard_job, step

    class Limit(Exception): pass

    def ring(number, frame): raise Limit("time is up")

    def limited(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            limit = time.monotonic() + 1.0
            while time.monotonic() < limit:
                with step("item"): sum(range(200))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @guard_job(progress=False)
    def main():
        signal.signal(signal.SIGALRM, ring)
        raised = 0
        for n in range(60):
            try: limited(0.004 + n * 0.00013)
            except Limit: raised += 1
        return raised

    say(main())
    """, environment(server, directory)) as program:
        program.expects(60)
        program.ends_well()
    assert not server.open_spans()


def test_a_time_limit_does_not_wait_for_other_items(server: BraintrustServer, directory: Path) -> None:
    """A time limit that strikes while process() waits for a result, or in the iterable, ends the loop at once."""
    with Program("""
    import threading
    from trace_guard import guard_job, process

    class Limit(Exception): pass

    def ring(number, frame): raise Limit("time is up")

    never = threading.Event()
    signal.signal(signal.SIGALRM, ring)

    def endless():
        yield 1
        while True: pass

    def loop(items, function):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            for result in process(items, function, workers=2): pass
        except Limit:
            say("limit")

    @guard_job(progress=False)
    def main():
        loop(range(4), lambda item: never.wait(60))
        never.set()
        loop(endless(), lambda item: time.sleep(0.5))

    main()
    """, environment(server, directory)) as program:
        program.expects("limit", seconds=20)
        program.expects("limit", seconds=20)
        until(lambda: program.ended, what="the end of the program")
