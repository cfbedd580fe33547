"""Helpers for tests of the middleware: services under real servers, and their spans in the stand-in for Braintrust."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from planted_keys import PLANTED_KEY
from support import PROJECT_ID, REPOSITORY

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, CloudRunSandbox, HttpResponse

__all__ = ["GTHREAD", "SYNC", "UVICORN", "Service", "named", "roots", "run"]

FUNCTIONS = Path(__file__).parent.parent / "functions"
GTHREAD = ("gunicorn --bind :$PORT --threads 16 app:app", "gcf_apps_wsgi")
SYNC = ("gunicorn --bind :$PORT app:app", "gcf_apps_wsgi")
UVICORN = ("uvicorn --port $PORT app:app", "gcf_apps_asgi")
"""Commands, and the folders of what they serve."""


class Service(NamedTuple):
    """A service and the server that receives its traces."""

    sandbox: CloudRunSandbox
    server: BraintrustServer

    def ask(self, path: str, method: str = "GET", **keywords: Any) -> tuple[HttpResponse, list[Row]]:
        """The response, and the spans that had arrived with its last byte."""
        self.server.clear()
        response = self.sandbox.request(method, path, **keywords)
        return response, self.server.span_rows()


def run(
    which: tuple[str, str],
    server: BraintrustServer,
    *,
    timeout: int = 300,
    throttle: bool = True,
    cloud_trace: bool = True,
    python: str = sys.executable,
    **env: str,
) -> CloudRunSandbox:
    """A sandbox, not started yet, whose traces go to this server."""
    command, app = which
    server.add_project("project", PROJECT_ID)
    variables = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")]),
        "PYTHONDONTWRITEBYTECODE": "1", **env,
    }
    return CloudRunSandbox(
        command, code=FUNCTIONS / app, env=variables, python=python, timeout=timeout, throttle=throttle,
        cloud_trace=cloud_trace,
    )


def roots(rows: Iterable[Row]) -> list[Row]:
    """The root spans among them."""
    return [row for row in rows if not row["span_parents"]]


def named(rows: Iterable[Row]) -> dict[str, Row]:
    """Spans by their names."""
    return {row["span_attributes"]["name"]: row for row in rows}
