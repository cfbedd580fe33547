"""Requests: ``azure.functions.HttpRequest``, and the requests of the FastAPI extension.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from trace_guard.http import content
from trace_guard.http.requests import facts_of_request
from trace_guard.invocation.invocation import NOTHING
from trace_guard.payload import REDACTED

from ..declaration import Declaration
from ..keys import KEYS_IN_URLS
from .description import Description, Trigger
from .reading import attribute, carrier_in, text_in

__all__ = ["Http", "is_streaming", "path_of", "request_input"]



class Http(Trigger):
    kinds = ("httptrigger",)
    types = ("HttpRequest", "Request")
    trigger = "http"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, room: int) -> Description:
        headers = {str(name).lower(): str(one) for name, one in value.headers.items()}
        facts = facts_of_request(str(value.method).upper(), path_of(value), None, headers)
        given = NOTHING if is_streaming(value) else request_input(value, value.get_body(), room)
        return cls.said(facts, given, declared, carriers=(carrier_in(headers),))


def is_streaming(request: Any) -> bool:
    """True for a request of the FastAPI extension, whose body has yet to be read."""
    return hasattr(request, "scope") and hasattr(request, "path_params")


def path_of(request: Any) -> str:
    """The path that was asked for, without the query."""
    return urlsplit(str(request.url)).path or "/"


def request_input(request: Any, body: bytes | None, room: int) -> dict[str, Any]:
    """Method, path, query, the parts of the route and the body of a request."""
    routed = attribute(request, "route_params") or attribute(request, "path_params") or {}
    asked = attribute(request, "params") or attribute(request, "query_params") or {}
    found: dict[str, Any] = {
        "method": str(request.method).upper(),
        "path": path_of(request),
        "query": {name: REDACTED if name.lower() in KEYS_IN_URLS else value for name, value in dict(asked).items()},
        "route": dict(routed),
    }
    if body:
        found["body"] = _shown(body, content.content_type_of(request.headers), room)
    return {key: value for key, value in found.items() if value != {}}


def _shown(body: bytes, content_type: str, room: int) -> Any:
    if content_type.startswith(("multipart/", "image/", "audio/", "video/")):
        return f"<{len(body)} bytes of {content_type}>"  # forms in parts may hold files
    shown = text_in(body, room)
    if shown is None:
        return f"<{len(body)} bytes>"
    return shown if len(body) > room else content.parsed(body, content_type)
