"""One run of the reaper on a schedule, with options that come as JSON and an end before the platform's timeout."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..deadline import Deadline
from ..errors import SettingsError
from ..settings import Settings
from .durations import seconds_of
from .open_traces import StuckTrace
from .reaper import Reaped, Reaper

__all__ = ["run_scheduled"]

_LISTS = ("projects", "experiments")
_DURATIONS = ("older_than", "since")
_OTHERS = {
    "all_projects": bool, "filter": str, "limit": int, "shard": str, "parallel": int, "error": str, "close": bool,
}
_STOP_SECONDS = 5.0
"""The reaper is stopped this long before the deadline: a close that has begun is then completed."""


def run_scheduled(
    options: Mapping[str, Any], settings: Settings | None = None, deadline: Deadline | None = None,
    log: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Find stuck traces, and close them if the options say ``"close": true``.

    Each trace is logged as one line of JSON.

    Args:
        options: the keywords of :class:`Reaper`, with durations such as ``"6h"``, and ``close``.
        deadline: a run that would last longer is stopped before; the next one goes on.

    Returns:
        the numbers of :class:`Reaped`.

    Raises:
        SettingsError: an option is not known, or has a wrong value.
        BackendError: the backend can't be read or written.
    """
    keywords = {name: _checked(name, value) for name, value in options.items() if value is not None}
    close = keywords.pop("close", False)
    reaper = Reaper(settings, **keywords)
    stopping = None
    if deadline is not None and deadline.epoch is not None:
        stopping = threading.Timer(deadline.minus(_STOP_SECONDS).remaining, reaper.stop)
        stopping.daemon = True
        stopping.start()

    def said(trace: StuckTrace) -> None:
        log(json.dumps({"trace_guard": "closed" if close else "stuck", **trace.to_json()}))

    try:
        if close:
            return reaper.close(said).to_json()
        done = Reaped()
        for trace in reaper.find():
            done.found += 1
            said(trace)
        return dataclasses.asdict(done)
    finally:
        if stopping is not None:
            stopping.cancel()
        reaper.disconnect()


def _checked(name: str, value: Any) -> Any:
    if name in _LISTS:
        return [value] if isinstance(value, str) else [str(one) for one in value]
    if name in _DURATIONS:
        return seconds_of(value) if isinstance(value, str) else float(value)
    if name not in _OTHERS:
        known = ", ".join([*_LISTS, *_DURATIONS, *_OTHERS])
        raise SettingsError(f"{name!r} is not an option of the reaper; the options are {known}")
    if not isinstance(value, _OTHERS[name]) or (isinstance(value, bool) and _OTHERS[name] is not bool):
        raise SettingsError(f"{name} takes a {_OTHERS[name].__name__}, not {value!r}")
    return value
