"""Helpers that run commands under the supervisor, and guarded programs to run."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import Program, environment, without_place

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

__all__ = ["GUARDED", "about", "local", "named", "needs_linux", "python", "supervised"]

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by way of /proc")

_PRELUDE = """
    import os, signal, sys
    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""

GUARDED = """
    import braintrust
    from trace_guard import Guard
    guard = Guard(linger=60, exit_timeout=5)
    with guard.invocation("job"):
        with braintrust.start_span("done") as done:
            done.log(output=2)
        step = braintrust.start_span("step")
        braintrust.flush()
        say("busy", os.getpid())
"""
"""A program in the middle of its work. Lines that a test appends must be indented by eight spaces."""


def python(code: str, *more: str) -> list[str]:
    """The command line of a Python program. Its code can print with ``say``."""
    return [sys.executable, "-c", textwrap.dedent(_PRELUDE) + textwrap.dedent(code), *more]


def supervised(command: Sequence[str], env: Mapping[str, str], *options: str) -> Program:
    """``trace-guard run [options] -- command``, in a session without a terminal."""
    words = ["run", *options, "--", *command]
    return Program(f"from trace_guard.cli import main; sys.exit(main({words!r}))", env)


def local(directory: Path) -> dict[str, str]:
    """Environment variables for a program whose rows stay on this machine."""
    return environment(None, directory, BRAINTRUST_API_KEY="")


def named(server: BraintrustServer, name: str) -> Row:
    """The only delivered span with this name."""
    (row,) = (row for row in server.span_rows() if row["span_attributes"]["name"] == name)
    return row


def about(row: Row) -> Any:
    """What the row's metadata says about how the span was closed."""
    return without_place(row)
