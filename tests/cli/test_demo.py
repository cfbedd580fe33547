from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime client runs on Linux only")


def run(*program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, encoding="utf-8", timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def test_demo() -> None:
    """The demo shows every way to fail, the resulting trace, and that no trace is left in progress."""
    done = run("-m", "trace_guard", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    first = next(index for index, line in enumerate(lines) if line[0] == "THE FUNCTION") + 1
    answer = "Order 1042 arrives tomorrow."
    # The last column is a measurement.
    assert [line[:-1] for line in lines[first : first + 7]] == [
        ["returns", answer, "ok", "6", "0", "delivered"],
        ["raises", "LookupError: no parcel Z-77", "error", "5", "0", "delivered"],
        ["leaves a span open", answer, "ok", "7", "1", "delivered"],
        ["calls sys.exit", "exit status 3", "error", "5", "0", "delivered"],
        ["times out", "Task timed out after 1.50 seconds", "timed_out", "6", "2", "delivered"],
        ["SIGKILL, invoked again", "signal: killed", "abandoned", "6", "2", "by the next start"],
        ["backend down, up again", answer, "ok", "6", "0", "spooled, sent later"],
    ]
    assert [line[-1] == "-" for line in lines[first : first + 7]] == [False, False, False, False, True, True, False]
    assert re.search(r"^\d+ traces with \d+ spans on the server: none in progress\.", done.stdout, re.MULTILINE)


def test_without_the_runtime_client() -> None:
    """Without AWS's runtime client the demo says what to install."""
    hidden = "import sys; sys.modules['awslambdaric'] = None\n"
    hidden += "from trace_guard import cli; sys.exit(cli.main(['demo']))"
    done = run("-c", hidden)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith('not installed: pip install "trace-guard[cli,testing]"\n')
