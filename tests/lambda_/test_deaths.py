"""Each way in which a function can end, with and without the layer, and the rows that are saved before the next
invocation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from layer import WRAPPER, built, sandbox, unpacked
from support import still_open

from trace_guard.testing import BraintrustServer, LambdaSandbox

ROUND_TRIP = 0.05
TIMEOUT = 1.2


class Death(NamedTuple):
    """How a trace ends if its function dies in this way.

    Attributes:
        status: the caller's answer.
        alone: True if the trace is closed and delivered before the next invocation even without the layer.
        outcomes: the possible outcomes of the root, without and with the layer.
    """

    status: str
    alone: bool
    outcomes: tuple[str, str]


DEATHS = {
    "sleep": Death("timed_out", True, ("timed_out", "timed_out")),
    "spin": Death("timed_out", True, ("timed_out", "timed_out")),
    "digest": Death("timed_out", True, ("timed_out", "timed_out")),
    "match": Death("timed_out", True, ("timed_out", "timed_out")),
    # While C code holds the interpreter's lock, no Python code runs, not even a signal handler.
    "hold_the_lock": Death("timed_out", False, ("abandoned", "timed_out")),
    "leave": Death("crashed", True, ("error", "error")),
    "die": Death("crashed", False, ("abandoned", "abandoned")),
    "kill": Death("crashed", False, ("abandoned", "abandoned")),
    "crash": Death("crashed", False, ("abandoned", "abandoned")),
    "overwhelm": Death("crashed", False, ("abandoned", "abandoned")),
    "no_json": Death("error", True, ("error", "error")),
    "too_much": Death("error", True, ("error", "error")),
}


class Stage(NamedTuple):
    server: BraintrustServer
    function: LambdaSandbox
    layered: bool


@pytest.fixture(scope="module", params=["alone", "with the layer"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A function with unguarded code, which dies repeatedly."""
    layered = request.param != "alone"
    with BraintrustServer(latency=ROUND_TRIP) as server:
        if layered:
            place = tmp_path_factory.mktemp("layer")
            built(place / "layer.zip", "--no-dependencies")
            made = sandbox(server, unpacked(place / "layer.zip", place / "opt"), timeout=TIMEOUT, env=WRAPPER)
        else:
            env = {"TRACE_GUARD_HANDLER": "app.handler"}
            made = sandbox(server, None, timeout=TIMEOUT, handler="trace_guard_lambda.entry.handler", env=env)
        with made as function:
            yield Stage(server, function, layered)


@pytest.mark.parametrize("how", DEATHS)
def test_traces_survive_every_death(stage: Stage, memory_group: Path | None, how: str) -> None:
    """A trace is closed before its environment is invoked again, or at the latest by the next start."""
    if how == "overwhelm" and memory_group is None:
        pytest.skip("no memory control group can be made here, and so the kernel kills nobody for its memory")
    server, function, layered = stage
    death = DEATHS[how]
    server.clear()
    # Filling the memory takes long on a busy machine.
    result = function.invoke({"do": how, "group": str(memory_group)}, deadline=20 if how == "overwhelm" else None)
    assert result.status == death.status
    root = root_of(server)
    if layered or death.alone:
        assert server.open_spans() == []
        assert root["metadata"]["trace_guard"]["outcome"] == death.outcomes[layered]
    else:
        assert root == {} or "end" not in root["metrics"]
    function.invoke({"do": "answer"}, deadline=10)
    assert (server.open_spans(), still_open(row for request in server.requests for row in request.rows)) == ([], set())
    assert root_of(server)["metadata"]["trace_guard"]["outcome"] in (death.outcomes[layered], "timed_out")


def root_of(server: BraintrustServer) -> dict[str, Any]:
    """The first root on the server; empty without a root."""
    roots = [row for row in server.span_rows() if not row["span_parents"]]
    return min(roots, key=lambda row: row["metrics"]["start"], default={})
