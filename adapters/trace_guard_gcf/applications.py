"""Checks that a middleware is put around an application of its own kind, WSGI or ASGI.

An application whose signature says nothing, such as ``(*args)``, counts as right.
"""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["check_asgi", "check_wsgi"]

# The positional arguments of a call: environ and start_response, or scope, receive and send.
_WSGI, _ASGI = 2, 3


def check_wsgi(app: Any) -> None:
    """Check that the application may be one of WSGI.

    Raises:
        TypeError: it is not; the message says what to do.
    """
    if callable(app) and (_is_coroutine(app) or (_takes(app, _ASGI) and not _takes(app, _WSGI))):
        raise TypeError(
            f"GuardMiddleware is for WSGI applications, and {app!r} is one of ASGI: use AsyncGuardMiddleware for it"
        )
    if not callable(app) or not _takes(app, _WSGI):
        raise TypeError(
            f"GuardMiddleware is put around a WSGI application, and {app!r} is none: write "
            "app.wsgi_app = GuardMiddleware(app.wsgi_app) for Flask, or application = GuardMiddleware(application)"
        )


def check_asgi(app: Any) -> None:
    """Check that the application may be one of ASGI.

    Raises:
        TypeError: it is not; the message says what to do.
    """
    if not inspect.isclass(app) and callable(app) and not _is_coroutine(app) and (
        _takes(app, _WSGI) and not _takes(app, _ASGI)
    ):
        raise TypeError(
            f"AsyncGuardMiddleware is for ASGI applications, and {app!r} is one of WSGI: use GuardMiddleware for it"
        )
    if inspect.isclass(app) or not callable(app) or not _takes(app, _ASGI):
        raise TypeError(
            f"AsyncGuardMiddleware is put around an ASGI application, and {app!r} is none: write "
            "app.add_middleware(AsyncGuardMiddleware) for FastAPI and Starlette, or app = AsyncGuardMiddleware(app)"
        )


def _is_coroutine(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or (
        not inspect.isclass(app) and callable(app) and inspect.iscoroutinefunction(type(app).__call__)
    )


def _takes(app: Any, count: int) -> bool:
    """True if it can be called with so many positional arguments, or if its signature is not known."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
