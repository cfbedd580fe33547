"""Removes the content of XML elements with a secret name: ``<wsse:Password Type='x'>...</wsse:Password>``."""

from __future__ import annotations

from collections.abc import Callable

from .compile_later import compile_later
from .shapes import REDACTED

__all__ = ["redact_elements"]

# The parts are bounded, so the time is linear in the length of the text.
_START_TAG = compile_later(r"<(?:[\w.-]{1,64}:)?(?P<name>[\w.-]{1,96})(?:\s[^<>]{0,256})?(?<!/)>")
_CDATA = "<![CDATA["
_LINE_BREAK = compile_later(r"[\r\n]|\Z")


def redact_elements(text: str, is_secret: Callable[[str], bool]) -> str:
    """The text without the content of elements that have a secret name, up to the next end tag. If there is none, as
    in a text that was cut, the rest of the line is removed.

    Args:
        is_secret: called with the name of each element, without its prefix.
    """
    kept: list[str] = []
    done = position = 0
    has_end_tags = True
    while (found := _START_TAG.search(text, position)) is not None:
        start = position = found.end()
        if not is_secret(found["name"]):
            continue
        begin = start
        if text.startswith(_CDATA, start):
            begin = text.find("]]>", start)
            begin = begin if begin >= 0 else len(text)
        end = text.find("</", begin) if has_end_tags else -1
        if end < 0:
            has_end_tags = False
            line_break = _LINE_BREAK.search(text, begin)
            end = line_break.start() if line_break is not None else len(text)
        if end > start:
            kept += (text[done:start], REDACTED)
            done = position = end
    return "".join((*kept, text[done:])) if done else text
