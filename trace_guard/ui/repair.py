"""Finds and closes stuck traces for the health page, with the reaper."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..repair.open_traces import StuckTrace as FoundTrace
from ..repair.reaper import Reaper
from ..settings import Settings
from .health import StuckTrace

__all__ = ["ReaperRepair"]

_MOST = 100


class ReaperRepair:
    """The reaper's dry run, and the close of single traces.

    Args:
        settings: where the traces are.
        projects: names or ids; see :class:`trace_guard.Reaper`.
        is_slow: see :class:`.health.Repair`.
    """

    def __init__(self, settings: Settings, projects: Sequence[str] = (), *, is_slow: bool = False) -> None:
        self.is_slow = is_slow
        self._settings = settings
        self._projects = projects
        self._found: dict[str, FoundTrace] = {}

    def stuck(self) -> Sequence[StuckTrace]:
        reaper = self._reaper()
        try:
            self._found = {trace.root_span_id: trace for trace in reaper.find()}
        finally:
            reaper.disconnect()
        now = time.time()
        return [
            StuckTrace(
                trace.root_span_id, trace.name, trace.where.name, max(0.0, now - trace.last_activity),
                len(trace.open_spans), trace.cause.sentence, trace.open_spans[0].place if trace.open_spans else None,
            )
            for trace in self._found.values()
        ]

    def close(self, root_span_id: str) -> str:
        trace = self._found.get(root_span_id)
        if trace is None:
            return "This trace is no longer among the stuck ones."
        reaper = self._reaper()
        try:
            done = reaper.close_found([trace])
        finally:
            reaper.disconnect()
        if not done.closed:
            return f"The trace {trace.name!r} was left alone: something has happened in it since it was found."
        return f"The trace {trace.name!r} is closed, at the time of its last activity."

    def _reaper(self) -> Reaper:
        return Reaper(self._settings, projects=self._projects, limit=_MOST)
