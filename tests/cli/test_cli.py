from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY

from trace_guard import Deadline, LocalStore, __version__
from trace_guard.delivery.dead_letters import DeadLetters
from trace_guard.testing import BraintrustServer, Fault

ASK, BAD = "a1b2c3d4e5f60718", "a1ff00ff00ff00ff"
ROWS: list[dict[str, Any]] = [
    {
        "id": "1", "span_id": "root", "root_span_id": ASK, "span_parents": None, "project_id": "support-bot",
        "log_id": "g", "metrics": {"start": 1e9, "end": 1e9 + 2.5}, "span_attributes": {"name": "ask", "type": "task"},
        "metadata": {"trace_guard": {"outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline"}},
        "error": "TimedOut: still running",
    },
    {
        "id": "2", "span_id": "plan", "root_span_id": ASK, "span_parents": ["root"], "project_id": "support-bot",
        "log_id": "g", "metrics": {"start": 1e9 + 0.5, "end": 1e9 + 0.75}, "span_attributes": {"name": "plan"},
    },
    {
        "id": "3", "span_id": "llm", "root_span_id": ASK, "span_parents": ["plan"], "project_id": "support-bot",
        "log_id": "g", "metrics": {"start": 1e9 + 0.51, "end": 1e9 + 0.515},
        "span_attributes": {"name": "llm", "type": "llm"},
    },
    {
        "id": "4", "span_id": "tool", "root_span_id": ASK, "span_parents": ["root"], "project_id": "support-bot",
        "log_id": "g", "metrics": {"start": 1e9 + 1}, "span_attributes": {"name": "tool", "type": "tool"},
    },
    {
        "id": "5", "span_id": "bad", "root_span_id": BAD, "span_parents": None, "project_id": "other-bot",
        "log_id": "g", "metrics": {"start": 1e9 - 5000, "end": 1e9}, "error": "ValueError: no",
        "span_attributes": {"name": "red\x1b[31m"},
    },
]

DIES = """
import os, signal, sys, braintrust
from trace_guard import Guard
guard = Guard(project="support-bot", flush_timeout=0.2)
with guard.invocation("ask"):
    span = braintrust.start_span(name="tool")
    braintrust.flush()
    print("open", flush=True)
    if sys.argv[1] == "waits":
        sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRAINTRUST_", "TRACE_GUARD_"))}
    return {**kept, "TZ": "UTC", "PYTHONIOENCODING": "utf-8", **variables}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def filled(directory: Path) -> Path:
    """A directory whose store has two traces, one of them with an open span."""
    store = LocalStore(directory / "traces.db")
    store.send([json.dumps(row).encode() for row in ROWS], Deadline.after(10))
    store.close()
    return directory


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as made:
        yield made


def command(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trace_guard", *map(str, arguments)], capture_output=True, text=True, timeout=60,
        encoding="utf-8", env=environment(**variables),
    )


def output(*arguments: str | Path, **variables: str) -> str:
    """The output of a command that succeeds."""
    done = command(*arguments, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def dies(directory: Path, **variables: str) -> None:
    """Run a process that is killed within an invocation."""
    done = subprocess.run(
        [sys.executable, "-c", DIES, "dies"], env=environment(TRACE_GUARD_DIR=str(directory), **variables),
        capture_output=True, timeout=60,
    )
    assert done.returncode == -signal.SIGKILL


def braintrust_at(server: BraintrustServer) -> dict[str, str]:
    return {"BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url}


# traces


def test_traces_as_json(filled: Path) -> None:
    """Traces as JSON have the documented keys, times in epoch seconds, and no end while in progress."""
    assert json.loads(output("traces", "--json", "--dir", filled)) == {
        "traces": [
            {
                "root_span_id": ASK, "name": "ask", "project": "support-bot", "start": 1e9, "end": None,
                "in_progress": True, "outcome": "timed_out", "error": "TimedOut: still running", "spans": 4,
                "open_spans": 1,
            },
            {
                "root_span_id": BAD, "name": "red\x1b[31m", "project": "other-bot", "start": 1e9 - 5000, "end": 1e9,
                "in_progress": False, "outcome": "error", "error": "ValueError: no", "spans": 1, "open_spans": 0,
            },
        ]
    }


def test_traces_in_a_pipe(filled: Path) -> None:
    """In a pipe traces are an aligned table, newest first, whose texts can't steer the terminal."""
    assert output("traces", "--dir", filled).splitlines() == [
        "ROOT      STARTED                 TOOK  PROJECT      NAME      OUTCOME            SPANS  ERROR",
        f"a1b2c3d4  2001-09-09 01:46           -  support-bot  ask       in progress  1 of 4 open  {ROWS[0]['error']}",
        "a1ff00ff  2001-09-09 00:23  1 h 23 min  other-bot    red�[31m  error                  1  ValueError: no",
    ]


