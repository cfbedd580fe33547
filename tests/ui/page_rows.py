"""Rows for the tests of the page, and the types of their fixtures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

from trace_guard.backends.local import LocalStore
from trace_guard.deadline import Deadline

Row = dict[str, Any]
ServePage = Callable[..., str]
OpenPage = Callable[..., Page]


def span(name: str, *, root: str, parent: str | None = None, start: float = 0.0, end: float | None = None, **fields: Any
         ) -> Row:
    """A row whose times are in seconds before now."""
    now = time.time()
    metrics = {"start": now - start, **({} if end is None else {"end": now - end})}
    span_id = f"{root}-{name}" if parent is not None else root
    return {
        "id": f"id-{span_id}", "span_id": span_id, "root_span_id": root, "log_id": "g", "project_id": "support-bot",
        "span_parents": None if parent is None else [parent], "metrics": metrics, "_is_merge": True,
        "span_attributes": {"name": name, "type": "task"}, **fields,
    }


def send(store: LocalStore, *rows: Row) -> None:
    store.send([json.dumps(row).encode() for row in rows], Deadline.after(30))


def three_traces(store: LocalStore) -> None:
    """One that is in progress, one that failed, and one that a watchdog closed."""
    send(
        store,
        span("summarise", root="a" * 32, start=90, end=80, input={"question": "why?"}, output="because"),
        span("search", root="a" * 32, parent="a" * 32, start=89, end=85, input="zebra crossing"),
        span("answer", root="b" * 32, start=60, end=50, error="ValueError: no answer", project_id="sales-bot",
             metadata={"trace_guard": {"outcome": "error"}}),
        span("slow", root="c" * 32, start=40, end=30,
             metadata={"trace_guard": {"outcome": "timed_out", "closed_by": "watchdog"}}),
        span("running", root="d" * 32, start=20),
        span("think", root="d" * 32, parent="d" * 32, start=15,
             context={"caller_filename": "/srv/app.py", "caller_lineno": 42, "caller_functionname": "think_hard"}),
    )
