"""Closes an invocation with a function's result, or with the end of the result's body if it streams."""

from __future__ import annotations

import copy
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ..contain import contained
from ..invocation.invocation import Invocation
from .body import AsyncBody, Body
from .closing import close
from .exchange import Exchange
from .framing import Framing
from .passing import pairs_of, shared

__all__ = ["guard_async_result", "guard_result"]

# Flask's, for results without a type.
_DEFAULT_TYPE = ("content-type", "text/html")


def guard_result(result: Any, invocation: Invocation) -> Any:
    """Close the invocation at the end of a streamed body, or at once if the result is complete. The output is what the
    body sends, see :mod:`.bodies`.

    Args:
        result: what the function returned: a response of Flask or Starlette, a generator, or a tuple that begins with
            one of these.

    Returns:
        The result to return to the framework: the same one, or a copy with a guarded body.
    """
    result, guarded = _guarded(result, invocation)
    if guarded is None:
        close(invocation)
        return result
    return guarded


async def guard_async_result(result: Any, invocation: Invocation) -> Any:
    """:func:`guard_result` without blocking the event loop."""
    result, guarded = _guarded(result, invocation)
    if guarded is None:
        await invocation.aclose()
        return result
    return guarded


def _guarded(result: Any, invocation: Invocation) -> tuple[Any, Any]:
    """The result, and the same with a guarded body; None in its place if the body is complete."""
    ours = theirs = result
    if isinstance(result, tuple):  # its headers may be an iterator, which the framework reads too
        pairs = [(part, part) if number == 0 else shared(part) for number, part in enumerate(result)]
        if any(one is not other for one, other in pairs):
            ours, theirs = tuple(one for one, _ in pairs), tuple(other for _, other in pairs)
    guarded = contained("guard a streamed body", lambda: _streamed(ours, invocation), None)
    return theirs, guarded if guarded is None or ours is theirs else (guarded[0], *theirs[1:])


def _streamed(
    result: Any, invocation: Invocation, status: int | None = None, headers: list[tuple[str, str]] | None = None
) -> Any:
    """A copy of the result with a guarded body; None if the body is complete.

    Args:
        status, headers: from a tuple that contains the result. They take precedence over the result's own.
    """
    if not invocation.is_live:
        return None
    if isinstance(result, tuple) and result:
        rest = [part for part in result[1:] if part is not None]
        first = _streamed(
            result[0], invocation, next((code for code in map(_status, rest) if code), None),
            _pairs(next((part for part in rest if not isinstance(part, (int, str))), ())),
        )
        return first if first is None else (first, *result[1:])
    if hasattr(result, "body_iterator"):
        # A Starlette response. It sends its headers as they are.
        own = _pairs(result.headers)
        exchange = Exchange(invocation, Framing(length=_length(own)))
        exchange.copy_response(result.status_code, own)
        guarded = copy.copy(result)  # the application may send the original again
        guarded.body_iterator = AsyncBody(result.body_iterator, exchange)
        return guarded
    if getattr(result, "is_streamed", False) and not getattr(result, "direct_passthrough", False):
        # A Flask response. The server sends a passed-through file without running user code.
        own = _pairs(result.headers)
        length = _length(own if headers is None or _length(headers) is None else headers)
        exchange = Exchange(invocation, _framing(status or result.status_code, length))
        exchange.copy_response(status or result.status_code, [*own, *(headers or ())])
        if exchange.framing.is_complete:
            return None  # the server does not iterate it
        guarded = copy.copy(result)
        guarded.response = Body(result.response, exchange)
        return guarded
    exchange = Exchange(invocation, _framing(status or 200, _length(headers or [])))
    exchange.copy_response(status or 200, [_DEFAULT_TYPE, *(headers or ())], shows_status=status is not None)
    return _body(result, exchange)


def _framing(status: int, length: int | None) -> Framing:
    framing = Framing(_method())
    framing.begin(status, [] if length is None else [("content-length", str(length))])
    return framing


def _status(part: Any) -> int | None:
    """The status in a part of a tuple. Flask accepts a number, or text that begins with one."""
    text = str(part)[:3] if isinstance(part, (int, str)) else ""
    return int(text) if text.isdecimal() else None


def _body(result: Any, exchange: Exchange) -> Body | AsyncBody | None:
    if exchange.framing.is_complete:
        return None
    if isinstance(result, Iterator):
        return Body(result, exchange)
    return AsyncBody(result, exchange) if isinstance(result, AsyncIterator) else None


def _pairs(headers: Any) -> list[tuple[str, str]]:
    """The headers of a result. Flask accepts a mapping or pairs."""
    return pairs_of(headers.items() if hasattr(headers, "items") else headers)


def _length(headers: list[tuple[str, str]]) -> int | None:
    values = [value for name, value in headers if name == "content-length"]
    return int(values[0]) if values and values[0].isdecimal() else None


def _method() -> str:
    """The method of the current Flask request; GET outside one."""
    flask = sys.modules.get("flask")
    return flask.request.method if flask is not None and flask.has_request_context() else "GET"
