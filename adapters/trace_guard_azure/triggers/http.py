"""Requests: ``azure.functions.HttpRequest``, and the requests of the FastAPI extension.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-trigger
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from trace_guard.http import content
from trace_guard.http.bodies import described, shown_body
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
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        headers = {str(name).lower(): str(header) for name, header in value.headers.items()}
        facts = facts_of_request(str(value.method).upper(), path_of(value), None, headers)
        input = NOTHING if is_streaming(value) else request_input(value, value.get_body(), byte_limit)
        return cls.description(facts, input, declared, carriers=(carrier_in(headers),))


def is_streaming(request: Any) -> bool:
    """True for a request of the FastAPI extension, whose body has yet to be read."""
    return hasattr(request, "scope") and hasattr(request, "path_params")


def path_of(request: Any) -> str:
    """The path of a request, without the query."""
    return urlsplit(str(request.url)).path or "/"


def request_input(request: Any, body: bytes | None, byte_limit: int) -> dict[str, Any]:
    """The input to log for a request: method, path, query, route parameters and body."""
    route = attribute(request, "route_params") or attribute(request, "path_params") or {}
    query = attribute(request, "params") or attribute(request, "query_params") or {}
    fields: dict[str, Any] = {
        "method": str(request.method).upper(),
        "path": path_of(request),
        "query": {name: REDACTED if name.lower() in KEYS_IN_URLS else value for name, value in dict(query).items()},
        "route": dict(route),
    }
    if body:
        fields["body"] = _shown(body, request.headers, byte_limit)
    return {key: value for key, value in fields.items() if value != {}}


def _shown(body: bytes, headers: Any, byte_limit: int) -> Any:
    content_type = content.content_type_of(headers)
    coding = str(headers.get("content-encoding") or "")
    header = str(headers.get("content-type") or "")
    has_charset = content.is_text(content_type) and content.charset_of(header) != "utf-8"
    if not coding and (has_charset or content_type.startswith("multipart/")):
        return shown_body(body[:byte_limit], len(body), header)
    if content_type.startswith(("image/", "audio/", "video/")) or coding:
        return described(len(body), content_type, coding)
    shown = text_in(body, byte_limit)
    if shown is None:
        return f"<{len(body)} bytes>"
    return shown if len(body) > byte_limit else content.parsed(body, header)
