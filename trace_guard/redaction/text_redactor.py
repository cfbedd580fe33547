"""Replaces secrets within text, in time that grows with its length and not faster.

A secret in a text is found in one of two ways:

- by its key: ``password=x``, ``"password": "x"``, ``Authorization: Bearer x``, ``('Cookie', 'x')``, ``token 'x'``, also
  with escaped quotes, as in JSON within JSON, and percent-encoded;
- by its shape: ``Bearer`` with a token, JSON web tokens, keys with the prefix of a known provider, private keys in PEM,
  and the password of a URL, or its user where tokens stand.

A text with a secret that is neither named nor known by its shape is returned as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from urllib.parse import unquote, unquote_plus

from .secret_keys import BUILT_IN, SecretKeys, words_of

__all__ = ["HOLDING", "NAMING", "REDACTED", "TextRedactor", "redact_text"]

REDACTED = "[redacted]"

NAMING = frozenset((
    "name", "key", "header", "field", "k", "parameterkey", "parametername", "attributename", "headername",
))
"""Keys of objects that name what the object holds: ``{"name": "Authorization", "value": "..."}``."""
HOLDING = frozenset((
    "value", "values", "val", "v", "parametervalue", "attributevalue", "headervalue", "stringvalue",
))
"""Keys with what such an object holds."""

# What stands between a key and its value. A quote alone does after a word: "invalid token 'abc'".
_SEPARATOR = re.compile(r"[=:,]|(?<=[\w\"'`])[ ](?=[\"'`])")
_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.[]$%"
_LONGEST_KEY = 96
_SPACE_BEFORE_KEY = "\\nrt \t\r\n"  # also escaped, as in JSON within JSON
_MOST_SPACE = 128
_QUOTE = re.compile(r"""(\\{0,32})(["'`])""")
_MOST_BACKSLASHES = 64
_SPACE = re.compile(r"""(?:\s|\\{1,8}[nrt]|\+(?=[+"'\\\[{])){0,128}""")
_SCHEME = re.compile(r"(?:Bearer|Basic|Digest|Negotiate|Token|ApiKey|Key|AWS4-HMAC-SHA256)[ ]{1,4}", re.IGNORECASE)
_BARE_VALUE = re.compile(r"""(?:[^\s&,;"'`<>)\]}\\]+|\\+(?!["'\\]|u0026))+""")
_LINE = re.compile(r"[^\r\n]*")
_BRACKETS = re.compile(r"""[\[{(\])}"']|\\.""", re.DOTALL)
# What stands before the value in {"name": "Authorization", "value": "..."}
_NAMED = re.compile(
    rf"""(?<![A-Za-z])(?:{'|'.join(sorted(NAMING))})[\\"']{{0,8}}\s{{0,4}}[:=][\s+]{{0,8}}[\\"']{{0,8}}([\w.\-\[\]%]{{1,96}})
    [\\"']{{0,8}}\s{{0,4}}[,;\s][\s+]{{0,96}}[\\"']{{0,8}}\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_LONGEST_NAMED = 256
_DECODINGS = 5
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_HEADERS = frozenset(("authorization", "cookie", "cookies", "set cookie", "proxy authorization"))
# One in so many separators the caller may stop the search.
_CHECKED_EVERY = 64

_USER = r"[^\s/?#\"'<>@\\]"
# Each pattern begins at a word's beginning and has bounded parts, so that no text is read twice.
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("earer ", "asic ", "EARER ", "ASIC "), re.compile(
        r"(?P<kept>\b(?:Bearer|Basic)[ ]{1,4})(?=[A-Za-z._~+/-]{0,256}[\d=])[\w.~+/=-]{4,}", re.IGNORECASE)),
    (("eyJ",), re.compile(r"(?P<kept>)(?<![\w-])eyJ[\w-]{6,}\.[\w-]{4,}\.[\w-]*")),
    (("-----BEGIN",), re.compile(
        r"(?P<kept>-----BEGIN[A-Z ]{0,32}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----)[A-Za-z0-9+/=\s\\]{16,}")),
    (("sk-", "k_live_", "k_test_", "ghp_", "gho_", "ghs_", "ghr_", "ghu_", "github_pat_", "glpat-", "AKIA",
      "ASIA", "xox", "AIza", "hf_", "npm_", "pypi-"), re.compile(
        r"""(?P<kept>)(?<![\w-])(?:sk-[\w-]{8,}|[rs]k_(?:live|test)_\w{8,}|gh[opsur]_\w{16,}|github_pat_\w{16,}
        |glpat-[\w-]{16,}|(?:AKIA|ASIA)[A-Z\d]{12,}|xox[abeoprs]-[\w-]{8,}|AIza[\w-]{20,}|hf_\w{16,}|npm_\w{16,}
        |pypi-[\w-]{16,})""", re.VERBOSE)),
    (("ttp://", "ttps://", "TTP://", "TTPS://"), re.compile(
        rf"(?P<kept>\bhttps?://){_USER}{{1,512}}(?:@{_USER}{{1,512}}){{0,4}}(?=@)", re.IGNORECASE)),
    (("://",), re.compile(
        rf"(?P<kept>\b[A-Za-z][A-Za-z0-9+.-]{{0,30}}://[^\s/?#\"'<>@\\:]{{0,256}}:)"
        rf"{_USER}{{1,512}}(?:@{_USER}{{1,512}}){{0,4}}(?=@)")),
)

_SIGNS_OF_SHAPES = re.compile("|".join(re.escape(sign) for signs, _ in _SHAPES for sign in signs))


class TextRedactor:
    """Replaces what keys name, and what is known by its shape.

    Args:
        keys: the keys that name secrets.
        query_keys: keys that name a secret only as parameters of a URL, in small letters.
    """

    def __init__(self, keys: SecretKeys = BUILT_IN, query_keys: Collection[str] = ()) -> None:
        self._keys = keys
        self._query_keys = frozenset(query_keys)
        self._signs = re.compile("|".join([keys.signs.pattern, *map(re.escape, self._query_keys)]))

    def redact(
        self, text: str, may_go_on: Callable[[int], bool] = lambda steps: True, decodings: int = _DECODINGS
    ) -> str | None:
        """The text without its secrets.

        Args:
            may_go_on: asked after every 64 keys; None is returned as soon as it says no.
            decodings: how often percent-encoding is undone.
        """
        found = self._by_key(text, may_go_on)
        if found is None:
            return None
        if _SIGNS_OF_SHAPES.search(found):
            for signs, pattern in _SHAPES:
                if any(sign in found for sign in signs):
                    found = pattern.sub(rf"\g<kept>{REDACTED}", found)
        if decodings > 0 and _ENCODED.search(found):
            if not may_go_on(found.count("%") // 4):
                return None
            # What is encoded as a whole, such as JSON in a form, is seen when it is decoded.
            decoded = unquote_plus(found) if " " not in found else unquote(found)
            if decoded != found and (clean := self.redact(decoded, may_go_on, decodings - 1)) != decoded:
                return clean
        return found

    def _by_key(self, text: str, may_go_on: Callable[[int], bool]) -> str | None:
        kept: list[str] = []
        done = count = 0
        for start, end in self._separators(text):
            if start < done:
                continue
            count += 1
            if count % _CHECKED_EVERY == 0 and not may_go_on(_CHECKED_EVERY):
                return None
            key, begin = self._key_before(text, start, done)
            if not key or not self._is_secret(text, key, begin, text[start:end]):
                continue
            opening, closing = self._value_after(text, key, end, is_quoted=text[start - 1] in "\"'`")
            if closing > opening:
                kept.append(text[done:opening])
                kept.append(REDACTED)
                done = closing
        kept.append(text[done:])
        return "".join(kept)

    def _separators(self, text: str) -> Iterator[tuple[int, int]]:
        """What may stand between a key and its value: separators shortly after what may be a key."""
        lower = text.lower()
        if len(lower) != len(text):
            lower = text.replace("\u0130", "i").lower()  # the one letter with a longer small form
        done = 0
        for sign in self._signs.finditer(lower):
            for separator in _SEPARATOR.finditer(text, max(done, sign.end()), sign.end() + _LONGEST_KEY):
                yield separator.span()
            done = max(done, sign.end() + _LONGEST_KEY)

    def _key_before(self, text: str, end: int, floor: int) -> tuple[str, int]:
        """The key that ends before a separator, and where it begins."""
        before = text[max(floor, end - _LONGEST_KEY) : end].rstrip(" \t")
        end = max(floor, end - _LONGEST_KEY) + len(before)
        if before.endswith(('"', "'", "`")):
            end -= len(before) - len(before[:-1].rstrip("\\"))
        before = text[max(floor, end - _LONGEST_KEY) : end]
        key = before[len(before.rstrip(_KEY_CHARACTERS)) :]
        if key.startswith("u0026") and text[end - len(key) - 1 : end - len(key)] == "\\":
            key = key[5:]  # JSON of .NET writes & as a backslash and u0026
        return key, end - len(key)

    def _is_secret(self, text: str, key: str, begin: int, separator: str) -> bool:
        if separator == ",":
            # Only of a pair: ["Authorization", "x"]
            quote = text[begin - 1 : begin]
            before = text[max(0, begin - _MOST_SPACE) : max(0, begin - 1)].rstrip(_SPACE_BEFORE_KEY)
            if quote not in ('"', "'") or not before.endswith(("[", "(")):
                return False
        if self._keys.matches(key):
            return True
        if key.lower() in HOLDING:
            named = _NAMED.search(text, max(0, begin - _LONGEST_NAMED), begin)
            return named is not None and self._keys.matches(named[1])
        if key.lower() in self._query_keys:
            return text[begin - 1 : begin] in ("?", "&", ";") or text[max(0, begin - 5) : begin] == "u0026"
        if text[begin - 1 : begin] != " " or separator == ",":
            return False
        # Words of a sentence: "API key provided: x"
        before = text[max(0, begin - 40) : begin]
        before = before[len(before.rstrip(_KEY_CHARACTERS + " ")) :]
        return self._keys.ends_in_name(words_of(f"{before}{key}"))

    def _value_after(self, text: str, key: str, start: int, *, is_quoted: bool) -> tuple[int, int]:
        """Where the value of a key begins and ends; with its quotes."""
        if text[start : start + 1] == ">":
            start += 1  # of =>
        start = _end(_SPACE, text, start)
        quote = _QUOTE.match(text, start)
        if quote is not None:
            return start, _end_of_string(text, quote)
        if text[start : start + 1] in ("{", "[", "("):
            if text.startswith(REDACTED, start):
                return start, start
            return start, _end_of_brackets(text, start)
        if not is_quoted and " ".join(words_of(key)) in _HEADERS and text[:start].rstrip(" ").endswith(":"):
            return start, _end(_LINE, text, start)
        return start, _end(_BARE_VALUE, text, _end(_SCHEME, text, start))


def redact_text(text: str) -> str:
    """A text without the secrets that the built-in list of keys names, or that are known by their shape.

    For messages of errors and for log lines. Cut a long text first: it takes about 1 ms for 16 KB.
    """
    return _BUILT_IN.redact(text) or ""


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found is not None else start


def _end_of_string(text: str, quote: re.Match[str]) -> int:
    """The end of a string: a quote with as many backslashes before it as the first one has, or the text's end."""
    escape, mark = quote[1], quote[2]
    at = text.find(mark, quote.end())
    while at >= 0:
        before = text[max(quote.end(), at - _MOST_BACKSLASHES) : at]
        slashes = len(before) - len(before.rstrip("\\"))
        if slashes == len(escape) or (not escape and slashes % 2 == 0):
            return at + 1
        at = text.find(mark, at + 1)
    return len(text)


def _end_of_brackets(text: str, start: int) -> int:
    """The end of a list or an object, or the text's end."""
    depth, string = 0, ""
    for found in _BRACKETS.finditer(text, start):
        mark = found[0]
        if string:
            string = "" if mark == string else string
        elif mark in "\"'":
            string = mark
        elif mark in "[{(":
            depth += 1
        elif mark in ")]}":
            depth -= 1
            if depth == 0:
                return found.end()
    return len(text)


_BUILT_IN = TextRedactor()
