"""Rows that go to the journal when they are logged, past the SDK's queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY, environment, pending_in

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

SCENARIOS = Path(__file__).parent / "direct_scenarios.py"
OF_THE_RUN = ("id", "span_id", "root_span_id", "span_parents", "created", "context", "_xact_id")


def run(python: Path | str, server: BraintrustServer | None, directory: Path, *scenario: str, **more: str) -> Any:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    done = subprocess.run(
        [python, SCENARIOS, *scenario], text=True, capture_output=True, timeout=120,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
             **environment(server, directory, **more)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def logged(python: Path | str, directory: Path, way: str, **more: str) -> tuple[dict[str, Row], list[Any], int]:
    """What the server has of each span, without what differs from run to run."""
    with BraintrustServer() as server:
        refused, direct = run(python, server, directory, "values", way, **more)
        spans = {}
        for row in server.span_rows():
            kept = {key: value for key, value in row.items() if key not in OF_THE_RUN}
            kept["metrics"] = {key: value for key, value in row["metrics"].items() if key not in ("start", "end")}
            kept.get("span_attributes", {}).pop("exec_counter", None)
            spans[row["span_attributes"]["name"]] = kept
        return spans, refused, direct


def test_rows_are_the_same_directly_and_through_the_queue(python: Path, tmp_path: Path) -> None:
    """A row that goes directly says exactly what it says when the SDK's publisher makes it, whatever is logged."""
    spans, refused, direct = logged(python, tmp_path / "direct", "direct")
    through_queue = logged(python, tmp_path / "queue", "queue")
    assert (spans, refused, 0) == through_queue
    assert direct >= 3 * (len(spans) - 1 - len(refused)), "rows took the queue"


@pytest.mark.parametrize("hides", ["", "1"], ids=["orjson", "json"])
def test_rows_are_the_same_with_and_without_orjson(tmp_path: Path, hides: str) -> None:
    """With orjson, and without it, rows say what the SDK's publisher says with the same encoder."""
    more = {"HIDE_ORJSON": hides} if hides else {}
    spans, refused, direct = logged(sys.executable, tmp_path / "direct", "direct", **more)
    assert (spans, refused, 0) == logged(sys.executable, tmp_path / "queue", "queue", **more)
    assert direct >= 3 * (len(spans) - 1 - len(refused)), "rows took the queue"


def test_direct_rows_merge_as_in_the_sdk(python: Path, server: BraintrustServer, directory: Path) -> None:
    """The rows of a span, delivered one by one, give what the SDK's own merge gives."""
    [made] = run(python, server, directory, "merged")
    [row] = [row for row in server.span_rows() if row["span_attributes"]["name"] == "renamed"]
    ignored = ("_is_merge", "project_id", "_xact_id")  # every row is sent as a merge, with the real id
    assert {key: value for key, value in row.items() if key not in ignored} == {
        key: value for key, value in made.items() if key not in ignored
    }


def test_an_end_is_what_the_sdk_makes(python: Path, server: BraintrustServer, directory: Path) -> None:
    """The row that only ends a span is made without the SDK, and says exactly what the SDK's own row says."""
    row, written, made, (is_same_end, more) = run(python, server, directory, "ends")
    assert row == written == made
    assert row["metrics"] == {"end": 1796111034.25}
    assert (is_same_end, more) == (True, 2)


def test_no_thread_of_the_sdk_is_started(python: Path, server: BraintrustServer, directory: Path) -> None:
    """Rows that go directly need neither the SDK's publisher nor the thread that empties its queue."""
    assert run(python, server, directory, "threads") == [False, False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_row_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    """A process that is killed as soon as log() or end() has returned leaves the row on disk, each time."""
    kills = 12
    run(sys.executable, None, tmp_path, "kills", str(kills), TRACE_GUARD_EXIT_TIMEOUT="0.1")  # there is no server
    rows = pending_in(tmp_path)
    names = {row["id"]: row["span_attributes"]["name"] for row in rows if row.get("span_attributes")}
    done = {names[row["id"]] for row in rows if row.get("output") == "answer" or row.get("metrics", {}).get("end")}
    assert {name for name in done if name.startswith("span ")} == {f"span {number}" for number in range(kills)}
