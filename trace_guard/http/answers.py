"""Reads the status and the output from the result of a function that answers a request."""

from __future__ import annotations

import sys
from typing import Any

from ..invocation.invocation import NOTHING
from .bodies import BodyCopy, described_file
from .passing import pairs_of

__all__ = ["implied_status", "output_of", "status_of", "status_of_error", "streams"]

_BODIES = (str, bytes, bytearray, dict, list, tuple)
# Modules with an ``HTTPException``, which user code raises to answer with a status.
_HTTP_EXCEPTIONS = ("werkzeug.exceptions", "starlette.exceptions")


def status_of(result: Any) -> int | None:
    """The status in a result; None if it has none."""
    if isinstance(result, tuple):
        status = _number(result[1]) if len(result) > 1 else None
        return status or (status_of(result[0]) if result else None)
    return _number(getattr(result, "status_code", None))


def implied_status(result: Any) -> int | None:
    """The status that the framework gives to a result without one; None if that is not known."""
    if result is None:
        return 500
    return 200 if isinstance(result, _BODIES) or streams(result) else None


def status_of_error(error: BaseException) -> int | None:
    """The status of an ``HTTPException`` of Werkzeug or Starlette; None for any other exception."""
    for module in _HTTP_EXCEPTIONS:
        kind = getattr(sys.modules.get(module), "HTTPException", None)
        if isinstance(kind, type) and isinstance(error, kind):
            # After `abort(response)`, Werkzeug's exception has a response in place of a code.
            given = getattr(getattr(error, "response", None), "status_code", None)
            return _number(given or getattr(error, "code", None) or getattr(error, "status_code", None))
    return None


def output_of(result: Any, byte_limit: int) -> Any:
    """The output to log: status and body of a response, NOTHING for a streamed result, else the result itself.

    Args:
        byte_limit: how many bytes of a response body are read.
    """
    if streams(result) and not getattr(result, "direct_passthrough", False):
        return NOTHING
    if isinstance(result, tuple) and result:
        body, status = output_of(result[0], byte_limit), status_of(result)
        return body if status is None else {"status_code": status, "body": body}
    if hasattr(result, "status_code") and hasattr(result, "headers"):
        body = _body_of(result, byte_limit)
        return {"status_code": status_of(result), **({} if body is NOTHING else {"body": body})}
    return result


def streams(result: Any) -> bool:
    """True if the body of a result is generated while it is sent."""
    if isinstance(result, tuple):
        return bool(result) and streams(result[0])
    if hasattr(result, "__next__") or hasattr(result, "__anext__"):
        return True
    return bool(getattr(result, "is_streamed", False)) or hasattr(result, "body_iterator")


def _body_of(response: Any, byte_limit: int) -> Any:
    """The body of a response as a value to log, if it is in memory; of a file, type and size. NOTHING without
    one."""
    headers = dict(pairs_of(response.headers.items()))
    copy = BodyCopy(headers, byte_limit)
    if getattr(response, "direct_passthrough", False):  # a file, which the server reads
        return described_file(headers)
    if hasattr(response, "calculate_content_length"):  # Flask: all chunks are in memory
        for chunk in response.response if isinstance(response.response, (list, tuple)) else (response.response,):
            copy.add(chunk)
    else:
        copy.add(getattr(response, "body", None))
    return copy.shown()


def _number(status: Any) -> int | None:
    """The status from any form that Flask accepts: 404, ``HTTPStatus.NOT_FOUND``, ``"404 NOT FOUND"``."""
    if isinstance(status, str):
        status = int(status[:3]) if status[:3].isascii() and status[:3].isdigit() else None
    known = isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599
    return int(status) if known else None
