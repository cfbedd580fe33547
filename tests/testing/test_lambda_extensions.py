"""The simulated Lambda Extensions API: registration, waiting, and the end of an environment."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trace_guard.testing import InvokeResult, LambdaSandbox

FUNCTIONS = Path(__file__).parent.parent / "functions"
LAYER = FUNCTIONS / "sandbox_layer"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


def sandbox_of(events: str | None = None, *, env: dict[str, str] | None = None, **keywords: Any) -> LambdaSandbox:
    """A sandbox of a function whose internal extension, if any, subscribes to ``events``, a JSON list."""
    variables = {**(env or {}), **({} if events is None else {"EVENTS": events})}
    return LambdaSandbox("app.handler", code=FUNCTIONS / "sandbox_extension", env=variables, **keywords)


def with_watcher(way: str = "", **keywords: Any) -> LambdaSandbox:
    """A sandbox of a function with an external extension."""
    return sandbox_of(env={"WATCHER": way}, opt=LAYER, **keywords)


def watched(sandbox: LambdaSandbox) -> list[Any]:
    """What the external extension recorded: its identity, then its events."""
    return [json.loads(line) for line in (sandbox.tmp / "watched").read_text().splitlines()]


def thread_states(pid: int) -> set[str]:
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def seconds_of(action: Callable[[], Any]) -> float:
    before = time.monotonic()
    action()
    return time.monotonic() - before


def error(result: InvokeResult) -> tuple[str, str, str]:
    """Status, type and message, without the request's id."""
    words = result.payload["errorMessage"].removeprefix(f"RequestId: {result.request_id} Error: ")
    return result.status, result.payload["errorType"], words


# Internal extensions


def test_an_internal_extension_is_told_of_each_invocation() -> None:
    """An internal extension gets each event when the runtime does, with the same deadline, ids and trace."""
    with sandbox_of('["INVOKE"]', function_name="f") as sandbox:
        for number in range(3):
            told = sandbox.invoke("tell").payload
            assert [event for event, _ in told["events"]][number:] == [told["event"]]
            assert abs(told["events"][-1][1] - told["at"]) < 1
        status, function, identifier = told["registered"]
        assert (status, function) == (
            200,
            {"functionName": "f", "functionVersion": "$LATEST", "handler": "app.handler"},
        )
        assert len(identifier) == 36


def test_an_extension_does_not_delay_the_answer() -> None:
    """The caller has its answer when the runtime gives it; what an extension takes longer is billed."""
    with sandbox_of('["INVOKE"]', env={"WORK": "0.3"}, timeout=30) as sandbox:
        for _ in range(2):
            result = sandbox.invoke("tell")
            assert result.seconds < result.billed_seconds
            assert 0.3 <= result.billed_seconds < 10
            assert result.frozen_at is not None
            assert result.returned_at < result.frozen_at
            assert (sandbox.frozen, thread_states(result.pid)) == (True, {"T"})


def test_an_extension_that_does_not_come_back_costs_the_timeout() -> None:
    """An extension that does not ask again is billed to the timeout and ends the environment; the answer stands."""
    with sandbox_of('["INVOKE"]', env={"WORK": "60"}, timeout=0.5) as sandbox:
        result = sandbox.invoke("nothing")
        assert (result.status, result.payload, result.frozen_at, result.exit_status) == ("ok", "fine", None, -15)
        assert result.seconds < 0.5 <= result.billed_seconds < 10
        assert (sandbox.pid, sandbox.invoke("nothing").cold) == (None, True)


def test_an_extension_without_events_delays_nothing_but_the_init() -> None:
    """One that subscribed to nothing has to ask once before the first event, and is never waited for again."""
    with sandbox_of("[]", env={"WORK": "60"}) as sandbox:
        results = [sandbox.invoke("tell") for _ in range(2)]
        assert [result.payload["events"] for result in results] == [[], []]
        assert results[1].billed_seconds < 1
    with sandbox_of("[]", env={"SILENT": "1"}) as sandbox:
        sandbox.init_timeout = 0.5
        assert error(sandbox.invoke("nothing")) == ("timed_out", "Sandbox.Timedout", "Init timed out")


def test_who_may_not_register_is_told_why() -> None:
    """A bad name, body or event, a SHUTDOWN inside, a name that is taken and one extension too many are refused."""
    good = '{"events": []}'
    attempts = [
        ("", good),
        ("a", "[]"),
        ("a", "{"),
        ("a", '{"events": "INVOKE"}'),
        ("a", '{"events": ["COFFEE"]}'),
        ("a", '{"events": ["SHUTDOWN"]}'),
        *((name, good) for name in "aabcdefghija"),
        ("k", good),
    ]
    with sandbox_of(env={"ATTEMPTS": json.dumps(attempts)}) as sandbox:
        answers = sandbox.invoke("attempts").payload
    assert [(status, body.get("errorType")) for status, body, _ in answers] == [
        (403, "Extension.InvalidExtensionName"),
        *[(403, "InvalidRequestFormat")] * 3,
        *[(403, "Extension.InvalidEventType")] * 2,
        (200, None),
        (403, "Extension.InvalidExtensionState"),
        *[(200, None)] * 9,
        *[(403, "Extension.TooManyExtensions")] * 2,
    ]
    assert answers[5][1]["errorMessage"] == "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"


