"""What a request brings, as the input of an invocation, without taking it from the function."""

from __future__ import annotations

import contextlib
import inspect
import io
from typing import Any
from urllib.parse import parse_qs

__all__ = ["content_type_of", "fields_of", "input_of", "is_text", "parsed", "path_of", "read", "read_async"]

_MOST_FIELDS = 1000
_FORM = "application/x-www-form-urlencoded"


def input_of(request: Any, body: bytes | None, byte_limit: int) -> dict[str, Any]:
    """Method, path, query and body of a request. ``byte_limit``: of a query, so many bytes are read."""
    scope = getattr(request, "scope", None) or {}
    environ = getattr(request, "environ", None) or {}
    query = scope.get("query_string") or environ.get("QUERY_STRING") or ""
    found: dict[str, Any] = {
        "method": request.method,
        "path": path_of(request),
        "query": fields_of(query.decode("latin-1") if isinstance(query, bytes) else query, byte_limit),
    }
    if body:
        found["body"] = parsed(body, content_type_of(request.headers))
    return {key: value for key, value in found.items() if value != {}}


def path_of(request: Any) -> str:
    """The path that was asked for, without the query."""
    path = getattr(request, "path", None)  # Flask's
    return path if isinstance(path, str) else str(request.scope.get("path", "/"))


def read(request: Any, byte_limit: int) -> bytes | None:
    """The body of a request of Flask, where that is small and text; the function can read it once more, in any way
    that there is. None where it is not read."""
    size = _size(request, byte_limit)
    if size is None or not callable(getattr(request, "get_data", None)):
        return None
    if any(name in vars(request) for name in ("form", "stream")) and getattr(request, "_cached_data", None) is None:
        return None  # somebody has read it, or is about to
    # What goes wrong in reading it does so once more when the function does, and there it belongs.
    with contextlib.suppress(Exception):
        body: bytes = request.get_data(cache=True)
        if len(body) == size:
            request.stream = io.BytesIO(body)
            request.environ["wsgi.input"] = io.BytesIO(body)
            return body
    return None


async def read_async(request: Any, byte_limit: int) -> bytes | None:
    """The same of a request of Starlette, which keeps what was read for the function."""
    if _size(request, byte_limit) is None or not inspect.iscoroutinefunction(getattr(request, "body", None)):
        return None
    if getattr(request, "_stream_consumed", False) and not hasattr(request, "_body"):
        return None
    with contextlib.suppress(Exception):  # as above
        body: bytes = await request.body()
        return body
    return None


def parsed(body: bytes, content_type: str) -> Any:
    """A body as what it holds: the value of JSON, the fields of a form, else text."""
    text = body.decode(errors="replace")
    if content_type == _FORM:
        return fields_of(text, len(text))
    if content_type.endswith(("/json", "+json")):
        import json  # whoever has a request has it

        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def content_type_of(headers: Any) -> str:
    """The type of a content without its parameters, in lower case."""
    found = headers.get("content-type")
    return found.partition(";")[0].strip().lower() if isinstance(found, str) else ""


def is_text(content_type: str) -> bool:
    """True for what can be read; not for a form in parts, which may hold files."""
    return content_type.startswith("text/") or content_type == _FORM or content_type.endswith(("/json", "+json"))


def _size(request: Any, byte_limit: int) -> int | None:
    """The length of a body that is to be read: one that is small, is text, and says so. What comes in chunks may
    never end."""
    headers = request.headers
    length = headers.get("content-length") or ""
    if not (isinstance(length, str) and length.isascii() and length.isdigit() and len(length) < 10):
        return None
    if headers.get("content-encoding") or not is_text(content_type_of(headers)):
        return None
    return int(length) if 0 < int(length) <= byte_limit else None


def fields_of(text: str, byte_limit: int) -> Any:
    """The fields of a query or a form, with a list where a name comes several times; of very many the text."""
    try:
        fields = parse_qs(text[:byte_limit], keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return text[:byte_limit]
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
