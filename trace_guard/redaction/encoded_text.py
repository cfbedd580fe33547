"""Reads values that are encoded in text: JSON, also if it is incomplete, and base64, also if it is compressed.

Every function takes linear time and never raises.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .compile_later import compile_later

__all__ = ["Parsed", "complete_json", "decode_base64", "find_json", "parse_json"]

_URL_ALPHABET = str.maketrans("-_", "+/")
_NOT_BASE64 = compile_later(r"[^A-Za-z0-9+/]")
_GZIP = b"\x1f\x8b"
_JSON_TOKEN = compile_later(r'[\[\]{},]|"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_CUT_ESCAPE = compile_later(r"\\u?[0-9a-fA-F]{0,3}\Z")
_JSON_START = compile_later(r'[\[{]\s{0,64}["\[{\dtfn-]')
_JSON_PART = compile_later(r'[,\s]{0,64}(?:["\[{\dtfn-]|\Z)')
_MOST_FAILURES = 4
_CHECKED_EVERY = 64


class Parsed(NamedTuple):
    """A value that was parsed from JSON.

    Attributes:
        value: as ``json.loads`` returns it.
        has_duplicates: an object has a key twice. The value holds the last one, the text both.
        end: where the value ends in the text.
        is_whole: False if the text holds only the beginning of the value.
    """

    value: Any
    has_duplicates: bool
    end: int
    is_whole: bool = True


class _Reader:
    def __init__(self) -> None:
        self._has_duplicates = False
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            self._has_duplicates = True
        return found

    def read(self, text: str, start: int) -> Parsed | None:
        """The object or list that begins at ``start``; None if there is none."""
        self._has_duplicates = False
        try:
            value, end = self._decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        return Parsed(value, self._has_duplicates, end) if isinstance(value, (dict, list)) else None


def parse_json(text: str) -> Parsed | None:
    """The object or list that the whole text represents; None if it is something else."""
    start = len(text) - len(text.lstrip())
    parsed = _Reader().read(text, start) if text[start : start + 1] in ("{", "[") else None
    return parsed if parsed is not None and not text[parsed.end :].strip() else None


def complete_json(text: str, mark: str, may_go_on: Callable[[int], bool]) -> Parsed | None:
    """The part of a JSON value that an incomplete text holds; None if it can't be parsed.

    Args:
        mark: appended to each list and object that the text cuts off.
        may_go_on: called with a number of steps; False ends the search.
    """
    closers: list[str] = []
    end, last = 0, ""
    for count, found in enumerate(_JSON_TOKEN.finditer(text), 1):
        if count % _CHECKED_EVERY == 0 and not may_go_on(_CHECKED_EVERY // 4):
            return None
        last = found[0]
        if last in ("{", "["):
            closers.append("}" if last == "{" else "]")
            end = found.end()
        elif last in ("}", "]"):
            if not closers or closers.pop() != last:
                return None
            end = found.end()
        elif last == ",":
            end = found.start()
    closing = "".join(reversed(closers))
    parsed = None
    if last[:1] == '"':
        # The cut is in a string or after it. If the string is a key, closing it makes no valid JSON.
        whole = _CUT_ESCAPE.sub("", text)
        before_escape = whole.rpartition("\\")[0]
        for ending in (f'{whole}"', text, f'{before_escape}"'):
            parsed = parsed or parse_json(ending + closing)
    if parsed is None and _JSON_PART.match(text, end):
        parsed = parse_json(text[:end] + closing)
    if parsed is None:
        return None
    _mark(parsed.value, len(closers), mark)
    return parsed._replace(end=len(text), is_whole=False)


def _mark(value: Any, depth: int, mark: str) -> None:
    """Marks a value, its last element, and so on, as cut."""
    for _ in range(depth):
        last = None
        if isinstance(value, dict):
            last = next(reversed(value.values()), None)
            value[mark] = True
        elif isinstance(value, list):
            last = value[-1] if value else None
            value.append(mark)
        value = last


def find_json(text: str, mark: str, may_go_on: Callable[[int], bool]) -> Iterator[tuple[int, Parsed]]:
    """Finds objects and lists within a text. Yields where each begins, and its value; the last one may be incomplete.

    Args:
        mark, may_go_on: as for :func:`complete_json`.
    """
    position = failures = 0
    reader = None
    while failures < _MOST_FAILURES and (start := _JSON_START.search(text, position)) is not None:
        reader = reader or _Reader()
        begin = start.start()
        parsed = reader.read(text, begin)
        if parsed is not None:
            yield begin, parsed
            position = parsed.end
            continue
        parsed = complete_json(text[begin:], mark, may_go_on)
        if parsed is not None:
            yield begin, parsed._replace(end=len(text))
            return
        failures += 1
        position = begin + 1


def decode_base64(encoded: str, room: int, *, is_cut: bool = False) -> str | bytes | None:
    """The content of base64: a string if it is UTF-8, else bytes; None if the text is not base64.

    Args:
        encoded: may have line breaks, as in MIME, lack padding, or use the URL alphabet.
        room: the most bytes that are decompressed.
        is_cut: the text is the beginning of a longer one.
    """
    encoded = "".join(encoded.split()).translate(_URL_ALPHABET)
    encoded = encoded[: len(encoded) // 4 * 4] if is_cut else encoded.rstrip("=")
    if _NOT_BASE64.search(encoded) or len(encoded) % 4 == 1:
        return None
    decoded = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4))
    if decoded.startswith(_GZIP):
        return _decompressed(decoded, room)
    return _text(decoded, is_cut=is_cut)


def _decompressed(compressed: bytes, room: int) -> str | bytes:
    import zlib

    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(compressed, max(room, 1))
    except zlib.error:
        return compressed
    found = _text(plain, is_cut=not reader.eof)
    return found if isinstance(found, str) else compressed


def _text(decoded: bytes, *, is_cut: bool) -> str | bytes:
    try:
        return decoded.decode()
    except UnicodeDecodeError as error:
        if not is_cut or error.start < len(decoded) - 3:
            return decoded
        return decoded[: error.start].decode()