def test_registration_closes_with_the_first_event() -> None:
    """Once the runtime has asked for an event nobody can register any more."""
    with sandbox_of() as sandbox:
        status, body, _ = sandbox.invoke("register").payload
        assert (status, body["errorType"]) == (403, "Extension.RegistrationClosed")


@pytest.mark.parametrize(
    ("registration", "kinds"),
    [
        ("open", [None, None]),
        ("closed", ["Extension.RegistrationClosed", "Extension.RegistrationClosed"]),
        ("managed", ["Extension.InvalidEventType", None]),
    ],
)
def test_registration_can_be_restricted(registration: Any, kinds: list[str | None]) -> None:
    """Where registration is closed all are refused; on managed instances only who wants to hear of invocations."""
    attempts = json.dumps([("a", '{"events": ["INVOKE"]}'), ("b", '{"events": []}')])
    with sandbox_of(env={"ATTEMPTS": attempts}, registration=registration) as sandbox:
        assert [body.get("errorType") for _, body, _ in sandbox.invoke("attempts").payload] == kinds


def test_an_extension_says_who_it_is() -> None:
    """Who asks for an event by an unknown identifier is refused, as is one that is waiting already."""
    with sandbox_of("[]") as sandbox:
        status, body, _ = sandbox.invoke("next of another").payload
        assert (status, body["errorType"]) == (403, "Extension.UnknownExtensionIdentifier")
        status, body, _ = sandbox.invoke("next twice").payload
        assert (status, body["errorType"]) == (403, "Extension.InvalidExtensionState")


# The end


@pytest.mark.parametrize(("events", "on_sigterm", "exit_status"), [("[]", "exit", 5), ('["INVOKE"]', "ignore", -9)])
def test_with_an_extension_a_timeout_is_polite_first(events: str, on_sigterm: str, exit_status: int) -> None:
    """With an extension a function whose time is up gets a SIGTERM and half a second, which is not billed."""
    with sandbox_of(events, env={"ON_SIGTERM": on_sigterm}, timeout=0.3) as sandbox:
        sandbox.invoke("nothing")
        results: list[InvokeResult] = []
        took = seconds_of(lambda: results.append(sandbox.invoke("dawdle")))
        assert error(results[0]) == ("timed_out", "Sandbox.Timedout", "Task timed out after 0.30 seconds")
        assert results[0].exit_status == exit_status
        assert 0.3 <= results[0].seconds == results[0].billed_seconds
        assert took >= results[0].billed_seconds + 0.5 or on_sigterm != "ignore"


def test_without_an_extension_a_timeout_is_not_polite() -> None:
    """Without an extension a function whose time is up is killed at once, though it would listen to a SIGTERM."""
    with sandbox_of("[]", env={"ON_SIGTERM": "exit"}, timeout=0.3, registration="closed") as sandbox:
        assert sandbox.invoke("dawdle").exit_status == -9


@pytest.mark.parametrize(("on_sigterm", "exit_status"), [("", -15), ("exit", 5), ("ignore", -9)])
def test_with_an_extension_a_shutdown_is_polite_first(on_sigterm: str, exit_status: int) -> None:
    """With an extension a shutdown thaws the function, sends a SIGTERM, and kills it half a second later."""
    with sandbox_of("[]", env={"ON_SIGTERM": on_sigterm}) as sandbox:
        sandbox.invoke("nothing")
        assert sandbox.frozen
        took = seconds_of(sandbox.shutdown)
        assert (sandbox.exit_status, sandbox.pid, sandbox.frozen) == (exit_status, None, False)
        assert took >= 0.5 or on_sigterm != "ignore"
        assert sandbox.invoke("nothing").cold


# External extensions


def test_an_external_extension_lives_with_the_function() -> None:
    """An external extension is there before the runtime, in its own group, gets all events and freezes with it."""
    with with_watcher() as sandbox:
        results = [sandbox.invoke("tell") for _ in range(2)]
        who, *events = watched(sandbox)
        assert events == [result.payload["event"] for result in results]
        assert who["registered"] == {"functionName": "function", "functionVersion": "$LATEST", "handler": "app.handler"}
        assert who["pid"] == who["group"] != results[0].pid
        assert (thread_states(who["pid"]), thread_states(results[0].pid)) == ({"T"}, {"T"})
        assert results[0].log.startswith("watching\n")
        sandbox.shutdown()
        last = watched(sandbox)[-1]
        assert (last["eventType"], last["shutdownReason"]) == ("SHUTDOWN", "spindown")
        assert 0 < last["deadlineMs"] / 1000 - time.time() <= 2
        assert (sandbox.exit_status, thread_states(who["pid"])) == (-15, set())


