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


def guard_result(result: Any, invocation: Invocation) -> Any:
    """Close the invocation at the end of a streamed body, or at once if the result is complete.

    Args:
        result: what the function returned: a response of Flask or Starlette, a generator, or a tuple that begins with
            one of these.

    Returns:
        The result to return to the framework: the same one, or a copy with a guarded body.
    """
    result, guarded = _guarded(result, invocation)
    if guarded is None:
        close(invocation, output=result)
        return result
    return guarded


async def guard_async_result(result: Any, invocation: Invocation) -> Any:
    """:func:`guard_result` without blocking the event loop."""
    result, guarded = _guarded(result, invocation)
    if guarded is None:
        await invocation.aclose(output=result)
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
    result: Any, invocation: Invocation, status: int | None = None, length: int | None = None
) -> Any:
    """A copy of the result with a guarded body; None if the body is complete.

    Args:
        status, length: from a tuple that contains the result. They take precedence over the result's own.
    """
    if not invocation.is_live:
        return None
    if isinstance(result, tuple) and result:
        rest = [part for part in result[1:] if part is not None]
        first = _streamed(
            result[0], invocation, next((code for code in map(_status, rest) if code), None),
            _length(next((part for part in rest if not isinstance(part, (int, str))), {})),
        )
        return first if first is None else (first, *result[1:])
    if hasattr(result, "body_iterator"):
        # A Starlette response. It sends its headers as they are.
        guarded = copy.copy(result)  # the application may send the original again
        guarded.body_iterator = AsyncBody(
            result.body_iterator, Exchange(invocation, Framing(length=_length(result.headers)))
        )
        return guarded
    if getattr(result, "is_streamed", False) and not getattr(result, "direct_passthrough", False):
        # A Flask response. The server sends a passed-through file without running user code.
        framing = _framing(status or result.status_code, _length(result.headers) if length is None else length)
        if framing.is_complete:
            return None  # the server does not iterate it
        guarded = copy.copy(result)
        guarded.response = Body(result.response, Exchange(invocation, framing))
        return guarded
    return _body(result, Exchange(invocation, _framing(status or 200, length)))


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


def _length(headers: Any) -> int | None:
    """The Content-Length in a result's headers. Flask accepts a mapping or pairs."""
    pairs = headers.items() if hasattr(headers, "items") else headers
    values = [value for name, value in pairs_of(pairs) if name == "content-length"]
    return int(values[0]) if values and values[0].isdecimal() else None


def _method() -> str:
    """The method of the current Flask request; GET outside one."""
    flask = sys.modules.get("flask")
    return flask.request.method if flask is not None and flask.has_request_context() else "GET"
