"""Rows as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .row import Row

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment,unused-ignore]

__all__ = ["dump", "dump_fast", "split_rows"]

# With sorted keys, as the SDK writes rows.
_AS_JSON = 0 if orjson is None else (
    orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_SORT_KEYS
)


def dump(row: object) -> bytes:
    """Encode a row as compact JSON."""
    return dump_fast(row) or json.dumps(row, separators=(",", ":"), default=str).encode()


def dump_fast(row: object) -> bytes | None:
    """Encode plain values with orjson. None without it, and for what :mod:`json` may write differently, such as keys
    that are no text, dates, large integers and lone surrogates."""
    if orjson is None:
        return None
    try:
        encoded: bytes = orjson.dumps(row, option=_AS_JSON)
    except TypeError:
        return None
    return encoded


def split_rows(body: bytes) -> Iterable[tuple[Row, bytes]]:
    """Yield the rows of a ``POST /logs3`` body, each with its original bytes.

    Raises:
        ValueError: the body does not have the form ``{"rows": [...]}``.
    """
    text = body.decode()
    decoder = json.JSONDecoder()
    start = text.index("[", text.index('"rows"')) + 1
    while True:
        while text[start] in " \t\r\n,":
            start += 1
        if text[start] == "]":
            return
        row, end = decoder.raw_decode(text, start)
        if not isinstance(row, dict):
            raise ValueError(f"a row that is not an object: {text[start:start + 80]!r}")
        yield row, text[start:end].encode()
        start = end
