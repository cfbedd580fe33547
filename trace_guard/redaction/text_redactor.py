"""Removes secrets from captured text in linear time.

A secret is found in one of two ways:

- by its key: ``password=x``, ``"password": "x"``, ``Authorization: Bearer x``, ``('Cookie', 'x')``, ``token 'x'``, also
  with escaped quotes, as in JSON within JSON, and percent-encoded;
- by its shape: ``Bearer`` with a token, JSON web tokens, keys with a known prefix, private keys in PEM, and the
password
  in a URL, or its user if the URL is of HTTP.

Other secrets are not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from urllib.parse import unquote, unquote_plus

from .compile_later import compile_later
from .elements import redact_elements
from .named_values import end_of_brackets
from .secret_keys import ALSO_NAMING, BUILT_IN, HOLDING, NAMING, SecretKeys, words_of
from .shapes import REDACTED, redact_keys

__all__ = ["TextRedactor"]

# Separates a key from its value. After a word a quote is enough: "invalid token 'abc'".
_SEPARATOR = compile_later(r"[=:,]|(?<=[\w\"'`])[ ](?=[\"'`])")
_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.[]$%"
_LONGEST_KEY = 96
_SPACE_BEFORE_KEY = "\\nrt \t\r\n"  # also escaped, as in JSON within JSON
_MOST_SPACE = 128
_QUOTE = compile_later(r"""(\\{0,32})(["'`])""")
_MOST_BACKSLASHES = 64
_SPACE = compile_later(r"""(?:\s|\\{1,8}[nrt]|\+(?=[+"'\\\[{])){0,128}""")
_SCHEME = compile_later(r"(?:Bearer|Basic|Digest|Negotiate|Token|ApiKey|Key|AWS4-HMAC-SHA256)[ ]{1,4}", re.IGNORECASE)
_BARE_VALUE = compile_later(r"""(?:[^\s&,;"'`<>)\]}\\]+|\\+(?!["'\\]|u0026))+""")
_LINE = compile_later(r"[^\r\n]*")
# The text before the value in {"name": "Authorization", "value": "..."}
_NAMED = compile_later(
    rf"""(?<![A-Za-z])(?:{'|'.join(sorted(NAMING | ALSO_NAMING))})
    [\\"']{{0,8}}\s{{0,4}}[:=][\s+]{{0,8}}[\\"']{{0,8}}([\w.\-\[\]%]{{1,96}})
    [\\"']{{0,8}}\s{{0,4}}[,;\s][\s+]{{0,96}}[\\"']{{0,8}}\Z""",
    re.IGNORECASE | re.VERBOSE,
)
_LONGEST_NAMED = 256
_DECODINGS = 5
_ENCODED = compile_later(r"%[0-9A-Fa-f]{2}")
_HEADERS = frozenset(("authorization", "cookie", "cookies", "set cookie", "proxy authorization"))
# may_go_on is called once per this many keys.
_CHECKED_EVERY = 64

_USER = r"[^\s/?#\"'<>@\\]"
# Every pattern starts at a word boundary and has bounded parts, so no text is read twice.
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("earer ", "asic ", "EARER ", "ASIC "), compile_later(
        r"(?P<kept>\b(?:Bearer|Basic)[ ]{1,4})(?=[A-Za-z._~+/-]{0,256}[\d=])[\w.~+/=-]{4,}", re.IGNORECASE)),
    (("ttp://", "ttps://", "TTP://", "TTPS://"), compile_later(
        rf"(?P<kept>\bhttps?://){_USER}{{1,512}}(?:@{_USER}{{1,512}}){{0,4}}(?=@)", re.IGNORECASE)),
    (("://",), compile_later(
        rf"(?P<kept>\b[A-Za-z][A-Za-z0-9+.-]{{0,30}}://[^\s/?#\"'<>@\\:]{{0,256}}:)"
        rf"{_USER}{{1,512}}(?:@{_USER}{{1,512}}){{0,4}}(?=@)")),
)


