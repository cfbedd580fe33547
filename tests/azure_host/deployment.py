"""Apps of ``tests/functions`` in workers, each with a stand-in for Braintrust that receives its traces."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure_host.answer import Answer
from azure_host.host import FunctionsHost
from support import environment

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

__all__ = ["SITE", "Deployment", "Deployments", "named", "outcome_of", "root_of"]

TESTS = Path(__file__).parent.parent
SITE = {
    "WEBSITE_SITE_NAME": "shop", "WEBSITE_INSTANCE_ID": "instance-1", "REGION_NAME": "West Europe",
    "WEBSITE_OWNER_NAME": "00000000-0000-0000-0000-000000000001+group-WestEuropewebspace-Linux",
    "WEBSITE_RESOURCE_GROUP": "group",
}
"""What tells an app of its place in Azure."""


@dataclass
class Deployment:
    """An app in a worker.

    Attributes:
        host: runs the worker, which starts with the first request.
        server: receives the app's traces.
        directory: the app's ``TRACE_GUARD_DIR``.
        settings: the app's variables.
    """

    host: FunctionsHost
    server: BraintrustServer
    directory: Path
    settings: Mapping[str, str]

    def invoke(self, name: str, *args: Any, **keywords: Any) -> tuple[Answer, list[Row]]:
        """The answer of an invocation (:meth:`FunctionsHost.begin`), and the spans that had arrived by then."""
        self.server.clear()
        self.host.start()
        answer = self.host.invoke(name, *args, **keywords)
        return answer, self.server.span_rows()


class Deployments:
    """Makes deployments and ends their workers. Use it with ``with``.

    Args:
        directory: contains their directories.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[tuple[str, frozenset[tuple[str, str]]], Deployment] = {}
        self._breaking: list[FunctionsHost] = []
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Deployments:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()
        for (app, _variables), made in self._made.items():
            log = made.host.log
            assert made.host in self._breaking or "trace-guard: could not" not in log, f"{app}: {log}"

    def __call__(
        self, app: str, *, folder: Path | None = None, is_placeholder: bool = False, breaks: bool = False, **env: str
    ) -> Deployment:
        """The deployment of this app with these variables. The same arguments return the same deployment.

        Args:
            app: a folder of ``tests/functions``.
            folder: of an app that is not in ``tests/functions``.
            is_placeholder: True to start its worker without the app's settings.
            breaks: True if the test causes faults of the guard.
        """
        key = (app, frozenset(env.items()))
        if key not in self._made:
            server = self._ends.enter_context(BraintrustServer())
            directory = self._directory / f"{app}-{len(self._made)}"
            settings = {**SITE, **environment(server, directory), **env}
            host = FunctionsHost(
                folder or TESTS / "functions" / app, {} if is_placeholder else settings, path=(TESTS,)
            )
            self._ends.callback(host.kill)
            if breaks:
                self._breaking.append(host)
            self._made[key] = Deployment(host, server, directory, settings)
        return self._made[key]


def named(rows: list[Row]) -> Mapping[str, Row]:
    """Spans by their names."""
    return {row["span_attributes"]["name"]: row for row in rows}


def root_of(rows: list[Row]) -> Row:
    """The only root among the spans, which is closed."""
    (root,) = [row for row in rows if not row["span_parents"]]
    assert root["metrics"]["end"] >= root["metrics"]["start"]
    return root


def outcome_of(row: Row) -> str | None:
    """The outcome in a span's metadata."""
    about = (row.get("metadata") or {}).get("trace_guard") or {}
    outcome: str | None = about.get("outcome")
    return outcome