@pytest.mark.parametrize(
    ("options", "roots"),
    [((), [ASK, BAD]), (("--limit", "1"), [ASK]), (("--limit", "0"), []), (("--project", "other-bot"), [BAD])],
)
def test_which_traces(filled: Path, options: Sequence[str], roots: list[str]) -> None:
    """``--limit`` and ``--project`` filter the traces."""
    found = json.loads(output("traces", "--json", *options, TRACE_GUARD_DIR=str(filled)))
    assert [trace["root_span_id"] for trace in found["traces"]] == roots


@pytest.mark.parametrize("place", ["before", "after"])
def test_directory(filled: Path, place: str) -> None:
    """``--dir`` works before and after the command, and overrides the variable."""
    arguments = ["--dir", filled, "traces"] if place == "before" else ["traces", "--dir", filled]
    assert "a1b2c3d4" in output(*arguments, TRACE_GUARD_DIR="/nowhere")


def test_no_traces(directory: Path) -> None:
    """An empty store is not an error; the message names the store, and no directory is created."""
    done = command("traces", "--dir", directory)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"no traces in {directory / 'traces.db'}" in done.stderr
    assert json.loads(output("traces", "--json", "--dir", directory)) == {"traces": []}
    assert not directory.exists()


def test_no_traces_with_a_key(directory: Path) -> None:
    """With an API key and an empty local store, the message says that traces go to Braintrust."""
    assert "go to Braintrust" in command("traces", "--dir", directory, BRAINTRUST_API_KEY=PLANTED_KEY).stderr


def test_encoding(filled: Path) -> None:
    """Characters that the terminal's encoding lacks are escaped, and the tree is drawn in ASCII."""
    assert "red\\ufffd[31m" in output("traces", "--dir", filled, PYTHONIOENCODING="ascii")
    assert "`- tool" in output("show", "a1b2", "--dir", filled, PYTHONIOENCODING="ascii")


