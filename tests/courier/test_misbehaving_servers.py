"""Whatever a server answers, a delivery ends in time and in little memory, says what came of it, and costs no row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from misbehaving import BUDGET, CASES, Case

# How late a thread of ours may be on a machine that has much to do.
SLACK = 1.0
MOST_GROWTH = 64 << 20


@pytest.fixture(scope="module")
def outcomes() -> Any:
    """What came of a delivery to each server, in a process of their own."""
    program = Path(__file__).parents[1] / "misbehaving.py"
    # One arena: what threads allocate and free is not counted for each of them.
    environ = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=120, check=True, env=environ
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:60])
def test_a_delivery_ends_in_time_with_the_right_verdict(outcomes: Any, case: Case) -> None:
    """A server that misbehaves holds a delivery no longer than its deadline, and the next one arrives."""
    found = outcomes["cases"][case.name]
    assert found["verdict"] == case.verdict
    assert found["seconds"] < BUDGET + SLACK
    assert found["again"] == (None if case.scheme == "https" else "delivered")


def test_no_answer_takes_memory(outcomes: Any) -> None:
    """All of them together, eight at a time, take less memory than one large answer has."""
    assert outcomes["growth"] < MOST_GROWTH


def test_the_key_goes_nowhere_else(outcomes: Any) -> None:
    """Neither a redirect nor a login leads a request to another server."""
    assert outcomes["trapped"] == []
