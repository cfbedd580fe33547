"""Keeps requests of this package out of the traces of other libraries, which patch HTTP clients everywhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from ..contain import contain

__all__ = ["untraced"]

_KEYS = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
# What older instrumentations of OpenTelemetry look for.
_PLAIN_KEY = "suppress_instrumentation"


@contextlib.contextmanager
def untraced(connection: str) -> Iterator[None]:
    """OpenTelemetry makes no spans of requests within the block, and X-Ray no subsegments of requests over connections
    of this class. Only libraries that are loaded are told.

    Args:
        connection: the full name of the class.
    """
    token = None
    opentelemetry = sys.modules.get("opentelemetry.context")
    if opentelemetry is not None:
        with contain("keep a request out of OpenTelemetry"):
            context = opentelemetry.set_value(_PLAIN_KEY, True)
            for name in _KEYS:
                if hasattr(opentelemetry, name):
                    context = opentelemetry.set_value(getattr(opentelemetry, name), True, context)
            token = opentelemetry.attach(context)
    xray = sys.modules.get("aws_xray_sdk.ext.httplib.patch")
    if xray is not None:
        with contain("keep a request out of X-Ray"):
            xray.add_ignored(subclass=connection)
    try:
        yield
    finally:
        if opentelemetry is not None and token is not None:
            with contain("keep a request out of OpenTelemetry"):
                opentelemetry.detach(token)