def test_an_external_extension_finds_the_functions_variables() -> None:
    """An external extension finds the function's environment variables, without those that are the runtime's own."""
    with sandbox_of(env={"GIVEN": "1"}, opt=LAYER) as sandbox:
        sandbox.invoke("nothing")
        found = watched(sandbox)[0]["environment"]
    assert (found["GIVEN"], found["AWS_LAMBDA_FUNCTION_NAME"], found["AWS_REGION"]) == ("1", "function", "us-east-1")
    assert found["TRACE_GUARD_DIR"] == str(sandbox.trace_guard_dir)
    assert not {"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_LAMBDA_LOG_STREAM_NAME"} & set(found)
    assert str(LAYER / "python") not in found.get("PYTHONPATH", "").split(os.pathsep)


@pytest.mark.parametrize(
    ("way", "killed", "reason", "status", "exit_status"),
    [
        ("dawdle", False, "timeout", "timed_out", -15),
        ("dawdle", True, "failure", "crashed", -9),
        ("exit", False, "failure", "crashed", 3),
    ],
)
def test_an_external_extension_outlives_the_function(
    way: str, killed: bool, reason: str, status: str, exit_status: int
) -> None:
    """When the function times out or dies its external extension learns why, ends in peace, and is started anew."""
    with with_watcher(timeout=30 if killed else 0.4) as sandbox:
        result = sandbox.invoke(way, kill_when=(lambda: len(watched(sandbox)) == 2) if killed else None)
        who, _, last = watched(sandbox)
        assert (result.status, result.exit_status) == (status, exit_status)
        assert (last["eventType"], last["shutdownReason"]) == ("SHUTDOWN", reason)
        assert thread_states(who["pid"]) == set()
        assert sandbox.invoke("nothing").cold
        assert watched(sandbox)[3]["pid"] != who["pid"]


@pytest.mark.parametrize(
    ("way", "seconds", "least"), [("ignores the shutdown", 0.6, 0.6), ("wants no shutdown", 30, 0)]
)
def test_an_external_extension_is_killed_in_the_end(way: str, seconds: float, least: float) -> None:
    """An extension that stays after its SHUTDOWN is killed when the time is up, one that wants none at once."""
    with with_watcher(way) as sandbox:
        sandbox.shutdown_seconds = seconds
        sandbox.invoke("nothing")
        assert least <= seconds_of(sandbox.shutdown) < 20
        assert thread_states(watched(sandbox)[0]["pid"]) == set()


@pytest.mark.parametrize(
    ("way", "kind", "words", "pid"),
    [
        ("dies before it registers", "Extension.Crash", "exit status 3", False),
        ("dies at work", "Extension.Crash", "exit status 4", True),
        ("gives up", "Extension.ExitError", "exit status 4", True),
    ],
)
def test_an_external_extension_takes_the_function_with_it(way: str, kind: str, words: str, pid: bool) -> None:
    """When an external extension dies the invocation has crashed, and the function is ended."""
    with with_watcher(way) as sandbox:
        result = sandbox.invoke("dawdle")
        assert error(result) == ("crashed", kind, words)
        assert (bool(result.pid), result.exit_status, sandbox.pid) == (pid, -15 if pid else None, None)
        assert sandbox.invoke("dawdle").cold


def test_an_external_extension_that_never_asks_ends_the_init() -> None:
    """An init in which an external extension does not ask for its first event times out."""
    with with_watcher("never asks") as sandbox:
        sandbox.init_timeout = sandbox.shutdown_seconds = 0.5
        assert error(sandbox.invoke("nothing")) == ("timed_out", "Sandbox.Timedout", "Init timed out")
        assert sandbox.invoke("nothing").cold


def test_managed_instances_tell_external_extensions_of_the_end_only() -> None:
    """On managed instances an external extension can subscribe to SHUTDOWN."""
    with with_watcher("managed", registration="managed") as sandbox:
        sandbox.invoke("nothing")
        sandbox.shutdown()
        assert [event["eventType"] for event in watched(sandbox)[1:]] == ["SHUTDOWN"]


def test_a_layer_brings_packages_and_a_wrapper() -> None:
    """What is below a layer's python can be imported, and its wrapper is given the runtime's command line to run."""
    with sandbox_of(env={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}, opt=LAYER) as sandbox:
        word, wrapped = sandbox.invoke("from the layer").payload
        assert (word, wrapped) == ("from a layer", f"{sys.executable} -m awslambdaric app.handler")


def test_closing_ends_external_extensions() -> None:
    """Closing ends external extensions too, and leaves no thread or descriptor."""
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with with_watcher() as sandbox:
        sandbox.invoke("nothing")
        pid = watched(sandbox)[0]["pid"]
    assert (set(threading.enumerate()) - threads, set(os.listdir("/proc/self/fd")) - descriptors) == (set(), set())
    assert thread_states(pid) == set()
