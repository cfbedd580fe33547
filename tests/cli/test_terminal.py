"""What people see on terminals of 80 and 200 columns, and in pipes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trace_guard import Deadline, LocalStore
from trace_guard.cli.commands import COMMANDS, GROUPS
from trace_guard.cli.tables import PIPE_WIDTH

WIDTHS = (80, 200)
ROOT = "a1b2c3d4e5f60718"
PROMPT = "Which of the three contracts mentions a notice period, and how long is it? " * 4
ERROR = "Traceback (most recent call last):\n  File \"app.py\", line 3, in ask\n" + "ValueError: " + "no answer " * 20
NAME = "evaluate-retrieval-augmented-generation-nightly"


def row(name: str, start: float, *, parent: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "span_id": name if parent else ROOT, "root_span_id": ROOT, "span_parents": parent and [parent],
        "project_id": "customer-support-assistant-production", "log_id": "g",
        "metrics": {"start": start, "end": start + 2.5}, "span_attributes": {"name": name, "type": "task"}, **more,
    }


ROWS = [
    row(NAME, 1e9, metadata={
        "job": {"steps": {"done": 19, "failed": 1, "skipped": 0}}, "trace_guard": {"outcome": "ok"}
    }),
    row("load-documents", 1e9 + 1, parent=ROOT, input={"prompt": PROMPT}, output=["first", {"answer": "30 days"}]),
    row("ask-model", 1e9 + 2, parent="load-documents", error=ERROR, input="gr\u00fc\u00dfe \u4f60\u597d \x1b[31m"),
]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    store = LocalStore(tmp_path / "state" / "traces.db")
    store.send([json.dumps(one).encode() for one in ROWS], Deadline.after(10))
    store.close()
    return tmp_path / "state"


def environment(**variables: str) -> dict[str, str]:
    dropped = ("BRAINTRUST_", "TRACE_GUARD_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "TZ": "UTC", "PYTHONIOENCODING": "utf-8", "TERM": "xterm", **variables}


def shown(width: int, *arguments: str | Path, **variables: str) -> list[str]:
    """The lines that a terminal of this width shows, without styles."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "trace_guard", *map(str, arguments)], stdin=its, stdout=its, stderr=its,
        env=environment(**variables),
    )
    os.close(its)
    written = b""
    while True:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    process.wait(30)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).splitlines()


def piped(*arguments: str | Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "trace_guard", *map(str, arguments)], capture_output=True, text=True, timeout=60,
        env=environment(), check=True, encoding="utf-8",
    ).stdout


def cells(line: str) -> int:
    return len(line) + len(re.findall(r"[\u4e00-\u9fff]", line))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "command", [["traces"], ["show", ROOT], ["show", ROOT, "--payloads"], ["status"]], ids=" ".join
)
def test_lines_fit_the_terminal(filled: Path, command: Sequence[str], width: int) -> None:
    """No line is longer than the terminal is wide, apart from single words that are."""
    for line in shown(width, *command, "--dir", filled):
        assert cells(line) <= width or " " not in line.strip(), line


@pytest.mark.parametrize("width", WIDTHS)
def test_traces_on_a_terminal(filled: Path, width: int) -> None:
    """Every column of ``traces`` can be read. What is cut ends with an ellipsis, and failed steps are told."""
    lines = shown(width, "traces", "--dir", filled)
    header = next(line for line in lines if line.startswith("root "))
    shown_always = ["root", "started", "took", "project", "name", "outcome"]
    assert header.split()[: len(shown_always)] == shown_always
    (line,) = [line for line in lines if line.startswith("a1b2c3d4")]
    assert "ok (1 of 20 failed)" in line
    for whole in (NAME, ROWS[0]["project_id"]):
        assert whole in line or re.search(re.escape(whole[:5]) + r"[\w-]*\u2026", line), line
    assert width == 80 or NAME in line


@pytest.mark.parametrize("width", WIDTHS)
def test_show_on_a_terminal(filled: Path, width: int) -> None:
    """``show`` draws the tree with the names in full, and each error in one line with the end of its exception. Where
    there is room, a bar shows when each span ran."""
    lines = shown(width, "show", "a1b2", "--dir", filled)
    text = "\n".join(lines)
    assert f"{NAME}  {ROOT}" in text
    for name in ("load-documents", "ask-model"):
        assert any(name in line for line in lines)
    (error,) = [line for line in lines if "ValueError: no answer" in line]
    assert error.rstrip().endswith(("\u2026", "no answer"))
    assert "--payloads shows inputs" in text
    assert bool(re.search(r"\btook +time +outcome\b", text)) is (width == 200)


