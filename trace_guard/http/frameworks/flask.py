"""Flask's and Quart's signals. They report the exception behind a 500, and the route before the view runs.

https://flask.palletsprojects.com/en/stable/signals/#core-signals
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...contain import contain
from ..routing import RoutedRequest

__all__ = ["connect"]


def connect(framework: ModuleType) -> None:
    """Connect to the signals of ``flask`` or ``quart``."""

    def started(sender: Any, **_: Any) -> None:
        traced = RoutedRequest.current()
        if traced is not None:
            with contain("read the route of a request"):
                request = framework.request
                traced.routed(getattr(request.url_rule, "rule", None), request.root_path)

    def caught(sender: Any, exception: BaseException, **_: Any) -> None:
        traced = RoutedRequest.current()
        if traced is not None:
            traced.caught(exception)

    async def started_async(sender: Any, **keywords: Any) -> None:
        started(sender, **keywords)

    async def caught_async(sender: Any, **keywords: Any) -> None:
        caught(sender, **keywords)

    is_async = hasattr(framework, "Quart")  # which would run plain receivers in a thread
    framework.request_started.connect(started_async if is_async else started, weak=False)
    framework.got_request_exception.connect(caught_async if is_async else caught, weak=False)
