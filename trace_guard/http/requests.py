"""Metadata and names from a request, in OpenTelemetry's terms. It never includes headers that may hold secrets.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HttpRequest", "NameOf", "default_name", "facts_of_request", "header_facts", "is_excluded", "method_label",
           "prefix_of"]

# Headers without secrets, and the metadata keys of their values.
_NOTED = {"function-execution-id": "faas.invocation_id", "x-cloud-trace-context": "gcp.cloud_trace_context"}
_NOTED_CHARACTERS = 128
_METHODS = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"])
# The only route of a function, which matches every path and so says nothing.
_ANY_PATH = re.compile(r"/[<{]path:\w+[>}]")


@dataclass(frozen=True)
class HttpRequest:
    """The parts of a request that a name can be made from.

    Attributes:
        method: in upper case.
        path: as requested, without the query.
        route: the pattern that the framework has matched, such as ``/orders/<id>``; None before that or without one.
        headers: by name, in lower case.
        query: as requested.
        body: for a ``capture_input`` function, what the application has read: the value of JSON, the fields of a form,
            text up to the limit, or type and size. None without a body, and for other functions.
    """

    method: str
    path: str
    route: str | None
    headers: Mapping[str, str]
    query: str = ""
    body: Any = None


NameOf = Callable[[HttpRequest], str]
"""Returns the root span's name for a request. Called when the request arrives, and again when its route is known."""


def default_name(request: HttpRequest) -> str:
    """``METHOD /route``. Uses the path if there is no route or if the route matches every path."""
    route = request.route if request.route and not _ANY_PATH.fullmatch(request.route) else request.path
    return f"{method_label(request.method)} {route}"


def method_label(method: str) -> str:
    """The method for use in a name. Clients may send any word, so unknown ones become ``HTTP``."""
    return method if method in _METHODS else "HTTP"


def header_facts(headers: Mapping[str, str]) -> dict[str, Any]:
    """The execution id and the platform's trace context.

    Args:
        headers: by name, in lower case.
    """
    return {fact: headers[name][:_NOTED_CHARACTERS] for name, fact in _NOTED.items() if headers.get(name)}


def facts_of_request(method: str, path: str, route: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
    """Metadata for the root span, without unknown values.

    Args:
        headers: by name, in any case.
    """
    size = str(next((value for name, value in headers.items() if name.lower() == "content-length"), ""))
    facts: dict[str, Any] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.request.method_original": None if method in _METHODS else method[:32],
        "url.path": path,
        "http.route": route,
        "http.request.body.size": int(size) if size.isdecimal() else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def is_excluded(path: str, patterns: tuple[str, ...]) -> bool:
    """True if the path equals one of the patterns, or begins with one that ends in ``*``."""
    return any(
        path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern for pattern in patterns
    )


def prefix_of(path: str, prefix: object) -> str:
    """The prefix of an application, without a final slash; empty if a proxy has removed it from the path."""
    prefix = prefix.rstrip("/") if isinstance(prefix, str) else ""
    return prefix if path == prefix or path.startswith(f"{prefix}/") else ""
