"""Removes the values of secret names from text: headers, variables, fields of JSON and forms, and pairs in lists.

The text may be escaped, percent-encoded or HTML. The time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .compile_later import compile_later
from .secret_keys import ALSO_NAMING, HOLDING, NAMING, words_of
from .shapes import REDACTED

__all__ = ["end_of_brackets", "redact_named"]

_QUOTE = r"""(?:\\{0,16}["'`]|%2[27]|&quot;|&\#3[49];)"""
_TAG = r"</?[A-Za-z]\w{0,11}>"
# Matches only at the start of a run of letters, so that each run is read once.
_NAMED = compile_later(
    rf"""(?<![\w.-])(?P<name>[\w.-]+)
        (?P<between>
            (?P<quote>{_QUOTE})?\]?(?:{_TAG}){{0,2}}
            (?:[ \t]{{1,8}}(?:=>?|:(?!//))[ \t]{{0,8}} | =>?(?:[ \t]{{1,8}}(?=["'`]))?
             | :(?!//)(?:{_TAG}|[ \t+]|%20){{0,8}} | %3[AaDd](?!%2[Ff])(?:%20|\+){{0,8}} | (?(quote),[ \t]{{0,8}}|(?!)))
            | {_TAG}\s{{0,8}}{_TAG}
        )""",
    re.VERBOSE,
)
_OPENING = compile_later(rf"(?P<prefix>[bBrRuU$]?)(?P<quote>{_QUOTE})")
_BRACKETS = compile_later(r"""[\[{(\])}"']|\\.""", re.DOTALL)
_IN_QUOTES = {
    '"': compile_later(r'(?:[^"\\]|\\.)*', re.DOTALL),
    "'": compile_later(r"(?:[^'\\]|\\.)*", re.DOTALL),
}
_SCHEMES = "Bearer|Basic|Digest|Negotiate|NTLM|Token|ApiKey|Key|AWS4-HMAC-SHA256"
_BARE_VALUE = compile_later(
    rf"""(?:(?:{_SCHEMES})(?:[ \t]|%20|\+){{1,4}})?(?:[^\s"'`<>&;,(){{}}\[\]\\]|\\(?![rn"']))+""", re.IGNORECASE
)
_LINE_BREAK = r"(?:\r?\n|(?:\\r)?\\n)"
# The value may be folded: it goes on in lines that begin with a space.
_HEADER_VALUE = compile_later(
    rf"""(?:(?:{_SCHEMES})[ \t]{{0,8}}{_LINE_BREAK})?
        (?:[= ]\\{{0,4}}["'][^"'\r\n]*["']? | {_LINE_BREAK}[ \t]{{1,8}} | [^\r\n"'`<>\\] | \\(?![rn"']))+""",
    re.IGNORECASE | re.VERBOSE,
)
_HEADERS = ("authorization", "cookie", "cookies")
# A secret name in the value of ``name``, as in {"name": "Authorization", "value": "..."}.
_NAME = compile_later(
    rf"""(?:{_QUOTE})?(?P<name>[\w.-]{{1,96}})(?:{_QUOTE})?(?=[ \t]{{0,4}}(?:[,;&\r\n]|\\[rn]|[ ]\w))"""
)
_NAMING = NAMING | ALSO_NAMING
_LONGEST_NAMED = 256
# Words of names of exceptions: ``ExpiredToken``, ``InvalidAccessKeyId``, ``SecretError``.
_FAULTS = frozenset((
    "bad", "denied", "error", "exception", "expired", "failed", "failure", "fault", "incomplete", "incorrect",
    "invalid", "malformed", "mismatch", "missing", "rejected", "revoked", "unknown", "unsupported", "warning",
))


def redact_named(text: str, is_secret: Callable[[str], bool]) -> str:
    """The text without the values of secret names: headers, variables, fields of JSON and forms, and pairs in lists,
    also if the text is escaped, percent-encoded or HTML.

    Args:
        is_secret: called with each name that has a value.
    """
    kept: list[str] = []
    done = position = named_until = 0
    while (found := _NAMED.search(text, position)) is not None:
        position = found.end()
        name = found["name"]
        if text[found.start() - 1 : found.start()] == "%":
            name = name[2:]  # the rest of a percent-encoded quote
        role = name.lower()
        if role in _NAMING and (value := _NAME.match(text, position)) is not None and is_secret(value["name"]):
            position = value.end()
            named_until = position + _LONGEST_NAMED
            continue
        is_named = role in HOLDING and found.start() < named_until
        if not (is_named or is_secret(name)) or text.startswith(REDACTED, position) or _is_prose(text, found):
            continue
        start, end = _value(text, found, name)
        if end > start:
            kept += (text[done:start], REDACTED)
            done = position = end
    return "".join((*kept, text[done:])) if done else text


def _value(text: str, found: re.Match[str], name: str) -> tuple[int, int]:
    """Where the value after a name begins and ends. The quotes of a value are kept if its name is quoted too, as in
    JSON."""
    start = found.end()
    if text[start : start + 1] in ("[", "(", "{"):
        return start, end_of_brackets(text, start)
    opening = _OPENING.match(text, start)
    if opening is not None:
        inside = opening.end()
        end = _closing(text, inside, opening["quote"], is_plain=False)
        if found["quote"] is not None:
            return inside, end
        end = min(len(text), end + len(opening["quote"]))
        # Shells join adjacent strings.
        while (more := _OPENING.match(text, end)) is not None:
            end = min(len(text), _closing(text, more.end(), more["quote"], is_plain=False) + len(more["quote"]))
        rest = _BARE_VALUE.match(text, end)
        return start, rest.end() if rest else end
    before = text[found.start() - 1 : found.start()]
    if before in ("'", '"', "`") and found["quote"] is None:
        is_plain = text[found.start() - 2 : found.start() - 1] != "$" and not name.lower().endswith(_HEADERS)
        return start, _closing(text, start, before, is_plain=is_plain)
    pattern = _HEADER_VALUE if name.lower().endswith(_HEADERS) else _BARE_VALUE
    value = pattern.match(text, start)
    return start, value.end() if value else start


def end_of_brackets(text: str, start: int) -> int:
    """Where the list or object that begins at ``start`` ends: the end of the text if it is not closed. Brackets
    within quotes don't count."""
    depth, string = 0, ""
    for match in _BRACKETS.finditer(text, start):
        mark = match[0]
        if string:
            string = "" if mark == string else string
        elif mark in "\"'":
            string = mark
        elif mark in "[{(":
            depth += 1
        elif mark in ")]}":
            depth -= 1
            if depth == 0:
                return match.end()
    return len(text)


def _closing(text: str, start: int, quote: str, *, is_plain: bool) -> int:
    """Where the quoted string ends: the end of the text if it is not closed."""
    if quote in _IN_QUOTES and not is_plain:
        inside = _IN_QUOTES[quote].match(text, start)
        return inside.end() if inside else start
    end = text.find(quote, start)
    while quote.startswith("\\") and end > 0 and text[end - 1] == "\\":
        end = text.find(quote, end + len(quote))  # the quote belongs to a nested string
    if end < 0:
        return len(text)
    while end > start and not quote.startswith("\\") and text[end - 1] == "\\":
        end -= 1
    return end


def _is_prose(text: str, found: re.Match[str]) -> bool:
    """True for a path or an exception and its message: ``/etc/passwd: Permission denied``, ``ExpiredToken: ...``."""
    between = found["between"].lstrip(" \t")
    if found["quote"] is not None or between[:1] != ":" or between[1:2] not in (" ", "\t"):
        return False
    if text[found.start() - 1 : found.start()] == "/":
        return True
    name = found["name"].rpartition(".")[2]
    words = words_of(name)
    return name[:1].isupper() and not _FAULTS.isdisjoint((words[0], words[-1])) if words else False
