"""The simulated Lambda service: how it runs, freezes, kills and restarts a function."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trace_guard.testing import LambdaSandbox

FUNCTIONS = Path(__file__).parent.parent / "functions"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


def sandbox_of(case: str, **keywords: Any) -> LambdaSandbox:
    return LambdaSandbox("app.handler", code=FUNCTIONS / f"sandbox_{case}", **keywords)


def thread_states(pid: int) -> set[str]:
    """The states of all threads of a process, as single letters, T is "stopped"; empty if it is gone."""
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)


def message(result: Any) -> str:
    """The caller's error message, without the request's id."""
    return str(result.payload["errorMessage"]).replace(result.request_id, "ID")


# Answers


def test_the_answer_of_the_handler_is_returned() -> None:
    """The handler's answer comes back with its times and its log, cold once and warm from then on."""
    with sandbox_of("echo") as sandbox:
        before = time.time()
        cold, warm = sandbox.invoke({"n": 1}), sandbox.invoke({"n": 2})
        assert [result.payload["event"] for result in (cold, warm)] == [{"n": 1}, {"n": 2}]
        assert [result.status for result in (cold, warm)] == ["ok", "ok"]
        assert [result.log for result in (cold, warm)] == ["echoing\n", "echoing\n"]
        assert [(result.cold, result.init_seconds > 0) for result in (cold, warm)] == [(True, True), (False, False)]
        assert cold.pid == warm.pid == sandbox.pid == cold.payload["pid"]
        assert cold.payload["request_id"] == cold.request_id != warm.request_id
        for result in (cold, warm):
            assert 0 < result.seconds < result.billed_seconds < 3
            assert result.frozen_at is not None
            assert before < result.payload["at"] < result.returned_at < result.frozen_at < time.time()


def test_the_context_tells_deadline_function_and_client_context() -> None:
    """The context tells the time that is left, the function's ARN and the client's context."""
    with sandbox_of("echo", function_name="f") as sandbox:
        first = sandbox.invoke({}, client_context={"custom": {"a": "1"}}).payload
        assert 2000 < first["remaining_ms"] <= 3000
        assert (first["function_arn"][-11:], first["client_context"]) == (":function:f", {"a": "1"})
        second = sandbox.invoke({}, deadline=60).payload
        assert (59_000 < second["remaining_ms"] <= 60_000, second["client_context"]) == (True, None)


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The function finds Lambda's variables and those it was given, and nothing else of the test's own."""
    monkeypatch.setenv("BRAINTRUST_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "relative")
    with sandbox_of("echo", env={"GIVEN": "1"}, memory_mb=128, tmp=tmp_path) as sandbox:
        found = sandbox.invoke({}).payload["environment"]
        assert "BRAINTRUST_API_KEY" not in found
        assert found["PYTHONPATH"].split(os.pathsep) == [str(FUNCTIONS / "sandbox_echo"), os.path.abspath("relative")]
        assert found["TRACE_GUARD_DIR"] == str(sandbox.trace_guard_dir) == str(tmp_path / "trace-guard")
        assert (found["TMPDIR"], found["GIVEN"]) == (str(tmp_path), "1")
        assert (found["AWS_LAMBDA_FUNCTION_NAME"], found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) == ("function", "128")
    with sandbox_of("echo", env={"TRACE_GUARD_DIR": str(tmp_path)}) as sandbox:
        assert sandbox.invoke({}).payload["environment"]["TRACE_GUARD_DIR"] == str(tmp_path)


def test_an_exception_is_an_error() -> None:
    """An exception of the handler is answered as an error, and the process lives on."""
    with sandbox_of("misbehaves") as sandbox:
        result = sandbox.invoke("raise")
        assert (result.status, result.payload["errorType"]) == ("error", "ValueError")
        assert (result.payload["errorMessage"], result.exit_status) == ("no such customer", None)
        assert "no such customer" in result.log
        assert sandbox.invoke("nothing").cold is False


def test_an_answer_that_is_too_large_is_an_error() -> None:
    """An answer above 6 MB is an error to the caller, as it is on Lambda."""
    with sandbox_of("misbehaves") as sandbox:
        result = sandbox.invoke("answer_too_much")
        assert (result.status, result.payload["errorType"]) == ("error", "Function.ResponseSizeTooLarge")


# Freezing


def test_a_frozen_function_does_not_advance() -> None:
    """From one event to the next not a thread and not a child of the function runs, whatever else goes on."""
    with sandbox_of("background") as sandbox, sandbox_of("echo") as another:
        first = sandbox.invoke({})
        assert sandbox.frozen
        assert thread_states(first.pid) == {"T"}
        until(lambda: thread_states(first.payload["child"]) == {"T"})
        with (sandbox.tmp / "counter").open("rb") as file, mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ) as counter:
            (then,) = struct.unpack("Q", counter)
            assert then >= first.payload["count"]
            # A real event of its own duration: a process is started and answers.
            assert another.invoke({}).status == "ok"
            assert struct.unpack("Q", counter) == (then,)
            second = sandbox.invoke({})
            assert second.payload["count"] > then
            assert thread_states(first.pid) == {"T"}


def test_the_freeze_comes_before_the_caller_can_see_its_answer() -> None:
    """When an invocation is over the function is frozen already, each of a hundred times."""
    with sandbox_of("background") as sandbox:
        for _ in range(100):
            result = sandbox.invoke({})
            assert thread_states(result.pid) == {"T"}


def test_without_freezing_the_function_goes_on() -> None:
    """With freeze=False the function runs on between two events."""
    with sandbox_of("background", freeze=False) as sandbox:
        result = sandbox.invoke({})
        assert (result.status, sandbox.frozen) == ("ok", False)
        with (sandbox.tmp / "counter").open("rb") as file, mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ) as counter:
            (then,) = struct.unpack("Q", counter)
            until(lambda: struct.unpack("Q", counter)[0] > then)


def test_waiting_for_the_freeze_has_a_limit() -> None:
    """Waiting for a freeze returns when there is one, and raises when there is none in time."""
    with sandbox_of("echo") as sandbox:
        with pytest.raises(TimeoutError, match="not frozen"):
            sandbox.wait_frozen(0.01)
        sandbox.invoke({})
        sandbox.wait_frozen(1)


# Death


def test_a_function_is_killed_at_its_timeout() -> None:
    """At its timeout a function is killed, and the caller gets AWS's words for it."""
    with sandbox_of("misbehaves", timeout=0.2) as sandbox:
        result = sandbox.invoke("dawdle")
        assert (result.status, message(result)) == (
            "timed_out",
            "RequestId: ID Error: Task timed out after 0.20 seconds",
        )
        assert (result.exit_status, result.frozen_at, sandbox.pid, result.log) == (-9, None, None, "dawdling\n")
        assert 0.2 <= result.seconds == result.billed_seconds < 1


