"""Flask's signals. They report the exception behind a 500, and the route before the view runs.

https://flask.palletsprojects.com/en/stable/signals/#core-signals
"""

from __future__ import annotations

import sys
from typing import Any

from trace_guard.contain import contain
from trace_guard.http.exchange import Exchange

__all__ = ["KEY", "connect", "route_of"]

KEY = "trace_guard.exchange"
"""The key of a request's exchange in its WSGI environment."""

_connected = False


def connect() -> None:
    """Connect to the signals once Flask has been imported. A second connection is not made."""
    global _connected
    flask = sys.modules.get("flask")
    if not _connected and flask is not None:
        _connected = True
        with contain("connect to Flask's signals"):
            flask.got_request_exception.connect(_caught, weak=False)
            flask.request_started.connect(_started, weak=False)


def route_of(environ: dict[str, Any]) -> str | None:
    """The pattern of Flask's route; None without a route or in another framework."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return getattr(rule, "rule", None)


def _exchange() -> Exchange | None:
    exchange = sys.modules["flask"].request.environ.get(KEY)
    return exchange if isinstance(exchange, Exchange) else None


def _caught(sender: Any, exception: BaseException, **_: Any) -> None:
    with contain("record an exception that Flask has caught"):
        exchange = _exchange()
        if exchange is not None:
            exchange.caught(exception)


def _started(sender: Any, **_: Any) -> None:
    with contain("record the route"):
        exchange = _exchange()
        if exchange is not None:
            exchange.routed(route_of(sys.modules["flask"].request.environ))
