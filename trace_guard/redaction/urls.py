"""Removes user names, passwords and tokens from URLs."""

from __future__ import annotations

import re

from .compile_later import compile_later
from .shapes import REDACTED

__all__ = ["redact_userinfo", "strip_userinfo"]

_WORD = compile_later(r"""[^\s"'`<>]+""")
_SCHEME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"
_LONGEST_SCHEME = 31
_HOST_AND_PATH = compile_later(r"[^:/?#@]*(:\d*)?[/?#]")
# Schemes whose user names are not secret.
_NAMED_USERS = ("ssh", "sftp", "ftp", "rsync")
_ENCODED_URL = compile_later(r"%3A%2F%2F", re.IGNORECASE)


def redact_userinfo(text: str) -> str:
    """The text without passwords and tokens before the host of a URL, or before a host without a scheme. A password
    may contain ``:/@``; it ends at the last ``@`` of the word."""
    if "@" not in text and "%40" not in text:
        return text
    return _WORD.sub(lambda found: _redact_word(found[0]), text)


def _redact_word(word: str) -> str:
    last = word.rfind("@")
    if last >= 0:
        word = _redact_url(word, last)
    encoded = _ENCODED_URL.search(word)
    if encoded is not None:
        last = word.rfind("%40")
        if last > encoded.end() and "%2f" not in word[encoded.end() : last].lower():
            word = word[: encoded.end()] + REDACTED + word[last:]
    return word


def _redact_url(word: str, last: int) -> str:
    at = word.find("://")
    if at < 0 or at > last:
        user, colon, password = word[:last].partition(":")
        is_digest = word.startswith("sha256:", last + 1)  # the digest of a container image
        return f"{user}:{REDACTED}{word[last:]}" if user and colon and password and not is_digest else word
    while 0 <= at < last:
        start = at + 3
        host = _HOST_AND_PATH.match(word, start, last)
        if host is None:
            return _redact_user(word, at, start, last)
        at = word.find("://", host.end())
    return word


def _redact_user(word: str, at: int, start: int, last: int) -> str:
    before = word[max(0, at - _LONGEST_SCHEME) : at]
    scheme = before[len(before.rstrip(_SCHEME_LETTERS)) :].lower()
    name, colon, _ = word[start:last].partition(":")
    if scheme.endswith(("http", "https")) or not (colon or scheme.endswith(_NAMED_USERS)):
        return word[:start] + REDACTED + word[last:]  # tokens are often given as the user name
    return f"{word[:start]}{name}:{REDACTED}{word[last:]}" if colon else word


def strip_userinfo(url: str) -> str:
    """The URL without user and password; unchanged if it has none."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    end = next((index for index, letter in enumerate(rest) if letter in "/?#"), len(rest))
    host = rest[:end].rpartition("@")[2]
    return f"{scheme}://{host}{rest[end:]}"