class TextRedactor:
    """Redacts values of secret keys and secrets of known shape.

    Args:
        keys: the keys that name secrets.
        query_keys: lower-case keys that name a secret only as parameters of a URL.
    """

    def __init__(self, keys: SecretKeys = BUILT_IN, query_keys: Collection[str] = ()) -> None:
        self._keys = keys
        self._query_keys = frozenset(query_keys)
        self._signs = compile_later("|".join([keys.signs.pattern, *map(re.escape, self._query_keys)]))

    def redact(
        self, text: str, may_go_on: Callable[[int], bool] = lambda steps: True, decodings: int = _DECODINGS
    ) -> str | None:
        """The text without secrets.

        Args:
            may_go_on: called after every 64 keys; if it returns False, the result is None.
            decodings: how often percent-encoding may be undone.
        """
        if "<" in text:
            if not may_go_on(text.count("<") // 4):
                return None
            text = redact_elements(text, self._keys.matches)
        found = self._by_key(text, may_go_on)
        if found is None:
            return None
        found = self.redact_shapes(found)
        if decodings > 0 and _ENCODED.search(found):
            if not may_go_on(found.count("%") // 4):
                return None
            # Decoding reveals text that is encoded as a whole, such as JSON in a form.
            decoded = unquote_plus(found) if " " not in found else unquote(found)
            if decoded != found and (clean := self.redact(decoded, may_go_on, decodings - 1)) != decoded:
                return clean
        return found

    def redact_shapes(self, text: str) -> str:
        """The text without secrets of known shape."""
        text = redact_keys(text)
        for signs, pattern in _SHAPES:
            if any(sign in text for sign in signs):
                text = pattern.sub(rf"\g<kept>{REDACTED}", text)
        return text

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
        """The separators that may stand between a secret key and its value."""
        lower = text.lower()
        if len(lower) != len(text):
            lower = text.replace("\u0130", "i").lower()  # the only letter whose lower case is longer
        done = 0
        for sign in self._signs.finditer(lower):
            for separator in _SEPARATOR.finditer(text, max(done, sign.end()), sign.end() + _LONGEST_KEY):
                yield separator.span()
            done = max(done, sign.end() + _LONGEST_KEY)

    def _key_before(self, text: str, end: int, floor: int) -> tuple[str, int]:
        """The key before a separator, and where it begins."""
        before = text[max(floor, end - _LONGEST_KEY) : end].rstrip(" \t")
        end = max(floor, end - _LONGEST_KEY) + len(before)
        if before.endswith(('"', "'", "`")):
            end -= len(before) - len(before[:-1].rstrip("\\"))
        before = text[max(floor, end - _LONGEST_KEY) : end]
        key = before[len(before.rstrip(_KEY_CHARACTERS)) :]
        if key.startswith("u0026") and text[end - len(key) - 1 : end - len(key)] == "\\":
            key = key[5:]  # .NET writes & in JSON as a backslash and u0026
        return key, end - len(key)

    def _is_secret(self, text: str, key: str, begin: int, separator: str) -> bool:
        if separator == ",":
            # A comma separates only a pair: ["Authorization", "x"]
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
        # The words before a separator in a sentence: "API key provided: x"
        before = text[max(0, begin - 40) : begin]
        before = before[len(before.rstrip(_KEY_CHARACTERS + " ")) :]
        return self._keys.ends_in_name(words_of(f"{before}{key}"))

    def _value_after(self, text: str, key: str, start: int, *, is_quoted: bool) -> tuple[int, int]:
        """Where the value of a key begins and ends, including its quotes."""
        if text[start : start + 1] == ">":
            start += 1  # the rest of =>
        start = _end(_SPACE, text, start)
        quote = _QUOTE.match(text, start)
        if quote is not None:
            return start, _end_of_string(text, quote)
        if text[start : start + 1] in ("{", "[", "("):
            if text.startswith(REDACTED, start):
                return start, start
            return start, end_of_brackets(text, start)
        if not is_quoted and " ".join(words_of(key)) in _HEADERS and text[:start].rstrip(" ").endswith(":"):
            return start, _end(_LINE, text, start)
        return start, _end(_BARE_VALUE, text, _end(_SCHEME, text, start))


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found is not None else start


def _end_of_string(text: str, quote: re.Match[str]) -> int:
    """Where the string ends: at a quote with as many backslashes as the first one, or at the end of the text."""
    escape, mark = quote[1], quote[2]
    at = text.find(mark, quote.end())
    while at >= 0:
        before = text[max(quote.end(), at - _MOST_BACKSLASHES) : at]
        slashes = len(before) - len(before.rstrip("\\"))
        if slashes == len(escape) or (not escape and slashes % 2 == 0):
            return at + 1
        at = text.find(mark, at + 1)
    return len(text)
