"""Flask and Quart: the route, before the view runs, and exceptions that become responses.

https://flask.palletsprojects.com/en/stable/signals/#core-signals
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from ...contain import contain
from ..answers import status_of_error
from ..routing import RoutedRequest

__all__ = ["connect"]


def connect(framework: ModuleType) -> None:
    """Connect to the signals of ``flask`` or ``quart``, and watch their error handlers, which have no signal."""

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

    application = getattr(framework, "Quart", None) or framework.Flask
    plain = application.handle_user_exception

    @functools.wraps(plain)
    def handle_user_exception(app: Any, error: Any, *args: Any, **keywords: Any) -> Any:
        traced = RoutedRequest.current()
        if traced is not None and status_of_error(error) is None:  # abort(503) is an answer
            traced.caught(error)
        return plain(app, error, *args, **keywords)

    application.handle_user_exception = handle_user_exception
    is_async = hasattr(framework, "Quart")  # which would run plain receivers in a thread
    framework.request_started.connect(started_async if is_async else started, weak=False)
    framework.got_request_exception.connect(caught_async if is_async else caught, weak=False)
