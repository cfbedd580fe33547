"""What the decorator makes of a function's result: its invocation ends with that, or with its body if it streams."""

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

__all__ = ["guard_async_result", "guard_result"]


def guard_result(result: Any, invocation: Invocation) -> Any:
    """Have the end of a result's body close the invocation; close it at once if the result is complete.

    Args:
        result: what a function has returned: of Flask or Starlette, a generator, or a tuple that begins with one.

    Returns:
        The result, or another one in its stead.
    """
    guarded = contained("guard a streamed body", lambda: _streamed(result, invocation), None)
    if guarded is None:
        close(invocation, output=result)
        return result
    return guarded


async def guard_async_result(result: Any, invocation: Invocation) -> Any:
    """:func:`guard_result` on an event loop, which it does not hold up."""
    guarded = contained("guard a streamed body", lambda: _streamed(result, invocation), None)
    if guarded is None:
        await invocation.aclose(output=result)
        return result
    return guarded


def _streamed(
    result: Any, invocation: Invocation, status: int | None = None, length: int | None = None
) -> Any:
    """The result with its body guarded; None if it has none that is still to be made.

    Args:
        status, length: what stands beside it in a tuple, and counts before its own.
    """
    if not invocation.is_live:
        return None
    if isinstance(result, tuple) and result:
        beside = [one for one in result[1:] if one is not None]
        first = _streamed(
            result[0], invocation, next((code for code in map(_status, beside) if code), None),
            _length(next((one for one in beside if not isinstance(one, (int, str))), {})),
        )
        return first if first is None else (first, *result[1:])
    if hasattr(result, "body_iterator"):
        # Starlette's; what is in its headers is what goes out.
        guarded = copy.copy(result)  # theirs may be sent again
        guarded.body_iterator = AsyncBody(
            result.body_iterator, Exchange(invocation, Framing(length=_length(result.headers)))
        )
        return guarded
    if getattr(result, "is_streamed", False) and not getattr(result, "direct_passthrough", False):
        # Flask's. A file that is passed through is the server's to send, and no code of the user's is left.
        framing = _framing(status or result.status_code, _length(result.headers) if length is None else length)
        if framing.is_complete:
            return None  # it will not be iterated
        guarded = copy.copy(result)
        guarded.response = Body(result.response, Exchange(invocation, framing))
        return guarded
    return _body(result, Exchange(invocation, _framing(status or 200, length)))


def _framing(status: int, length: int | None) -> Framing:
    framing = Framing(_method())
    framing.begin(status, [] if length is None else [("content-length", str(length))])
    return framing


def _status(beside: Any) -> int | None:
    """Flask takes a status as a number, or as text that begins with one."""
    text = str(beside)[:3] if isinstance(beside, (int, str)) else ""
    return int(text) if text.isdecimal() else None


def _body(result: Any, exchange: Exchange) -> Body | AsyncBody | None:
    if exchange.framing.is_complete:
        return None
    if isinstance(result, Iterator):
        return Body(result, exchange)
    return AsyncBody(result, exchange) if isinstance(result, AsyncIterator) else None


def _length(headers: Any) -> int | None:
    """The Content-Length in a result's headers, which Flask takes as a mapping or as pairs."""
    pairs = headers.items() if hasattr(headers, "items") else headers
    found = [value for name, value in pairs if str(name).lower() == "content-length"]
    return int(found[0]) if found and str(found[0]).isdecimal() else None


def _method() -> str:
    """The method of Flask's request, if this code runs in one."""
    flask = sys.modules.get("flask")
    return flask.request.method if flask is not None and flask.has_request_context() else "GET"