@pytest.mark.parametrize(
    ("way", "exit_status", "words"),
    [
        ("exit", 3, "Runtime exited with error: exit status 3"),
        ("exit_cleanly", 0, "Runtime exited without providing a reason"),
        ("kill", -9, "Runtime exited with error: signal: killed"),
    ],
)
def test_a_function_that_ends_its_process_has_crashed(way: str, exit_status: int, words: str) -> None:
    """A function that ends its process has crashed, in AWS's words."""
    with sandbox_of("misbehaves") as sandbox:
        result = sandbox.invoke(way)
        assert (result.status, result.exit_status, message(result)) == (
            "crashed",
            exit_status,
            f"RequestId: ID Error: {words}",
        )
        assert result.payload["errorType"] == "Runtime.ExitError"


def test_after_a_death_the_function_starts_anew_on_the_same_disk() -> None:
    """After any death the next event starts the function anew, and it finds the same directory."""
    with sandbox_of("misbehaves", timeout=0.5) as sandbox:
        ways = ["nothing", "dawdle", "exit", "nothing", "nothing"]
        results = [sandbox.invoke(way) for way in ways]
        sandbox.kill()
        results.append(sandbox.invoke("nothing"))
        assert [result.cold for result in results] == [True, False, True, True, False, True]
        assert len({result.pid for result in results}) == 4
        assert (sandbox.tmp / "ways").read_text().split() == [*ways, "nothing"]
        assert sandbox.log.count("dawdling") == 1


def test_a_function_is_killed_after_a_given_time() -> None:
    """With kill_after the function is killed so long after it got the event, if it is still at it."""
    with sandbox_of("misbehaves", timeout=30) as sandbox:
        assert [sandbox.invoke("nothing", kill_after=each).status for each in (None, -1.0, 10.0)] == ["ok"] * 3
        result = sandbox.invoke("dawdle", kill_after=0.05)
        assert (result.status, result.exit_status, result.cold) == ("crashed", -9, False)
        assert 0.05 <= result.seconds < 10


def test_a_function_is_killed_when_a_condition_is_met() -> None:
    """With kill_when the function is killed as soon as the condition is met."""
    with sandbox_of("misbehaves", timeout=30) as sandbox:
        assert sandbox.invoke("nothing", kill_when=lambda: False).status == "ok"
        result = sandbox.invoke("dawdle", kill_when=lambda: "dawdling" in sandbox.log)
        assert (result.status, result.exit_status, result.log) == ("crashed", -9, "dawdling\n")
        assert result.seconds < 10


