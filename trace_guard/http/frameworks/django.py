"""Django, over WSGI and ASGI: the route that it resolves, and the exception behind a 500.

https://docs.djangoproject.com/en/stable/ref/signals/#got-request-exception
"""

from __future__ import annotations

import functools
import re
import sys
from types import ModuleType
from typing import Any

from ...contain import contain
from ..routing import RoutedRequest

__all__ = ["connect"]

# The anchors of patterns that ``re_path`` declares, also of included ones.
_ANCHORS = re.compile(r"(?<![\[\\])\^|(?<!\\)\$(?=$|/)|\\[AZ]")


def connect(handlers: ModuleType) -> None:
    """Connect to Django.

    Args:
        handlers: ``django.core.handlers.base``.
    """
    # No signal has the resolved request, and a middleware of Django's would need a line in the settings.
    plain = handlers.BaseHandler.resolve_request

    @functools.wraps(plain)
    def resolve_request(handler: Any, request: Any, *args: Any, **keywords: Any) -> Any:
        match = plain(handler, request, *args, **keywords)
        traced = RoutedRequest.current()
        if traced is not None:
            with contain("read the route of a request"):
                traced.routed("/" + _ANCHORS.sub("", match.route).lstrip("/"), request.META.get("SCRIPT_NAME"))
        return match

    handlers.BaseHandler.resolve_request = resolve_request
    sys.modules["django.core.signals"].got_request_exception.connect(_caught, weak=False, dispatch_uid=__name__)


def _caught(sender: Any, **_: Any) -> None:
    traced = RoutedRequest.current()
    if traced is not None:
        traced.caught(sys.exc_info()[1])
