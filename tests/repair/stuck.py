"""Makes traces of any age on a server, and runs ``trace-guard reap`` on them."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from trace_guard.cli import main
from trace_guard.testing import BraintrustServer

__all__ = ["PROJECT", "ended", "environment", "reap", "reaped", "rows_of", "send", "span"]

PROJECT = "support-bot"
HOUR = 3600.0
A_WHILE = 60.0


def span(
    name: str, parent: str | None = None, *, trace: str = "t", ago: float = 3 * HOUR, took: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The row of a span that began ``ago`` seconds ago, and has ended if it ``took`` a time."""
    start = time.time() - ago
    created = datetime.datetime.fromtimestamp(start, datetime.timezone.utc).isoformat()
    metrics = {"start": start, **({} if took is None else {"end": start + took})}
    context = {"caller_filename": "/srv/code/app.py", "caller_lineno": len(name), "caller_functionname": f"do_{name}"}
    return {
        "id": f"{trace}-{name}", "span_id": f"s-{trace}-{name}", "root_span_id": f"r-{trace}",
        "span_parents": None if parent is None else [f"s-{trace}-{parent}"], "project_id": "P", "log_id": "g",
        "created": created, "metrics": metrics, "span_attributes": {"name": name}, "context": context, **fields,
    }


def send(server: BraintrustServer, *rows: Mapping[str, Any]) -> None:
    body = json.dumps({"rows": rows, "api_version": 2}).encode()
    request = urllib.request.Request(f"{server.url}/logs3", body, {"Authorization": "Bearer key"})
    with urllib.request.urlopen(request, timeout=A_WHILE) as answer:
        assert answer.status == 200


def rows_of(server: BraintrustServer, trace: str = "t") -> dict[str, dict[str, Any]]:
    """The spans of a trace by name."""
    return {
        row["span_attributes"]["name"]: row for row in server.span_rows() if row["root_span_id"] == f"r-{trace}"
    }


def ended(server: BraintrustServer, trace: str = "t") -> dict[str, float | None]:
    """When each span of a trace ended, by name."""
    return {name: row["metrics"].get("end") for name, row in rows_of(server, trace).items()}


def reaped(row: Mapping[str, Any]) -> str | None:
    """The reason for which the reaper has closed a span; None if it has not."""
    about = (row.get("metadata") or {}).get("trace_guard") or {}
    return about["reason"] if about.get("closed_by") == "reaper" else None


def environment(server: BraintrustServer, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRAINTRUST_", "TRACE_GUARD_"))}
    return {
        **kept, "BRAINTRUST_API_KEY": "key", "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url, **more,
    }


def reap(
    server: BraintrustServer, *options: str, code: int = 0, project: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command, which must exit with ``code``. In this process, as a new one takes longer than the command."""
    command = ["reap", *(("--project", PROJECT) if project else ()), *options]
    out, error = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error),
    ):
        patched.setattr(os, "environ", environment(server, **variables))
        try:
            exit_code = main(command)
        except SystemExit as ended:
            exit_code = int(ended.code or 0)
    assert exit_code == code, out.getvalue() + error.getvalue()
    return subprocess.CompletedProcess(command, exit_code, out.getvalue(), error.getvalue())
