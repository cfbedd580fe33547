"""What a function answers a request with: its status, and what of it can stand as the output."""

from __future__ import annotations

import sys
from typing import Any

from ..invocation.invocation import NOTHING
from .content import content_type_of, is_text, parsed

__all__ = ["implied_status", "output_of", "status_of", "status_of_error", "streams"]

_BODIES = (str, bytes, bytearray, dict, list, tuple)
# What may raise in user code to answer with a status.
_HTTP_EXCEPTIONS = ("werkzeug.exceptions", "starlette.exceptions")


def status_of(result: Any) -> int | None:
    """The status that a result names; None if it names none."""
    if isinstance(result, tuple):
        told = _number(result[1]) if len(result) > 1 else None
        return told or (status_of(result[0]) if result else None)
    return _number(getattr(result, "status_code", None))


def implied_status(result: Any) -> int | None:
    """The status that a result without one gets from the framework; None if that is not known."""
    if result is None:
        return 500
    return 200 if isinstance(result, _BODIES) or streams(result) else None


def status_of_error(error: BaseException) -> int | None:
    """The status that an ``HTTPException`` of Werkzeug or Starlette stands for; None for any other exception."""
    for module in _HTTP_EXCEPTIONS:
        kind = getattr(sys.modules.get(module), "HTTPException", None)
        if isinstance(kind, type) and isinstance(error, kind):
            # Werkzeug's has a response instead of a code after `abort(response)`.
            given = getattr(getattr(error, "response", None), "status_code", None)
            return _number(given or getattr(error, "code", None) or getattr(error, "status_code", None))
    return None


def output_of(result: Any, byte_limit: int) -> Any:
    """What is to stand as the output: a result as it is, of a response status and body, and NOTHING of what is
    still to be streamed. ``byte_limit``: of a body, so many bytes are read."""
    if streams(result):
        return NOTHING
    if isinstance(result, tuple) and result:
        body, status = output_of(result[0], byte_limit), status_of(result)
        return body if status is None else {"status_code": status, "body": body}
    if hasattr(result, "status_code") and hasattr(result, "headers"):
        content = _body_of(result, byte_limit)
        body = {"body": parsed(content, content_type_of(result.headers))} if content else {}
        return {"status_code": status_of(result), **body}
    return result


def streams(result: Any) -> bool:
    """True if the body of a result, or a part of it, is made while it is sent."""
    if isinstance(result, tuple):
        return bool(result) and streams(result[0])
    if hasattr(result, "__next__") or hasattr(result, "__anext__"):
        return True
    return bool(getattr(result, "is_streamed", False)) or hasattr(result, "body_iterator")


def _body_of(response: Any, byte_limit: int) -> bytes | None:
    """The body of a response that has it at hand, small and as text."""
    if not is_text(content_type_of(response.headers)) or response.headers.get("content-encoding"):
        return None
    if getattr(response, "direct_passthrough", False):
        return None  # a file
    size = getattr(response, "calculate_content_length", None)
    if size is not None:
        return response.get_data() if (size() or 0) <= byte_limit else None  # Flask's, whose parts are at hand
    body = getattr(response, "body", None)
    return bytes(body) if isinstance(body, (bytes, memoryview)) and len(body) <= byte_limit else None


def _number(status: Any) -> int | None:
    """A status in any form that Flask takes: 404, ``HTTPStatus.NOT_FOUND``, ``"404 NOT FOUND"``."""
    if isinstance(status, str):
        status = int(status[:3]) if status[:3].isascii() and status[:3].isdigit() else None
    known = isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599
    return int(status) if known else None
