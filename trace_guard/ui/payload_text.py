"""Formats what a span holds as text that is safe to show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Attachment", "Payload", "attachments_of", "payload", "readable"]

_FOLDED_OVER = 2_000
_CUT_OVER = 100_000
_MOST_ATTACHMENTS = 50
# Control characters become the pictures that Unicode has for them, so that they can be seen and move nothing.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
# The direction marks could reorder the text around them.
_HIDDEN = dict.fromkeys((0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
_READABLE = {**_PICTURES, **_HIDDEN}


class Payload(NamedTuple):
    """A field of a span.

    Attributes:
        text: its text, cut if it is very long.
        characters: how many there are.
        is_long: show it folded.
        is_cut: some of it is missing.
    """

    text: str
    characters: int
    is_long: bool
    is_cut: bool


class Attachment(NamedTuple):
    """An attachment that a payload refers to."""

    key: str
    name: str
    content_type: str

    @property
    def is_image(self) -> bool:
        """True if a browser can show it and it can't hold a script."""
        return self.content_type in ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif")


def readable(text: object) -> str:
    """A text without characters that can't be seen or encoded."""
    text = str(text)
    if text.isascii() and text.isprintable():  # nearly all names and ids; a page can have many thousands
        return text
    return text.translate(_READABLE).encode("utf-8", "replace").decode()


def payload(value: object) -> Payload:
    """Format a value: texts as they are, anything else as indented JSON."""
    if not isinstance(value, str):
        try:
            value = json.dumps(value, indent=2, ensure_ascii=False)
        except (RecursionError, TypeError, ValueError) as error:
            value = f"(can't be shown: {error})"
    cut = value[:_CUT_OVER]
    return Payload(readable(cut), len(value), len(value) > _FOLDED_OVER, len(value) > _CUT_OVER)


def attachments_of(row: Mapping[str, Any]) -> list[Attachment]:
    """The attachments that the row refers to, at any depth."""
    found = {one.key: one for _, one in zip(range(_MOST_ATTACHMENTS), _references(row), strict=False)}
    return list(found.values())


def _references(row: Mapping[str, Any]) -> Iterator[Attachment]:
    waiting: list[Any] = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            if value.get("type") == "braintrust_attachment" and isinstance(value.get("key"), str):
                yield Attachment(
                    value["key"], readable(value.get("filename") or value["key"]), str(value.get("content_type"))
                )
            else:
                waiting.extend(reversed(value.values()))
