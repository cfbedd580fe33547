"""What a request says of an invocation, in OpenTelemetry's HTTP terms.

The terms: https://opentelemetry.io/docs/specs/semconv/http/http-spans/. Of headers only those values are among them
that are no secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HttpRequest", "NameOf", "default_name", "facts_of_request", "header_facts", "is_excluded", "method_label"]

# Names of headers whose values are no secrets, and what is noted of them.
_NOTED = {"function-execution-id": "faas.invocation_id", "x-cloud-trace-context": "gcp.cloud_trace_context"}
_NOTED_CHARACTERS = 128
_METHODS = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"])
# The one route of a function: it has no others to tell it from.
_ANY_PATH = re.compile(r"/[<{]path:\w+[>}]")


@dataclass(frozen=True)
class HttpRequest:
    """What a name can be made from.

    Attributes:
        method: in capitals.
        path: as it was asked for, without the query.
        route: the pattern that the framework has found for it, such as ``/orders/<id>``; None until then, and where
            there is none.
        headers: by their names in small letters.
    """

    method: str
    path: str
    route: str | None
    headers: Mapping[str, str]


NameOf = Callable[[HttpRequest], str]
"""The root span's name for a request. Called when it comes, and again once its route is known."""


def default_name(request: HttpRequest) -> str:
    """``METHOD /route``; with the path where there is no route, or one for every path only."""
    route = request.route if request.route and not _ANY_PATH.fullmatch(request.route) else request.path
    return f"{method_label(request.method)} {route}"


def method_label(method: str) -> str:
    """The method in a name: clients may send any word."""
    return method if method in _METHODS else "HTTP"


def header_facts(headers: Mapping[str, str]) -> dict[str, Any]:
    """The execution's id, and the trace that the platform has made.

    Args:
        headers: by their names in small letters.
    """
    return {fact: headers[name][:_NOTED_CHARACTERS] for name, fact in _NOTED.items() if headers.get(name)}


def facts_of_request(method: str, path: str, route: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
    """Metadata for the root span; what is not known is left out.

    Args:
        headers: by their names, in any case.
    """
    size = next((value for name, value in headers.items() if name.lower() == "content-length"), "")
    facts: dict[str, Any] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.request.method_original": None if method in _METHODS else method[:32],
        "url.path": path,
        "http.route": route,
        "http.request.body.size": int(size) if size.isdecimal() else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def is_excluded(path: str, patterns: tuple[str, ...]) -> bool:
    """True if one of the patterns is the path, or ends in ``*`` and begins it."""
    return any(path.startswith(one[:-1]) if one.endswith("*") else path == one for one in patterns)

