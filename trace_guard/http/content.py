"""Reads a request as the input of an invocation. The function can still read all of it."""

from __future__ import annotations

import codecs
import contextlib
import inspect
import io
import re
from typing import Any
from urllib.parse import parse_qs

from .passing import pairs_of

__all__ = [
    "bare_type", "charset_of", "content_type_of", "fields_of", "headers_of", "input_of", "is_form", "is_text", "parsed",
    "path_of", "read", "read_async",
]

_MOST_FIELDS = 1000
_FORM = "application/x-www-form-urlencoded"
_JSON = ("/json", "+json")
_CHARSET = re.compile(r"""[;\s]charset=["']?([\w.:+-]{1,40})""", re.IGNORECASE)
# Codecs of Python's own, no charsets. Some of them take time that is not linear in the length.
_NO_CHARSETS = frozenset(["idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"])
# Types of text besides text/*, forms and JSON. Several are used for streams of JSON.
_TEXTS = frozenset([
    "application/ecmascript", "application/graphql", "application/javascript", "application/json-seq",
    "application/jsonl", "application/jsonlines", "application/ndjson", "application/x-json-stream",
    "application/x-jsonlines", "application/x-ndjson", "application/x-yaml", "application/xml", "application/yaml",
])


def input_of(request: Any, body: bytes | None, byte_limit: int) -> dict[str, Any]:
    """Method, path, query and body of a request. At most ``byte_limit`` bytes of the query are read."""
    scope = getattr(request, "scope", None) or {}
    environ = getattr(request, "environ", None) or {}
    query = scope.get("query_string") or environ.get("QUERY_STRING") or ""
    input: dict[str, Any] = {
        "method": request.method,
        "path": path_of(request),
        "query": fields_of(query.decode("latin-1") if isinstance(query, bytes) else query, byte_limit),
    }
    if body:
        input["body"] = parsed(body, str(headers_of(request).get("content-type") or ""))
    return {key: value for key, value in input.items() if value != {}}


def headers_of(request: Any) -> Any:
    """The headers of the request, which have at least their names in lower case. A scope of ASGI may lack them."""
    scope = getattr(request, "scope", None)
    headers = () if scope is None else scope.get("headers") or ()
    return dict(pairs_of(headers)) if scope is not None and isinstance(headers, (list, tuple)) else request.headers


def path_of(request: Any) -> str:
    """The path of the request, without the query."""
    path = getattr(request, "path", None)  # Flask
    return path if isinstance(path, str) else str(request.scope.get("path", "/"))


def read(request: Any, byte_limit: int) -> bytes | None:
    """The body of a Flask request if it is short text, else None. The function can still read it in any way."""
    size = _size(request, byte_limit)
    if size is None or not callable(getattr(request, "get_data", None)):
        return None
    if any(name in vars(request) for name in ("form", "stream")) and getattr(request, "_cached_data", None) is None:
        return None  # other code has read it, or holds the stream
    # An error in reading comes again when the function reads, and is raised there.
    with contextlib.suppress(Exception):
        body: bytes = request.get_data(cache=True)
        if len(body) == size:
            request.stream = io.BytesIO(body)
            request.environ["wsgi.input"] = io.BytesIO(body)
            return body
    return None


async def read_async(request: Any, byte_limit: int) -> bytes | None:
    """:func:`read` for a Starlette request, which keeps the body for the function."""
    if _size(request, byte_limit) is None or not inspect.iscoroutinefunction(getattr(request, "body", None)):
        return None
    if getattr(request, "_stream_consumed", False) and not hasattr(request, "_body"):
        return None
    with contextlib.suppress(Exception):  # as above
        body: bytes = await request.body()
        return body
    return None


def parsed(body: bytes, content_type: str) -> Any:
    """The content of a body: the value of JSON, the fields of a form, else text.

    Args:
        content_type: the header, with its parameters.
    """
    kind, text = bare_type(content_type), body.decode(charset_of(content_type), "replace")
    if kind == _FORM:
        return fields_of(text, len(text))
    if kind.endswith(_JSON):
        import json  # any framework has imported it already

        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def content_type_of(headers: Any) -> str:
    """The content type without its parameters, in lower case."""
    value = headers.get("content-type")
    return bare_type(value) if isinstance(value, str) else ""


def bare_type(value: str) -> str:
    """The value of a Content-Type header without its parameters, in lower case."""
    return value.partition(";")[0].strip().lower()


def charset_of(content_type: str) -> str:
    """The name of the codec for a text of this type: that of its ``charset``, if Python has it, else UTF-8."""
    found = _CHARSET.search(content_type)
    if found is not None:
        with contextlib.suppress(LookupError):
            name = codecs.lookup(found[1]).name
            if name not in _NO_CHARSETS:
                b" ".decode(name, "replace")  # a LookupError for a codec that is not of text
                return name
    return "utf-8"


def is_text(content_type: str) -> bool:
    """True for text. False for multipart forms, which may contain files."""
    return content_type.startswith("text/") or content_type.endswith((*_JSON, "+xml")) or (
        content_type == _FORM or content_type in _TEXTS
    )


def is_form(content_type: str) -> bool:
    """True for a form that is text."""
    return content_type == _FORM


def _size(request: Any, byte_limit: int) -> int | None:
    """The Content-Length of a body that may be read: text within the limit. A chunked body may never end, so it is not
    read."""
    headers = headers_of(request)
    length = str(headers.get("content-length") or "")
    if not (length.isascii() and length.isdigit() and len(length) < 10):
        return None
    if headers.get("content-encoding") or not is_text(content_type_of(headers)):
        return None
    return int(length) if 0 < int(length) <= byte_limit else None


def fields_of(text: str, byte_limit: int) -> Any:
    """The fields of a query or a form; repeated names have lists. With too many fields, the text itself."""
    try:
        fields = parse_qs(text[:byte_limit], keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return text[:byte_limit]
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
