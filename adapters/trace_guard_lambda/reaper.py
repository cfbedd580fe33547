"""The reaper as a Lambda function on a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .context import deadline_of

__all__ = ["reaper_handler"]


def reaper_handler(event: Any, context: Any) -> dict[str, Any]:
    """Find stuck traces, and close them if the event says so. Use it as the handler of a function on a schedule.

    The event has the options of :class:`trace_guard.Reaper`, such as
    ``{"projects": ["support-bot"], "older_than": "6h", "close": true}``; in an event of EventBridge they are its
    ``detail``. Without ``"close": true`` nothing is changed. Each trace is logged as one line of JSON. A run that would
    last longer than the function's timeout is stopped before, and the next one goes on.

    Returns:
        the numbers of found and closed traces, and whether the run was interrupted.

    Raises:
        SettingsError: an option is not known, or there is no key.
        BackendError: Braintrust can't be read or written. Lambda then reports the invocation as failed.
    """
    from trace_guard.repair.scheduled import run_scheduled  # functions that do not repair start faster without it

    options: Mapping[str, Any] = event if isinstance(event, Mapping) else {}
    if "detail-type" in options:
        detail = options.get("detail")
        options = detail if isinstance(detail, Mapping) else {}
    return run_scheduled(options, deadline=deadline_of(context))
