"""Copies captured strings without secrets: reads the JSON, forms, queries and base64 in them, and cleans the values
that they hold."""

from __future__ import annotations

import json
from typing import Any, Protocol
from urllib.parse import quote_plus, unquote_plus

from .compile_later import compile_later
from .encoded_text import Parsed, complete_json, decode_base64, find_json, parse_json
from .secret_keys import Redactor
from .shapes import REDACTED
from .text_redactor import TextRedactor

__all__ = ["CUT", "DEPTH", "CapturedText", "Copying", "beginning", "size_of"]

CUT = "[cut by trace-guard]"
DEPTH = 40
"""The deepest nesting of values, and of texts within texts, that is copied."""

# Longer texts are cut before their JSON is parsed.
_PARSED_WHOLE = 131072
_SHORTEST_BASE64 = 16
_BASE64_START = compile_later(r"[A-Za-z0-9+/_-]{14,64}(?:[=\r\n]|\Z)|[A-Za-z0-9+/_-]{64}")
_ENCODED = compile_later(r"%|[A-Za-z0-9+/_-]{16}")
_CUT_PERCENT = compile_later(r"%[0-9A-Fa-f]?\Z")
_FORM_START = compile_later(r"[^\s=&\"'{<]{1,256}=")
_PART_NAME = compile_later(r"""\bname=(?:"([^"\r\n]{1,256})"|([^\s;"]{1,256}))""")
_END_OF_HEADERS = compile_later(r"\r?\n\r?\n")


class Copying(Protocol):
    """The copy that a string becomes part of.

    Attributes:
        room: the remaining bytes.
        in_text: redacts plain text.
        functions: the user's functions, called with each key and value.
    """

    room: int
    in_text: TextRedactor
    functions: tuple[Redactor, ...]

    def may_go_on(self, steps: int = 1) -> bool:
        """False as soon as the budget of bytes or time is used up."""

    def is_secret(self, key: str, /) -> bool:
        """True for a key that names a secret."""

    def of(self, value: object, depth: int) -> Any:
        """The copy of a value."""

    def value(self, key: str, is_secret: bool, item: object, depth: int) -> Any:
        """The copy of a value that has a key."""


