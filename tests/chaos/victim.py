"""Guarded work without end, of every kind that there is, until somebody kills it.

Started as a program: ``victim.py SEED``. It says ``ready``, and ``done ROW_ID VERDICT`` after each invocation that has
returned to its caller. With ``KILL_AT_LINE`` in the environment it kills itself when so many lines of the mechanism
have been run, which hits every place of it alike.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import braintrust

import trace_guard
from trace_guard import Deadline, FlushPolicy, Guard

MECHANISM = (
    "journal/", "courier", "sender", "batch", "breaker", "open_spans", "runtime", "recovery", "invocation", "watchdog",
    "transport", "backends/", "identity",
)
ROOT = os.path.dirname(trace_guard.__file__) + os.sep


def kill_at(line: int) -> None:
    """SIGKILL this process when the mechanism has run this many lines, on any thread."""
    left = [line]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        return count if name.startswith(ROOT) and name[len(ROOT) :].startswith(MECHANISM) else None

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    threading.settrace(trace)
    sys.settrace(trace)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Trouble(Exception):
    """An error of the user's code."""


def work(chance: random.Random, depth: int = 0) -> None:
    """User code: nested spans, logged or not, ended or not, with and without errors."""
    for _ in range(chance.randint(0, 3 - depth)):
        payload = "x" * chance.choice((0, 10, 200, 3000))
        if chance.random() < 0.25:
            braintrust.start_span(f"left open {depth}").log(input=payload)
        else:
            with braintrust.start_span(f"ended {depth}", input=payload) as span:
                work(chance, depth + 1)
                span.log(output=payload, metadata={"depth": depth})
        if chance.random() < 0.2:
            braintrust.flush()
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 0.02))
    if chance.random() < 0.05:
        raise Trouble(depth)


def long_work(chance: random.Random) -> None:
    """A job whose beginning is delivered and removed from disk before its end."""
    outer = braintrust.start_span("outer", input="x" * 1000)
    for _ in range(chance.randint(5, 60)):
        with outer.start_span("step") as step:
            step.log(output="x" * 2000)
        braintrust.flush()
        time.sleep(chance.uniform(0, 0.01))
    work(chance)
    outer.end()


def invoke(guard: Guard, name: str, chance: random.Random, work: Callable[[random.Random], None] = work) -> None:
    deadline = Deadline.after(chance.choice((0.02, 0.2, 3.0))) if chance.random() < 0.5 else None
    invocation = guard.invocation(name, deadline=deadline, input={"n": name})
    try:
        with invocation:
            work(chance)
    except Trouble:
        pass
    assert invocation.delivery is not None
    say("done", invocation.span.id, invocation.delivery.verdict.value)


def main() -> None:
    chance = random.Random(int(sys.argv[1]))
    line = int(os.environ.get("KILL_AT_LINE") or 0)
    if line:
        kill_at(line)
    keywords: dict[str, Any] = {"linger": chance.choice((0.0, 0.02, 1.0)), "flush_timeout": 0.3}
    if chance.random() < 0.5:
        keywords["max_journal_bytes"] = 65_536  # segments of 4 KiB
    guard = Guard(**keywords)
    after = Guard(**keywords, flush=FlushPolicy.AFTER_RESPONSE)
    say("ready")
    for number in range(int(os.environ.get("INVOCATIONS") or 10_000)):
        kind = chance.random()
        if kind < 0.2:
            threads = [
                threading.Thread(target=invoke, args=(guard, f"thread {number}.{n}", random.Random(chance.random())))
                for n in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        elif kind < 0.3:
            invoke(guard, f"long {number}", chance, long_work)
        elif kind < 0.5:
            invoke(after, f"after {number}", chance)
        else:
            invoke(guard, f"plain {number}", chance)
        if chance.random() < 0.1:
            guard.flush(timeout=0.2)
    guard.close(timeout=0.5)
    say("ended")


if __name__ == "__main__":
    main()
