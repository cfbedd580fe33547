"""Puts real ids for placeholders into requests that pass through.

The SDK cached the placeholders before the ids were known: see :mod:`trace_guard.backends.project_ids`.
"""

from __future__ import annotations

import functools
import json
import re
import urllib.parse

import requests

from ..backends.project_ids import (
    ORG_NAME_PLACEHOLDER,
    ORG_PLACEHOLDER,
    is_placeholder,
    placeholder,
    project_name,
)
from ..settings import DEFAULT_API_URL
from .host import ProjectLookup

__all__ = ["resolve"]

_ORGANISATION = (ORG_PLACEHOLDER, ORG_NAME_PLACEHOLDER)


def resolve(request: requests.PreparedRequest, lookup: ProjectLookup | None) -> None:
    """Replace placeholders in the URL and the body of a request. The default API is one, too: the login had to name it
    before the organisation's own was known.

    Ids that are not known are looked up: the request waits for the network anyway. A placeholder whose id can't be
    found stays.
    """
    request.url = _in_url().sub(
        lambda match: urllib.parse.quote(_real(urllib.parse.unquote(match[0]), lookup), safe=""),
        _at_own_api(request.url or "", lookup),
    )
    if isinstance(request.body, (bytes, str)):
        body = request.body.encode() if isinstance(request.body, str) else request.body
        resolved = _in_json().sub(lambda match: json.dumps(_real(json.loads(match[0]), lookup)).encode(), body)
        if resolved != body:
            request.body = resolved
            request.headers["Content-Length"] = str(len(resolved))


def _at_own_api(url: str, lookup: ProjectLookup | None) -> str:
    if lookup is None or not url.startswith(f"{DEFAULT_API_URL}/"):
        return url
    if lookup.organisation is None:
        lookup.find_out(None)
    return lookup.api_url + url[len(DEFAULT_API_URL):]


def _real(text: str, lookup: ProjectLookup | None) -> str:
    if lookup is None:
        return text
    if is_placeholder(text):
        name = project_name(text)
        if lookup.project_id(name) is None:
            lookup.find_out(name)
        return lookup.project_id(name) or text
    if lookup.organisation is None:
        lookup.find_out(None)
    organisation = lookup.organisation
    if organisation is None:
        return text
    return organisation.name if text == ORG_NAME_PLACEHOLDER else organisation.id


# Compiled when a request first passes through: many processes have none.


@functools.cache
def _in_json() -> re.Pattern[bytes]:
    return re.compile(rf'"(?:{placeholder("")}(?:[^"\\]|\\.)*|{"|".join(_ORGANISATION)})"'.encode())


@functools.cache
def _in_url() -> re.Pattern[str]:
    return re.compile("|".join([
        urllib.parse.quote(placeholder(""), safe="") + "[^&#/?]*",
        *(urllib.parse.quote(name, safe="") + r"(?![\w-])" for name in _ORGANISATION),
    ]))