class CapturedText:
    """Cleans the strings of one copy.

    Attributes:
        has_decoded: the last string was base64 and is kept decoded.
    """

    def __init__(self, copy: Copying) -> None:
        self._copy = copy
        self.has_decoded = False

    def clean(self, text: str, depth: int) -> str:
        """The text without secrets, cut to the remaining room."""
        if len(text) < _SHORTEST_BASE64 and text.isalnum() and self._copy.may_go_on():
            return text
        if depth > DEPTH or not self._copy.may_go_on(1 + min(len(text), self._copy.room) // 64):
            return CUT
        kept = beginning(text, self._copy.room)
        is_cut = len(kept) < len(text)
        if kept.lstrip()[:1] in ("{", "["):
            clean = self._json(text, kept, depth)
            if clean is not None:
                return clean
            if not self._copy.may_go_on():
                return CUT
        clean = self._decoded(kept, depth, is_cut=is_cut)
        if clean is None:
            clean = self._in_parts(kept, depth)
        if clean is None:
            clean = self._form(kept, depth) if _FORM_START.match(kept) else self._with_json_within(kept, depth)
            clean = self._copy.in_text.redact(clean, self._copy.may_go_on)
        if clean is None:  # no time was left to search it
            return CUT
        return f"{clean} {CUT}" if is_cut else clean

    def _json(self, text: str, kept: str, depth: int) -> str | None:
        if len(text) <= _PARSED_WHOLE:
            parsed = parse_json(text)
            if parsed is not None:
                return self._dumped(parsed, text, depth)
        parsed = complete_json(kept[:_PARSED_WHOLE], CUT, self._copy.may_go_on)
        if parsed is None:
            return None
        if len(kept) < len(text):
            return json.dumps(self._parsed(parsed.value, depth))
        clean = self._dumped(parsed, text, depth)
        return clean if clean is not text else None

    def _dumped(self, parsed: Parsed, text: str, depth: int) -> str:
        """The value as JSON without secrets; the original text if the value has no secrets."""
        clean = self._parsed(parsed.value, depth)
        if clean == parsed.value and not parsed.has_duplicates:
            return text
        dumped = json.dumps(clean)
        if parsed.is_whole:
            return dumped
        # Keep incomplete JSON as it is unless parsing found more secrets than the text search.
        redacted = self._copy.in_text.redact(text, self._copy.may_go_on)
        return dumped if redacted is None or redacted.count(REDACTED) < dumped.count(REDACTED) else text

    def _parsed(self, value: Any, depth: int) -> Any:
        """The copy of a value that was parsed from text. Only the text counts against the room."""
        room = self._copy.room
        clean = self._copy.of(value, depth + 1)
        self._copy.room = room if self._copy.room > 0 else 0
        return clean

    def _decoded(self, kept: str, depth: int, *, is_cut: bool) -> str | None:
        """The decoded content of base64 if it has a secret; None otherwise."""
        if len(kept) < _SHORTEST_BASE64 or not _BASE64_START.match(kept):
            return None
        is_cut = is_cut or len(kept.rstrip("=\r\n")) % 4 == 1
        plain = decode_base64(kept, self._copy.room, is_cut=is_cut)
        if not isinstance(plain, str) or not plain or "\0" in plain:
            return None
        clean = self.clean(plain, depth + 1)
        if clean == plain:
            return None
        self.has_decoded = True
        return clean

    def _form(self, text: str, depth: int) -> str:
        """A form or query without secrets, including JSON and base64 in its values."""
        if any(space in text for space in (" ", "\n", "\t")):
            return text
        fields: list[str] = []
        for field in text.split("&"):
            if not self._copy.may_go_on():
                return "&".join([*fields, CUT])
            if not self._copy.functions and not _ENCODED.search(field):
                fields.append(field)
                continue
            name, equals, value = field.partition("=")
            plain = unquote_plus(_CUT_PERCENT.sub("", value))
            clean = self._copy.value(unquote_plus(name), self._copy.is_secret(name), plain, depth + 1)
            if not equals or clean == plain:
                fields.append(field)
            else:
                text_of_value = clean if isinstance(clean, str) else json.dumps(clean)
                encoded = text_of_value if text_of_value == REDACTED else quote_plus(text_of_value, safe="[]")
                fields.append(f"{name}={encoded}")
        return "&".join(fields)

    def _in_parts(self, text: str, depth: int) -> str | None:
        """A ``multipart/form-data`` body without secrets; None if the text is not one."""
        if text[:2] != "--" or "form-data" not in text:
            return None
        boundary = text[: text.find("\n")].rstrip("\r") if "\n" in text else text
        parts: list[str] = []
        for part in text.split(boundary):
            headers = _END_OF_HEADERS.search(part)
            if headers is None:
                parts.append(part)
                continue
            if not self._copy.may_go_on():
                return boundary.join([*parts, CUT])
            part_name = _PART_NAME.search(part, 0, headers.start())
            name = (part_name[1] or part_name[2]) if part_name is not None else ""
            content = part[headers.end() :]
            body = content.rstrip("\r\n")
            clean = self._copy.value(name, self._copy.is_secret(name), body, depth + 1)
            text_of_value = clean if isinstance(clean, str) else json.dumps(clean)
            parts.append(f"{part[: headers.end()]}{text_of_value}{content[len(body) :]}")
        return boundary.join(parts)

    def _with_json_within(self, text: str, depth: int) -> str:
        """A text that contains JSON, such as a log line, without secrets in the JSON."""
        kept: list[str] = []
        done = 0
        for start, parsed in find_json(text, CUT, self._copy.may_go_on):
            if not self._copy.may_go_on():
                return f"{text[:done]} {CUT}" if not kept else f"{''.join(kept)} {CUT}"
            kept += text[done:start], self._dumped(parsed, text[start : parsed.end], depth)
            done = parsed.end
        return "".join([*kept, text[done:]])


def size_of(text: str) -> int:
    """The number of bytes of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def beginning(text: str, size: int) -> str:
    """The longest prefix of the text that fits into ``size`` bytes."""
    kept = text[:size]
    if kept.isascii():
        return kept
    encoded = kept.encode("utf-8", "surrogatepass")
    if len(encoded) <= size:
        return kept
    end = size
    while end > 0 and encoded[end] & 0xC0 == 0x80:  # in the middle of a character
        end -= 1
    return encoded[:end].decode("utf-8", "surrogatepass")