def test_imports() -> None:
    """The package and `traces` in a pipe import neither the SDK nor an HTTP client nor rich."""
    script = """
import sys, trace_guard, trace_guard.cli
trace_guard.cli.main(["traces", "--json", "--dir", "/nowhere"])
print([name for name in ("braintrust", "requests", "urllib3", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.stdout == '{"traces": []}\n[]\n'


# show


def test_show_as_json(filled: Path) -> None:
    """A trace as JSON has its summary and its spans in the order of the tree, with how each was closed."""
    shown = json.loads(output("show", ASK, "--json", "--dir", filled))
    assert sorted(shown) == ["spans", "trace"]
    assert shown["trace"] == json.loads(output("traces", "--json", "--dir", filled))["traces"][0]
    assert shown["spans"][0] == {
        "id": "1", "span_id": "root", "root_span_id": ASK, "parent": None, "name": "ask", "type": "task",
        "start": 1e9, "end": 1e9 + 2.5, "duration": 2.5, "error": "TimedOut: still running", "outcome": "timed_out",
        "closed_by": "watchdog", "reason": "deadline", "depth": 0,
        "metadata": ROWS[0]["metadata"],
    }
    assert [(span["name"], span["depth"], span["duration"]) for span in shown["spans"]] == [
        ("ask", 0, 2.5), ("plan", 1, 0.25), ("llm", 2, pytest.approx(0.005, abs=1e-6)), ("tool", 1, None),
    ]


def test_show_in_a_pipe(filled: Path) -> None:
    """A trace in a pipe is a tree with durations, errors and how each span was closed."""
    assert output("show", "a1b2", "--dir", filled).splitlines() == [
        f"ask  {ASK}",
        "in progress, started 2001-09-09 01:46, project support-bot",
        "SPAN       TYPE   BEGINS    TOOK  OUTCOME      CLOSED BY           ERROR",
        "ask        task  +0.0 ms  2.50 s  timed_out    watchdog: deadline  TimedOut: still running",
        "├─ plan    -     +500 ms  250 ms  ok           its own code",
        "│  └─ llm  llm   +510 ms  5.0 ms  ok           its own code",
        "└─ tool    tool  +1.00 s       -  in progress  -",
    ]


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("a1", f"'a1' matches more than one trace; give more characters: {ASK}, {BAD}"),
        ("b", "begins with 'b': `trace-guard traces` lists all traces"),
    ],
)
def test_show_what(filled: Path, root: str, said: str) -> None:
    """An id that matches no trace, or several, is an error that says what to do."""
    done = command("show", root, "--dir", filled)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


# status and recover


def test_nothing_there(directory: Path) -> None:
    """An unused directory has no problems and nothing to recover, and is not created."""
    assert output("status", "--dir", directory).splitlines() == [
        f"directory     {directory} (does not exist yet)",
        f"destination   local store {directory / 'traces.db'}",
        "journals      none",
        "refused rows  0",
        "",
        "no problems",
    ]
    assert output("recover", "--dir", directory) == f"nothing to recover: {directory} does not exist\n"
    assert not directory.exists()


def test_dead_process(directory: Path) -> None:
    """``status`` reports what a killed process left as a problem until ``recover`` has closed and stored it."""
    dies(directory)
    status = command("status", "--json", "--dir", directory)
    told = json.loads(status.stdout)
    (journal,) = told.pop("journals")
    assert (status.returncode, journal["state"], journal["open_spans"], journal["ours"]) == (1, "orphan", 2, True)
    assert told["problems"] == [
        f"1 journal of dead processes, with {journal['pending_rows']} undelivered rows and 2 open spans: "
        "run `trace-guard recover`"
    ]
    text = command("status", "--dir", directory)
    assert text.returncode == 1
    assert f"problem: {told['problems'][0]}" in text.stdout

    done = json.loads(output("recover", "--json", "--dir", directory))
    assert done == {
        "journals": 1, "closed_spans": 2, "delivered_rows": done["delivered_rows"], "pending_rows": 0, "error": None,
    }
    assert json.loads(output("status", "--json", "--dir", directory))["journals"] == []
    (trace,) = json.loads(output("traces", "--json", "--dir", directory))["traces"]
    assert (trace["name"], trace["outcome"], trace["in_progress"], trace["spans"]) == ("ask", "abandoned", False, 2)
    spans = json.loads(output("show", trace["root_span_id"], "--json", "--dir", directory))["spans"]
    assert {(span["name"], span["closed_by"]) for span in spans} == {("ask", "recovery"), ("tool", "recovery")}
    assert output("recover", "--dir", directory) == f"nothing to recover in {directory}\n"


def test_recover_in_words(directory: Path) -> None:
    """``recover`` prints how much it closed and delivered."""
    dies(directory)
    assert output("recover", "--dir", directory).startswith("1 journal of dead processes: 2 open spans closed, ")


def test_backend_down(directory: Path, server: BraintrustServer) -> None:
    """While the backend is down `recover` keeps all rows and fails; afterwards it delivers them."""
    server.refuse_connections()
    dies(directory, **braintrust_at(server))
    failed = command("recover", "--timeout", "0.5", "--dir", directory, **braintrust_at(server))
    assert failed.returncode == 1
    assert f"pending, safe in {directory}: " in failed.stdout
    status = command("status", "--dir", directory, **braintrust_at(server))
    assert status.returncode == 1
    assert server.url in status.stdout

    server.accept_connections()
    output("recover", "--dir", directory, **braintrust_at(server))
    assert (len(server.span_rows()), server.open_spans()) == (2, [])


def test_another_destination(directory: Path, server: BraintrustServer) -> None:
    """``status`` reports a journal for another destination as a problem, and ``recover`` leaves it alone."""
    dies(directory)
    status = command("status", "--dir", directory, **braintrust_at(server))
    assert status.returncode == 1
    assert "1 journal of dead processes for another destination (local)" in status.stdout
    first, second = output("recover", "--dir", directory, **braintrust_at(server)).splitlines()
    assert first == f"nothing to recover in {directory}"
    assert second.endswith("are for another destination (local): run `TRACE_GUARD_BACKEND=local trace-guard recover`")


def test_live_process(directory: Path) -> None:
    """The journal of a live process is not a problem."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, "waits"], env=environment(TRACE_GUARD_DIR=str(directory)), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        (journal,) = json.loads(output("status", "--json", "--dir", directory))["journals"]
        assert (journal["state"], journal["pid"], journal["open_spans"]) == ("live", process.pid, 2)
        assert "1 live, 0 of dead processes" in output("status", "--dir", directory)
    finally:
        process.communicate("die\n", timeout=60)


