"""Rows that the SDK can't make, or not in time: spans begin and end even so, and no verdict says that they arrived."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY, environment

from trace_guard import Guard, Settings
from trace_guard.backends.memory import MemoryBackend
from trace_guard.deadline import Deadline
from trace_guard.runtime.state import PROCESS
from trace_guard.testing import BraintrustServer

SCENARIOS = Path(__file__).parent / "queue_scenarios.py"


def run(python: Path, server: BraintrustServer, directory: Path, *scenario: str, **more: str) -> tuple[Any, float]:
    """What a scenario said, and how many seconds its exit took."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    done = subprocess.run(
        [python, SCENARIOS, *scenario], text=True, capture_output=True, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
             **environment(server, directory, **more)},
    )
    ended = time.time()
    assert done.returncode == 0, done.stderr
    exiting = next(float(line) for line in reversed(done.stderr.splitlines()) if line.replace(".", "").isdigit())
    return json.loads(done.stdout.splitlines()[-1]), ended - exiting


@pytest.mark.parametrize("failure", ["error", "exit", "interrupt", "returns"])
def test_a_broken_masking_function_leaves_no_span_open(
    python: Path, server: BraintrustServer, directory: Path, failure: str
) -> None:
    """Whatever a masking function does, each span starts and ends, nothing unmasked gets out, and other rows of the
    same batch are whole."""
    (verdict, error, _), _ = run(python, server, directory, "broken_masking", failure)
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert (set(rows), server.open_spans()) == ({"root", "good", "bad", "left open", "after"}, [])
    assert [rows[name].get("input") for name in ("good", "after")] == ["fine", "fine too"]
    assert "poison" not in json.dumps(list(rows.values()))
    assert rows["left open"]["metadata"]["trace_guard"]["reason"] in ("left_open", "late")  # late on a busy machine
    if verdict == "lost":
        assert "could not be made" in error
    else:  # the SDK has put a text in the place of the value
        assert (verdict, rows["bad"]["input"].startswith("ERROR")) == ("delivered", True)


def test_an_unmade_row_is_lost_to_its_own_invocation(
    python: Path, server: BraintrustServer, directory: Path
) -> None:
    """An invocation beside one whose row can't be made is delivered; only the other one's verdict says lost."""
    verdicts, _ = run(python, server, directory, "broken_masking_beside")
    assert verdicts["fine"] == ["delivered", None]
    assert verdicts["poison"][0] == "lost"
    assert "1 rows could not be made" in verdicts["poison"][1]
    assert server.open_spans() == []


@pytest.mark.parametrize("disabled", ["", "1"])
def test_what_is_still_in_the_sdks_queue_is_not_delivered(
    python: Path, server: BraintrustServer, directory: Path, disabled: str
) -> None:
    """A drain that does not end in time is lost, with the number of rows, and the exit takes no longer than one bound
    for the guard's delivery and the SDK's own flush."""
    (verdict, error, pending, flushed), took = run(
        python, server, directory, "slow_masking", TRACE_GUARD_EXIT_TIMEOUT="2",
        BRAINTRUST_DISABLE_ATEXIT_FLUSH=disabled,
    )
    assert (verdict, flushed) == ("lost", False)
    assert pending > 0
    assert f"{pending} rows are still in the SDK's queue" in error
    assert took < (6 if not disabled else 4)  # 2 s, and the interpreter's own exit on a busy machine
    assert server.open_spans() == []


def test_a_late_start_and_its_end_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that start after their invocation is over, one within another, are closed in the write that has their
    start."""
    guard = Guard(Settings(dir=tmp_path, project="mine"), backend=MemoryBackend())
    with guard.invocation("root") as invocation:
        pass
    journal = guard.pipeline.journal()
    writes: list[list[tuple[str, bool]]] = []
    plain = journal.append

    def append(rows: Any) -> Any:
        writes.append([(new.row["id"], "end" in new.row.get("metrics", {})) for new in rows])
        return plain(rows)

    monkeypatch.setattr(journal, "append", append)
    late = invocation.span.start_span("late")
    within = late.start_span("within")
    assert PROCESS.sdk.drain(Deadline.after(10))
    for span in (late, within):
        (together,) = [write for write in writes if (span.id, False) in write]
        assert (span.id, True) in together
    guard.close()