@pytest.mark.parametrize("width", WIDTHS)
def test_payloads_in_full(filled: Path, width: int) -> None:
    """``show --payloads`` has inputs, outputs, metadata and errors in full, broken between words, and none of their
    characters steers the terminal."""
    text = "\n".join(shown(width, "show", ROOT, "--payloads", "--dir", filled))
    flat = " ".join(text.split())
    assert " ".join(PROMPT.split()) in flat
    assert '"answer": "30 days"' in flat
    assert '"failed": 1' in flat
    assert " ".join(ERROR.split()) in flat
    assert "gr\u00fc\u00dfe \u4f60\u597d" in text
    assert "\x1b" not in text


def test_show_as_json_is_in_full(filled: Path) -> None:
    """``show --json`` always has input, output, metadata and the whole error."""
    root, load, ask = json.loads(piped("show", ROOT, "--json", "--dir", filled))["spans"]
    assert root["metadata"] == ROWS[0]["metadata"]
    assert (load["input"], load["output"]) == (ROWS[1]["input"], ROWS[1]["output"])
    assert (ask["error"], ask["input"]) == (ERROR, ROWS[2]["input"])


def test_a_pipe_gets_bounded_lines(filled: Path) -> None:
    """In a pipe each row is one line of at most 200 characters; all fields are in the JSON."""
    for command in (["traces"], ["show", ROOT], ["show", ROOT, "--payloads"]):
        lines = piped(*command, "--dir", filled).splitlines()
        assert max(map(len, lines)) <= PIPE_WIDTH
    assert len(piped("traces", "--dir", filled).splitlines()) == 2
    (trace,) = json.loads(piped("traces", "--json", "--dir", filled))["traces"]
    assert (trace["parts"], trace["failed_parts"], trace["name"]) == (20, 1, NAME)


@pytest.mark.parametrize("width", WIDTHS)
def test_status_on_a_terminal(tmp_path: Path, width: int) -> None:
    """Every column of ``status`` can be read, the destination too."""
    program = (
        "import os, signal; from trace_guard import Guard\n"
        "with Guard(flush_timeout=0).invocation('ask'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    destination = "https://braintrust.dataplane.customer-support.example.com/eu-central-1/production"
    variables = {
        "BRAINTRUST_API_KEY": "sk-x", "BRAINTRUST_API_URL": destination, "BRAINTRUST_APP_URL": "http://127.0.0.1:9",
        "TRACE_GUARD_DIR": str(tmp_path / "state"),
    }
    subprocess.run([sys.executable, "-c", program], env=environment(**variables), timeout=60)
    lines = shown(width, "status", **variables)
    text = "\n".join(lines)
    for title in ("journal", "state", "size", "pending rows", "open spans", "destination"):
        assert re.search(rf"(^|  ){title}(:|  |$)", text, re.MULTILINE), title
    assert "orphan" in text
    assert sum("braintrust.dataplane" in line for line in lines) >= 2


def test_commands_by_what_people_want() -> None:
    """``--help`` lists every command once, below the heading of its group."""
    said = subprocess.run(
        [sys.executable, "-m", "trace_guard", "--help"], capture_output=True, text=True, timeout=60,
        env=environment(COLUMNS="80"), check=True,
    ).stdout
    places = [said.index(f"\n{title}:\n") for title in GROUPS.values()]
    assert places == sorted(places)
    for command in COMMANDS:
        (place,) = [found.start() for found in re.finditer(rf"^  {command.name} ", said, re.MULTILINE)]
        assert max(start for start in places if start < place) == places[list(GROUPS).index(command.group)]
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_help_has_an_example(command: Any) -> None:
    """The help of each command shows at least one example, which the command accepts."""
    said = subprocess.run(
        [sys.executable, "-m", "trace_guard", command.name, "--help"], capture_output=True, text=True, timeout=60,
        env=environment(COLUMNS="80"), check=True,
    ).stdout
    assert command.examples
    for example in command.examples:
        assert f"\n  {example}\n" in said
        assert example.startswith(f"trace-guard {command.name}")
