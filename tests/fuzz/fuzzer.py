"""Feeds generated input to a check, and bounds what each example may cost.

An example fails if the check raises, takes more than a second, or takes more than 64 MB. A slow example is tried once
more before it counts: a busy machine can hold up anything.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, strategies
from hypothesis.errors import HypothesisWarning

__all__ = ["Fuzzer", "Unprintable"]

T = TypeVar("T")

MOST_SECONDS = 1.0
MOST_BYTES = 64 << 20
HANGS_AFTER = 20.0
"""Seconds after which an example is broken off, to show where it is."""
SHRINK_SECONDS = 10.0
"""How long a smaller example that fails is looked for."""
EXAMPLES_AT_ONCE = 50
FEWEST_EXAMPLES = 5
"""So many are tried in any case."""
LONGEST_INPUT = 5000
_STATUS = Path("/proc/self/status")


class Unprintable:
    """An object whose text can't be had while an example runs; a report can show it."""

    is_running = False

    def __repr__(self) -> str:
        if Unprintable.is_running:
            raise RuntimeError("not to be read")
        return "Unprintable()"


class Fuzzer:
    """Runs a check until its time is up.

    Args:
        seed: of the first round; each round has the next one.
        seconds: how long an example may begin.
    """

    def __init__(self, seed: int, seconds: float) -> None:
        self._seed = seed
        self._seconds = seconds
        self._examples = 0
        self._rounds = 0
        self._kept = 0

    @property
    def summary(self) -> str:
        return f"{self._examples} examples in {self._rounds} rounds, --fuzz-seed {self._seed}"

    def run(self, inputs: strategies.SearchStrategy[T], check: Callable[[T], object]) -> None:
        """Call the check with generated input.

        Raises:
            Exception: what the check raised for the smallest input that was found, with the seed to repeat it.
            AssertionError: an example took too long, or too much memory.
        """
        self._rounds_from(self._seed, inputs, check)
        if self._kept >= MOST_BYTES:
            # Caches fill once and the allocator keeps some pages. What is leaked grows as much again.
            self._kept = self._examples = 0
            self._rounds_from(self._seed + self._rounds, inputs, check)
        assert self._kept < MOST_BYTES, f"{self.summary}: they keep {self._kept >> 20} MB"

    def _rounds_from(
        self, seed: int, inputs: strategies.SearchStrategy[T], check: Callable[[T], object]
    ) -> None:
        until = time.monotonic() + self._seconds
        for number in itertools.count(seed):
            self._round(number, until, inputs, check)
            if time.monotonic() >= until:
                break

    def _round(
        self, number: int, until: float, inputs: strategies.SearchStrategy[T], check: Callable[[T], object]
    ) -> None:
        failed_at, smallest = math.inf, ""

        @hypothesis.seed(number)
        @hypothesis.settings(
            max_examples=EXAMPLES_AT_ONCE, database=None, deadline=None, derandomize=False,
            phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet, report_multiple_bugs=False,
        )
        @hypothesis.given(inputs)
        def examples(value: T) -> None:
            nonlocal failed_at, smallest
            now = time.monotonic()
            if failed_at < math.inf:
                # A slow example would be made smaller for minutes.
                if now - failed_at > SHRINK_SECONDS and repr(value) != smallest:
                    return
            elif now >= until and self._examples >= FEWEST_EXAMPLES:
                return
            try:
                before = _resident()
                _cost_of(lambda: check(value))
                self._kept += _resident() - before  # Hypothesis keeps things too, between the examples
            except BaseException:
                failed_at, smallest = min(failed_at, now), repr(value)
                raise
            self._examples += 1

        try:
            with warnings.catch_warnings():
                # Hypothesis prints every example that fails, and warns of its length.
                warnings.simplefilter("ignore", HypothesisWarning)
                examples()
        except BaseException:
            # Hypothesis would show all of an example, which may be long.
            print(f"repeat this with --fuzz-seed {number}; the input: {smallest[:LONGEST_INPUT]}", file=sys.stderr)
            raise
        self._rounds += 1


def _cost_of(call: Callable[[], object]) -> None:
    took, grown = _measured(call)
    if took > MOST_SECONDS:
        took, grown = min((took, grown), _measured(call))
    assert took <= MOST_SECONDS, f"it took {took:.1f} s"
    assert grown <= MOST_BYTES, f"it took {grown >> 20} MB"


def _measured(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and bytes at the peak."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew, proc(5)
    before = _resident()
    began = time.monotonic()
    with _broken_off():
        call()
    return time.monotonic() - began, max(0, _resident("VmHWM") - before)


@contextlib.contextmanager
def _broken_off() -> Iterator[None]:
    """Raise in the code that runs if it does not come to its end."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it hangs: more than {HANGS_AFTER:g} s")

    former = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER)
    Unprintable.is_running = True
    try:
        yield
    finally:
        Unprintable.is_running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _resident(field: str = "VmRSS") -> int:
    """Bytes of memory that this process has, or with ``VmHWM`` had at most; 0 where that can't be told."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), 0)