def test_an_answer_stands_although_the_function_is_killed_after_it() -> None:
    """A function that answers in time and then lingers is killed and billed, and its answer stands."""
    with sandbox_of("misbehaves", timeout=0.5) as sandbox:
        result = sandbox.invoke("answer_and_linger")
        assert (result.status, result.payload, result.exit_status) == ("ok", "an answer", -9)
        assert result.seconds < 0.5 <= result.billed_seconds
        assert sandbox.invoke("nothing").cold


def test_a_frozen_function_can_be_killed() -> None:
    """A frozen function can be killed, and is gone with its children when that returns."""
    with sandbox_of("background") as sandbox:
        result = sandbox.invoke({})
        sandbox.kill()
        assert (sandbox.pid, sandbox.exit_status, sandbox.frozen) == (None, -9, False)
        # Whoever inherits the child has to collect it, so it may be seen as a zombie for a moment.
        until(lambda: thread_states(result.payload["child"]) <= {"Z"})


@pytest.mark.parametrize(("way", "exit_status"), [("nothing", -15), ("ignore_sigterm", -9)])
def test_a_shutdown_is_polite_first(way: str, exit_status: int) -> None:
    """A shutdown thaws the function, asks it to end by SIGTERM, and kills it when that is ignored too long."""
    with sandbox_of("misbehaves") as sandbox:
        sandbox.shutdown_seconds = 0.2
        sandbox.shutdown()
        sandbox.invoke(way)
        before = time.monotonic()
        sandbox.shutdown()
        assert (sandbox.exit_status, sandbox.pid) == (exit_status, None)
        assert (time.monotonic() - before >= 0.2) == (exit_status == -signal.SIGKILL)
        assert sandbox.invoke("nothing").cold


# Init


@pytest.mark.parametrize(
    ("way", "status", "kind", "words"),
    [
        ("raise", "error", "RuntimeError", "no configuration"),
        ("import", "error", "Runtime.ImportModuleError", "a_module_that_is_not_there"),
        ("no handler", "error", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("exit", "crashed", "Runtime.ExitError", "exit status 7"),
        ("hang", "timed_out", "Sandbox.Timedout", "Init timed out"),
    ],
)
def test_a_failed_init_is_told(way: str, status: str, kind: str, words: str) -> None:
    """An init that fails, ends the process or hangs is reported by every invocation."""
    with sandbox_of("bad_init", env={"WAY": way}) as sandbox:
        sandbox.init_timeout = 1.0 if way == "hang" else 10.0
        for _ in range(2):
            result = sandbox.invoke({})
            assert (result.status, result.payload["errorType"], result.cold) == (status, kind, True)
            assert words in result.payload["errorMessage"]
            assert (result.seconds, result.billed_seconds, result.frozen_at) == (0.0, 0.0, None)
            assert result.init_seconds > 0
            assert result.log.startswith("starting\n")


def test_a_missing_runtime_is_told_with_the_way_to_get_it(tmp_path: Path) -> None:
    """A Python without awslambdaric raises an import error with the line that installs it."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o700)
    install = r'pip install "trace-guard\[testing\]"'
    with sandbox_of("echo", python=str(bare)) as sandbox, pytest.raises(ModuleNotFoundError, match=install):
        sandbox.invoke({})


# Leaving


def test_closing_leaves_nothing_behind() -> None:
    """Closing ends the process and its children, and leaves no thread, descriptor, child or directory."""
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with sandbox_of("background") as sandbox:
        pid = sandbox.invoke({}).pid
        tmp = sandbox.tmp
        assert tmp.is_dir()
    sandbox.close()
    assert (set(threading.enumerate()) - threads, set(os.listdir("/proc/self/fd")) - descriptors) == (set(), set())
    assert not tmp.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_given_directory_is_kept(tmp_path: Path) -> None:
    """A directory that was passed in is kept, for another sandbox to go on from."""
    for _ in range(2):
        with sandbox_of("misbehaves", tmp=tmp_path) as sandbox:
            sandbox.invoke("nothing")
    assert (tmp_path / "ways").read_text() == "nothing\nnothing\n"


def test_the_helpers_do_not_import_the_sdk() -> None:
    """The helpers by themselves import neither the Braintrust SDK nor awslambdaric."""
    program = """
import sys, trace_guard
before = set(sys.modules)
import trace_guard.testing
sys.exit(bool({"braintrust", "awslambdaric"} & (set(sys.modules) - before)))
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
