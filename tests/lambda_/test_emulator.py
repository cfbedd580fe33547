"""Guarded functions in AWS's own emulator: every kind of answer and every kind of death."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from emulator import Answer, Emulator, needs_opt
from layer import WRAPPER, built, unpacked
from support import PROJECT_ID, environment, pending_in, until

from trace_guard.testing import BraintrustServer

FUNCTIONS = Path(__file__).parents[1] / "functions"
TIMEOUT = 3
"""Seconds. The emulator counts an init as a part of the first invocation, which then may come too late."""
LAYERED_TIMEOUT = 5
"""Also for the init of the external extension, which is another Python."""
SPOKEN_FIRST = ({"guard": "signal"}, {"watchdog": "deadline"})
"""Who closes what a signal finds behind time. While its handler waits, every thread gets to run, the watchdog's too,
which has been due for a while: either tells the truth, and the first of them stands."""


def words(answer: Answer) -> str:
    """The caller's answer, without the request id."""
    return json.dumps(answer.payload).replace(answer.request_id, "ID")


# Guarded functions


class Guarded:
    """The same function twice: guarded and unguarded."""

    def __init__(self, server: BraintrustServer, directory: Path) -> None:
        self.server = server
        variables = environment(server, directory / "guarded" / "tmp" / "trace-guard")
        case = FUNCTIONS / "lambda_cases"
        self.function = Emulator(
            "app.handler", code=case, directory=directory / "guarded", env=variables, timeout=TIMEOUT
        )
        self.plain = Emulator(
            "app.handler", code=case, directory=directory / "plain", env={"TRACE_GUARD_DISABLED": "true"},
            timeout=TIMEOUT,
        )

    def warm(self) -> None:
        """Initialise both functions, which may take longer than an invocation may."""
        for emulator in (self.function, self.plain):
            until(lambda emulator=emulator: emulator.invoke({"do": "answer"}).payload == {"answer": "YES"})

    def invoke(self, do: str) -> tuple[Answer, Answer]:
        """The answers of the guarded and the unguarded function."""
        self.warm()
        with ThreadPoolExecutor() as pool:
            both = [pool.submit(each.invoke, {"do": do}) for each in (self.function, self.plain)]
            return both[0].result(), both[1].result()

    def root_of(self, answer: Answer) -> dict[str, Any]:
        """The root span of an invocation, as soon as all its spans are closed."""
        return dict(until(lambda: self._root_of(answer.request_id), what=f"the end of {answer}"))

    def _root_of(self, request_id: str) -> dict[str, Any] | None:
        open_now = {row["root_span_id"] for row in self.server.open_spans()}
        for row in self.server.span_rows():
            if (row.get("metadata") or {}).get("faas.invocation_id") == request_id:
                return None if row["root_span_id"] in open_now else row
        return None


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with BraintrustServer() as server:
        pair = Guarded(server, tmp_path_factory.mktemp("guarded"))
        with pair.function, pair.plain:
            yield pair


@pytest.mark.parametrize(
    ("do", "about", "error"),
    [
        ("answer", {"outcome": "ok"}, None),
        ("forget", {"outcome": "ok"}, None),
        ("fail", {"outcome": "error"}, "ValueError: no such order"),
        ("leave", {"outcome": "error"}, "SystemExit: 3"),
    ],
)
def test_the_guard_changes_no_answer(guarded: Guarded, do: str, about: dict[str, str], error: str | None) -> None:
    """The caller gets the same answer as without the guard, and the trace is closed, tagged and delivered without
    another invocation."""
    answer, plain = guarded.invoke(do)
    for each in (answer, plain):
        if do == "fail":  # the guard's frames precede those of the function
            each.payload["stackTrace"] = each.payload["stackTrace"][-1:]
    assert (answer.status, words(answer)) == (plain.status, words(plain))
    root = guarded.root_of(answer)
    assert root["metadata"]["trace_guard"] == about
    assert (root.get("error") or "").rstrip().endswith(error or "")
    assert ("error" in root) is (error is not None)


