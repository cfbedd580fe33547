"""The driver that the Ray tests share, and helpers that read its spans."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from support import REPOSITORY, Program, environment, until

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

EXAMPLE = REPOSITORY / "examples" / "ray_job"
PATH = (REPOSITORY, REPOSITORY / "adapters", REPOSITORY / "tests", EXAMPLE)
PROMPTS = 30
OK = {"outcome": "ok"}
ABANDONED = {"outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended"}

WITHOUT_RESULT = ("counts", "Async.stream", "Model.greet_all")


class Driver:
    """The program of :mod:`ray_.cluster`, and the server that receives its spans."""

    def __init__(self, server: BraintrustServer, directory: Path) -> None:
        self.server = server
        self.directory = directory / "trace-guard"
        self.marks = directory / "marks"
        self.marks.mkdir()
        self.program = Program(
            "from ray_ import cluster; cluster.main(say, listen)",
            environment(
                server, self.directory, RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
                PROMPTS=str(PROMPTS), PYTHONPATH=os.pathsep.join(map(str, PATH)),
            ),
        )
        assert self.hears() == "ready"

    def hears(self) -> Any:
        """The driver's next answer."""
        while not (line := self.program.hears(seconds=90)).startswith("answer:"):
            pass
        return json.loads(line.partition(":")[2])

    def runs(self, name: str, *words: object, spans: int) -> tuple[Any, list[Row]]:
        """The answer of a function in the driver, and the spans of its trace, once there are this many and none is
        open."""
        self.program.tell(" ".join(map(str, [name, *words])))
        said = self.hears()
        until(lambda: self._closed(name, spans), seconds=40, what=f"{spans} closed spans of {name}")
        return said, self.trace(name)

    def trace(self, name: str) -> list[Row]:
        rows = self.server.span_rows()
        (root,) = [row for row in rows if row["span_attributes"]["name"] == name and not row["span_parents"]]
        return [row for row in rows if row["root_span_id"] == root["root_span_id"]]

    def _closed(self, name: str, spans: int) -> bool:
        rows = self.server.span_rows()
        root = next((row for row in rows if row.get("span_attributes", {}).get("name") == name), None)
        trace = [row for row in rows if root is not None and row["root_span_id"] == root["root_span_id"]]
        return len(trace) >= spans and all("end" in row["metrics"] and _has_all(row) for row in trace)


def _has_all(row: Row) -> bool:
    """True once a span has its expected result, which arrives after its end."""
    about = row.get("metadata") or {}
    if "ray.task_id" not in about or told(row)["outcome"] != "ok":
        return True
    name = row["span_attributes"]["name"]
    return "output" in row or name in WITHOUT_RESULT or name.endswith("__init__")


def told(row: Row) -> Any:
    about = row["metadata"].get("trace_guard", {"outcome": None})
    return {name: value for name, value in about.items() if name != "opened_at"}


def by_name(rows: list[Row], name: str) -> list[Row]:
    found = [row for row in rows if row["span_attributes"]["name"] == name]
    return sorted(found, key=lambda row: (row["metrics"]["start"], row["metadata"].get("ray.attempt", 0)))
