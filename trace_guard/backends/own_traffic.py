"""Keeps requests of this package out of the traces of other libraries, which patch HTTP clients everywhere."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

from ..contain import contain

__all__ = ["untraced"]

_KEYS = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
# What older instrumentations of OpenTelemetry look for.
_PLAIN_KEY = "suppress_instrumentation"


@contextlib.contextmanager
def untraced(connection: str) -> Iterator[None]:
    """OpenTelemetry and Sentry make no spans of requests within the block, and X-Ray no subsegments of requests over
    connections of this class. Only libraries that are loaded are told.

    Args:
        connection: the full name of the class.
    """
    with contextlib.ExitStack() as stack:
        with contain("keep a request out of the traces of other libraries"):
            opentelemetry = sys.modules.get("opentelemetry.context")
            if opentelemetry is not None:
                _hide_from_opentelemetry(opentelemetry, stack)
            xray = sys.modules.get("aws_xray_sdk.ext.httplib.patch")
            if xray is not None:
                xray.add_ignored(subclass=connection)
            sentry = sys.modules.get("sentry_sdk")
            if sentry is not None and hasattr(sentry, "new_scope"):  # from 2.0 on
                stack.enter_context(sentry.new_scope()).set_client(_silent(sentry))
        yield


def _hide_from_opentelemetry(opentelemetry: Any, stack: contextlib.ExitStack) -> None:
    context = opentelemetry.set_value(_PLAIN_KEY, True)
    for name in _KEYS:
        if hasattr(opentelemetry, name):
            context = opentelemetry.set_value(getattr(opentelemetry, name), True, context)
    stack.callback(opentelemetry.detach, opentelemetry.attach(context))


@functools.cache
def _silent(sentry: Any) -> Any:
    """A client of Sentry that has no integrations, which would record the request, and sends nothing."""
    return sentry.Client(dsn="", default_integrations=False, auto_enabling_integrations=False)