def test_a_timeout_is_closed_before_the_kill(guarded: Guarded) -> None:
    """The trace of a handler that times out is closed as timed out and delivered, and the next init succeeds."""
    answer, plain = guarded.invoke("hang")
    assert (answer.status, answer.payload) == (plain.status, plain.payload)
    assert answer.payload == f"Task timed out after {TIMEOUT}.00 seconds"
    root = guarded.root_of(answer)
    assert root["metadata"]["trace_guard"] == {
        "outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline", "running": "slow call",
    }
    assert root["metrics"]["end"] - root["metrics"]["start"] < TIMEOUT
    again, _ = guarded.invoke("answer")
    assert guarded.root_of(again)["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_a_dead_process_is_recovered_by_the_next_init(guarded: Guarded) -> None:
    """The process that the emulator starts for the next event closes the spans that os._exit left open, as
    abandoned."""
    answer, plain = guarded.invoke("die")
    assert (answer.status, words(answer)) == (plain.status, words(plain))
    assert answer.payload["errorType"] == "Runtime.ExitError"
    guarded.warm()
    root = guarded.root_of(answer)
    assert {key: root["metadata"]["trace_guard"][key] for key in ("outcome", "closed_by")} == {
        "outcome": "abandoned", "closed_by": "recovery",
    }
    until(lambda: pending_in(guarded.function.trace_guard_dir) == [])


def test_the_guard_is_an_internal_extension(tmp_path: Path) -> None:
    """The emulator accepts the guard as an internal extension, which delivers after the response."""
    with BraintrustServer() as server:
        variables = environment(server, tmp_path / "tmp" / "trace-guard")
        with Emulator(
            "app.handler", code=FUNCTIONS / "after_response", directory=tmp_path, env=variables, timeout=5
        ) as emulator:
            assert emulator.invoke({}).payload == {"before": None}
            for _ in range(3):
                assert emulator.invoke({}).payload == {"before": ["delivered", "internal-extension"]}
            assert "registered, subscribed to [INVOKE]" in emulator.log
            # If the extension did not ask for the next event, the answer would be a timeout.
            emulator.shut_down()
        assert server.open_spans() == []
        assert {row["project_id"] for row in server.span_rows()} == {PROJECT_ID}


def unguarded_code(server: BraintrustServer, directory: Path, **more: Any) -> Emulator:
    """A function with unguarded code."""
    env = {
        **environment(server, directory / "tmp" / "trace-guard"), **more.pop("env"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # the layer finds its Python here
    }
    handler, more["timeout"] = more.pop("handler", "app.handler"), more.get("timeout", TIMEOUT)
    return Emulator(handler, code=FUNCTIONS / "layer_cases", directory=directory, env=env, **more)


def roots(server: BraintrustServer) -> list[dict[str, Any]]:
    found = [row for row in server.span_rows() if not row["span_parents"]]
    return sorted(found, key=lambda row: row["metrics"]["start"])


def test_sigterm_is_handled_when_no_thread_can_run(tmp_path: Path) -> None:
    """While a regex holds the interpreter's lock, the watchdog can't run. SIGTERM, which comes with the timeout
    because the guard is an extension, closes and delivers the trace."""
    with BraintrustServer() as server, unguarded_code(
        server, tmp_path, handler="trace_guard_lambda.entry.handler", env={"TRACE_GUARD_HANDLER": "app.handler"}
    ) as emulator:
        until(lambda: emulator.invoke({"do": "answer"}).payload == {"answer": "YES", "handler": "app.handler"})
        asked_at = time.time()
        answer = emulator.invoke({"do": "match"})
        assert answer.payload == f"Task timed out after {TIMEOUT}.00 seconds"
        assert server.open_spans() == []
        root = roots(server)[-1]
        assert root["metadata"]["faas.invocation_id"] == answer.request_id
        assert root["metrics"]["end"] >= asked_at + TIMEOUT
        about = root["metadata"]["trace_guard"]
        assert {about.pop("closed_by"): about.pop("reason")} in SPOKEN_FIRST
        assert about == {"outcome": "timed_out", "running": "work"}
        assert "Sending SIGKILL" not in emulator.log  # it exited by itself


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BraintrustServer, Emulator]]:
    """A function with the layer and unguarded code."""
    needs_opt()
    place = tmp_path_factory.mktemp("layered")
    built(place / "layer.zip", "--no-dependencies")
    opt = unpacked(place / "layer.zip", place / "opt")
    with BraintrustServer() as server, unguarded_code(
        server, place, env=WRAPPER, opt=opt, timeout=LAYERED_TIMEOUT
    ) as emulator:
        yield server, emulator


@pytest.mark.parametrize(
    ("do", "kind", "outcome"),
    [
        ("die", "Runtime.ExitError", "abandoned"),
        ("kill", "Runtime.ExitError", "abandoned"),
        ("hold_the_lock", None, "timed_out"),
    ],
)
def test_the_layer_closes_traces_of_dead_processes(
    layered: tuple[BraintrustServer, Emulator], do: str, kind: str | None, outcome: str
) -> None:
    """The layer closes and delivers the trace of a dead or blocked process within 2 s, without another invocation."""
    server, emulator = layered
    until(lambda: emulator.invoke({"do": "answer"}).payload == {"answer": "YES", "handler": "app.handler"})
    server.clear()
    answer = emulator.invoke({"do": do})
    if kind is not None:
        assert (answer.status, answer.payload["errorType"]) == (502, kind)
    else:
        assert answer.payload == f"Task timed out after {LAYERED_TIMEOUT}.00 seconds"
    until(lambda: roots(server) and not server.open_spans(), 2.0, "the end of its trace")
    (root,) = roots(server)
    assert root["metadata"]["faas.invocation_id"] == answer.request_id
    about = root["metadata"]["trace_guard"]
    assert (about["outcome"], about["closed_by"]) == (outcome, "recovery")
    assert "External agent trace-guard" in emulator.log