def test_refused_rows(directory: Path) -> None:
    """Rows that were refused for good are a problem, and the message says where they are."""
    directory.mkdir()
    DeadLetters(directory, 1000).keep(b'{"id": "a"}', 400, "bad row")
    status = command("status", "--dir", directory)
    assert status.returncode == 1
    assert f"1 row refused for good, the last one with: bad row; they are kept in {directory}" in status.stdout


# How it ends


def test_version() -> None:
    """``--version`` prints the version."""
    assert output("--version") == f"trace-guard {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["show"], ["traces", "--limit", "-1"], ["traces", "--limit", "x"], ["recover", "--timeout", "x"]],
)
def test_called_wrongly(arguments: list[str]) -> None:
    """Invalid arguments exit with 2 and a usage line."""
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: trace-guard")


def test_bad_setting() -> None:
    """An invalid setting exits with 2 and a message that names it."""
    done = command("traces", TRACE_GUARD_LINGER="soon")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "trace-guard: TRACE_GUARD_LINGER is 'soon', which is not accepted: it takes a number of seconds, 0 or more\n"
    )


def test_damaged_store(directory: Path) -> None:
    """An unreadable store exits with 1 and one line that says what to do."""
    directory.mkdir()
    (directory / "traces.db").write_text("not a database" * 1000)
    done = command("traces", "--dir", directory)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "move it away" in done.stderr


def test_broken_pipe(filled: Path) -> None:
    """A closed pipe, as after ``head``, ends a command without an error message."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "trace_guard", "traces", "--dir", str(filled)], stdout=writing,
        stderr=subprocess.PIPE, env=environment(), timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_interrupt(directory: Path, server: BraintrustServer) -> None:
    """Ctrl-C ends a command at once and without a traceback."""
    server.refuse_connections()
    dies(directory, **braintrust_at(server))
    server.accept_connections()
    server.fail("*", Fault.black_hole())
    process = subprocess.Popen(
        [sys.executable, "-m", "trace_guard", "recover", "--dir", str(directory)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment(**braintrust_at(server)),
    )
    server.wait_for(lambda: server.requests, timeout=30)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)
    assert (process.returncode, *said) == (128 + signal.SIGINT, b"", b"")


# On a terminal


def on_a_terminal(*arguments: str, program: Sequence[str] = ("-m", "trace_guard"), **variables: str) -> str:
    """The output of a command on a terminal, of 100 columns by default."""
    ours, its = pty.openpty()
    variables = {"TERM": "xterm", "COLUMNS": "100", **variables}
    process = subprocess.Popen(
        [sys.executable, *program, *arguments], stdin=its, stdout=its, stderr=its, env=environment(**variables)
    )
    os.close(its)
    written = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(30) == 0
    return written.decode()


def test_rich_table(filled: Path) -> None:
    """On a terminal traces are a coloured table that fits it."""
    pytest.importorskip("rich")
    written = on_a_terminal("traces", "--dir", str(filled))
    assert "\x1b[" in written
    assert "─" * 20 in written
    assert "a1b2c3d4" in written
    assert "red\x1b" not in written
    lines = re.sub(r"\x1b\[[0-9;]*m", "", written).splitlines()
    assert max(map(len, lines)) <= 100


def test_terminal_without_rich(filled: Path) -> None:
    """Without rich a terminal gets the plain table."""
    program = ("-c", "import sys; sys.modules['rich'] = None; from trace_guard.cli import main; sys.exit(main())")
    written = on_a_terminal("traces", "--dir", str(filled), program=program, COLUMNS="200")
    assert written.replace("\r\n", "\n") == output("traces", "--dir", filled)
