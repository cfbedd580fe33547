"""Closes the spans that were open on lost nodes, whose disks and journals are gone too.

Braintrust has the rows that such a node delivered. So this process queries Braintrust for the open spans of the traces
in which it has submitted tasks. It closes the spans of tasks on a node that Ray has declared dead, and their children.
It never closes a span whose node is unknown, or a span that has ended meanwhile. It queries nothing until a node is
lost.

https://docs.ray.io/en/latest/ray-core/api/doc/ray.nodes.html
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trace_guard import Deadline
from trace_guard.backends.project_ids import is_placeholder, project_name
from trace_guard.contain import contain
from trace_guard.outcome import ClosedBy, Outcome
from trace_guard.rows import Row, closing_row, started_at
from trace_guard.runtime.pipeline import Pipeline
from trace_guard.runtime.state import PROCESS
from trace_guard.system.clock import monotonic

from .connection import ray_connection

if TYPE_CHECKING:
    from trace_guard.backends.braintrust import BraintrustBackend

__all__ = ["lost_node_closer"]

_LOOK_SECONDS = 5.0
# Ray declares a node dead after several failed health checks, which takes about 15 s with its default settings.
_PROMPTED_SECONDS = 60.0
_SOON_SECONDS = 1.0
_QUERY_SECONDS = 10.0
# Rows that were in transit when a node died may arrive a moment later.
_AGAIN_SECONDS = 10.0
_TRACES = 100
_DIED = "node_died"


class LostNodeCloser:
    """The nodes that have died since this process began to watch, and the traces of tasks that may have run on them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces: OrderedDict[str, Any] = OrderedDict()
        self._seen_alive: dict[str, float] = {}
        self._died: dict[str, float] = {}
        self._before: set[str] = set()
        self._look_at = self._until = 0.0
        self._ask_at: list[float] = []

    def follow(self, span: Any) -> None:
        """Query the trace of this span, which submits tasks, when a node is lost. Only the latest traces are kept."""
        with self._lock:
            self._traces[span.root_span_id] = span
            self._traces.move_to_end(span.root_span_id)
            if len(self._traces) > _TRACES:
                self._traces.popitem(last=False)

    def go_on(self, pipelines: Iterable[Pipeline], *, prompted: bool = False) -> None:
        """Ask Ray from time to time which nodes are alive. Call it several times a second.

        Args:
            prompted: True if a task was lost. Ray is then asked often for a while, as it may report the node later.
        """
        now = monotonic()
        if prompted:
            self._look_at, self._until = now, now + _PROMPTED_SECONDS
        if now >= self._look_at:
            self._look_at = now + (_SOON_SECONDS if now < self._until else _LOOK_SECONDS)
            if self._look():
                self._ask_at = [now, now + _AGAIN_SECONDS]
        if self._ask_at and self._ask_at[0] <= now:
            del self._ask_at[0]
            self._close(pipelines, Deadline.after(_QUERY_SECONDS))

    @property
    def is_looking(self) -> bool:
        """True while :meth:`go_on` must be called even if no task runs."""
        return bool(self._ask_at) or monotonic() < self._until

    def finish(self, pipelines: Iterable[Pipeline], deadline: Deadline) -> None:
        """Check all nodes a last time, at the end of the program."""
        self._look()
        if self._died:
            self._close(pipelines, deadline.capped(_QUERY_SECONDS))

    def _look(self) -> bool:
        """Record which nodes are alive. Returns True if a node has died."""
        import ray

        if not self._traces:
            return False
        now, known = time.time(), len(self._died)
        with ray_connection.used() as is_running:
            if not is_running:
                return False
            nodes = ray.nodes()
        if not self._seen_alive:
            self._before = {node["NodeID"] for node in nodes if not node["Alive"]}
        for node in nodes:
            name = node["NodeID"]
            if node["Alive"]:
                self._seen_alive[name] = now
            elif name not in self._before:
                self._died.setdefault(name, self._seen_alive.get(name, 0.0))
        return len(self._died) > known

    def _close(self, pipelines: Iterable[Pipeline], deadline: Deadline) -> None:
        from trace_guard.backends.braintrust import BraintrustBackend  # most processes never lose a node

        with self._lock:
            traces = list(self._traces.values())
        for pipeline in pipelines:
            backend = pipeline.backend
            if not isinstance(backend, BraintrustBackend):
                continue
            for span in traces:
                with contain("close spans of a lost node"):
                    rows = self._closing(pipeline, backend, PROCESS.sdk.identity_of(span), deadline)
                    if rows:
                        pipeline.append(rows)
            return

    def _closing(
        self, pipeline: Pipeline, backend: BraintrustBackend, trace: Mapping[str, Any], deadline: Deadline
    ) -> list[Row]:
        project = trace.get("project_id")
        if project is not None and is_placeholder(project):
            project = pipeline.lookup.project_id(project_name(project))
        if project is None:
            return []  # the trace of an experiment, or of an unknown project, to which nothing was delivered
        source = f"project_logs('{project}', shape => 'spans') WHERE root_span_id = '{trace['root_span_id']}'"
        columns = "id, span_id, root_span_id, span_parents, metadata, metrics"
        open_rows = {
            row["span_id"]: row
            for row in backend.query(f"SELECT {columns} FROM {source} AND metrics.end IS NULL", deadline)
        }
        # An open span may have a parent that has ended.
        missing = sorted({parent for row in open_rows.values() for parent in _parents(row)} - open_rows.keys())
        above = dict(open_rows)
        if missing:
            wanted = ", ".join(f"'{span_id}'" for span_id in missing)
            ended = backend.query(f"SELECT {columns} FROM {source} AND span_id IN ({wanted})", deadline)
            above.update((row["span_id"], row) for row in ended)
        rows = []
        for span_id, row in open_rows.items():
            node = node_of(span_id, above)
            if node in self._died and not pipeline.spans.is_open(str(row["id"])):
                identity = {**row, "project_id": project, "log_id": "g"}
                rows.append(closing_row(
                    identity, end=max(self._died[node], started_at(row) or 0.0), outcome=Outcome.ABANDONED,
                    closed_by=ClosedBy.RECOVERY, reason=_DIED, facts={"ray.node_id": node},
                    error="Abandoned: the node that the task ran on was lost" if _own_node(row) else None,
                ))
        return rows


def node_of(span_id: str, spans: Mapping[str, Row]) -> str | None:
    """The node of the innermost task around a span; None if it is unknown."""
    passed: Collection[str] = set()
    while span_id in spans and span_id not in passed:
        passed = {*passed, span_id}
        own = _own_node(spans[span_id])
        if own is not None:
            return own
        span_id = next(iter(_parents(spans[span_id])), "")
    return None


def _own_node(row: Row) -> str | None:
    metadata = row.get("metadata")
    node = metadata.get("ray.node_id") if isinstance(metadata, Mapping) else None
    return node if isinstance(node, str) else None


def _parents(row: Row) -> list[str]:
    parents = row.get("span_parents")
    return [str(parent) for parent in parents] if isinstance(parents, list) else []


lost_node_closer = LostNodeCloser()
"""The closer of this process."""
