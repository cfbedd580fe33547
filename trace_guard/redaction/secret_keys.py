"""Which keys name a secret: ``accessToken``, ``x-access-token`` and ``user[access_token]``, but not ``max_tokens``.

A key is split into words at separators, brackets and changes of case, after percent-decoding. Words are compared whole,
so ``secretary`` and ``monkey`` match nothing. There are two kinds of names:

- Names in ``ANYWHERE`` match at any position, unless the next word says that the key only describes the secret:
  ``password`` matches ``db_password_eu`` but not ``password_hint``.
- Names in ``AT_THE_END`` match only as the last words: ``token`` matches ``csrf_token`` but not ``token_count``. A
  number, a version or a word such as ``value`` may follow.

Names of several words also match without separators: ``apikey``, ``X-WORKLOADACCESSTOKEN``.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from .compile_later import compile_later

__all__ = [
    "ALSO_NAMING", "ANYWHERE", "AT_THE_END", "HOLDING", "NAMING", "SECRETS", "Redactor", "SecretKeys", "is_counted",
    "is_secret_key", "may_be_tokens", "words_of",
]

Redactor = Callable[[str, Any], Any]
"""A user's function, called with a key and its value; see :class:`trace_guard.payload.Payload`."""

ANYWHERE = frozenset({
    # Passwords
    "password", "passwd", "passphrase", "passcode", "pwd",
    # Tokens
    "access token", "refresh token", "id token", "auth token", "authorization token", "bearer token", "csrf token",
    "csrf middleware token", "xsrf token", "session token",
    "security token", "identity token", "output token", "task token",
    "agentcore identity wat", "zumo auth",
    # Keys
    "api key", "private key", "secret key", "access key", "access key id", "secret access key", "account key",
    "auth key", "decryption key", "encryption key", "function key", "functions key", "hmac key",
    "master key", "sas key", "session key", "shared key", "signing key",
    "ssh key", "storage key", "subscription key",
    # Others
    "artifact credentials", "authorization code", "challenge answer", "private challenge parameters",
    "client assertion", "client secret", "connection string", "foundry call id", "identity source", "jwt assertion",
    "mfa code", "saml assertion", "saml response", "secret binary", "secret string", "set cookie",
    "signing cert url", "subscribe url", "unsubscribe url",
})
"""Names that make every key secret that contains them, unless a word of ``_DESCRIBING`` follows."""

AT_THE_END = frozenset({
    "authorization", "cookie", "cookies", "credential", "credentials", "creds", "jwt", "otp", "secret", "secrets",
    "sig", "signature", "token",
    "admin pass", "auth pass", "database pass", "db pass", "mail pass", "proxy pass", "root pass", "smtp pass",
    "user pass",
})
"""Names that make every key secret that ends in them."""

# ``token`` and ``output token`` are left out: their plurals are usually counts.
_PLURALS = frozenset(
    f"{name}s" for name in ANYWHERE | AT_THE_END
    if name.endswith(("key", "token", "password", "passphrase", "passcode")) and name not in ("token", "output token")
)

SECRETS = frozenset(name.replace(" ", "_") for name in ANYWHERE | AT_THE_END)
"""The built-in names in their documented form."""

NAMING = frozenset((
    "name", "key", "header", "field", "k", "parameterkey", "parametername", "attributename", "headername",
))
"""Keys that hold the name in objects of name and value: ``{"name": "Authorization", "value": "..."}``."""
ALSO_NAMING = frozenset(("id", "type"))
"""Keys that hold the name in some of such objects, and something else in most."""
HOLDING = frozenset((
    "value", "values", "val", "v", "parametervalue", "attributevalue", "headervalue", "stringvalue",
))
"""Keys that hold the value in such objects."""

# Words after a name that describe the secret without containing it: ``access_token_expires_in``, ``api_key_id``.
_DESCRIBING = frozenset((
    "age", "alg", "algorithm", "arn", "at", "attempts", "budget", "changed", "configured", "count", "counts",
    "created", "details", "enabled", "disabled", "endpoint", "exists", "expiration", "expire", "expired", "expires",
    "expiry", "file", "format", "hint", "hints", "id", "ids", "in", "index", "is", "issued", "last", "length", "len",
    "lifetime", "limit", "limits", "location", "max", "method", "min", "missing", "name", "names", "needed", "path",
    "policies", "policy", "prefix", "present", "required", "requirements", "reset", "rotation", "rules", "scope",
    "scopes", "set", "size", "source", "state", "status", "strength", "ttl", "type", "types", "updated", "uri", "url",
    "usage", "used", "valid", "version",
))
# Words after a name in keys that hold the secret: ``token_value``, ``secretText``.
_HOLDING = frozenset((
    "base64", "b64", "data", "encoded", "enc", "given", "hash", "header", "plain", "plaintext", "provided", "raw",
    "received", "text", "value", "values", "parameter", "param",
))
# Words before ``token`` in keys of vocabulary and page tokens: ``eos_token``, ``cost_per_token``, ``nextToken``.
_HARMLESS_TOKENS = frozenset((
    "begin", "bos", "cls", "continuation", "end", "eos", "first", "image", "last", "mask", "max", "min", "next",
    "pad", "page", "pagination", "per", "sep", "special", "start", "stop", "unk",
))
# Words before ``tokens`` in keys of counts and of the vocabulary of a model.
_COUNTING = _HARMLESS_TOKENS | frozenset((
    "audio", "budget", "cache", "cached", "completion", "input", "output", "prediction", "prompt", "reasoning",
    "thinking", "total", "used",
))
_VERSION = compile_later(r"v?\d+\Z")
_LONGEST_KEY = 256
_LONGEST_NAME = 4
_CAMEL_CASE = compile_later(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = compile_later(r"[\W_]+")
_SEPARATORS_IN_PATTERN = compile_later(r"[^\w*?\[\]!]+")
_WILDCARDS = frozenset("*?[")
_LITERALS = compile_later(r"\[[^\]]*\]|[^a-z0-9]+")


def words_of(key: str) -> list[str]:
    """The words of a key in lower case: ``["user", "access", "token"]`` for ``user%5BaccessToken%5D``."""
    if "%" in key:
        from urllib.parse import unquote_plus

        key = unquote_plus(unquote_plus(key))
    if not key.isascii():
        import unicodedata

        key = unicodedata.normalize("NFKC", key)
    return _SEPARATORS.sub(" ", _CAMEL_CASE.sub(" ", key)).lower().split()


class SecretKeys:
    """The built-in names and the user's own.

    Args:
        patterns: more names. A plain name matches keys that end in its words: ``ssn`` matches ``ssn``, ``customer_ssn``
            and
            ``customer[SSN]``. A pattern with ``*``, ``?`` or ``[...]`` matches all words of a key, joined by ``_``:
            ``*_pin``, ``x-internal-*``.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        names, wildcards = set(), []
        for pattern in patterns:
            if _WILDCARDS.isdisjoint(pattern):
                names.add(" ".join(words_of(pattern)))
            else:
                separated = _SEPARATORS_IN_PATTERN.sub("_", _CAMEL_CASE.sub("_", pattern))
                wildcards.append(separated.lower())
        self._at_the_end = AT_THE_END | (names - {""})
        self._anywhere = ANYWHERE
        self._wildcards = tuple(re.compile(fnmatch.translate(pattern)) for pattern in wildcards)
        every = self._anywhere | self._at_the_end | _PLURALS
        self._joined = frozenset(name.replace(" ", "") for name in every)
        # Short names also end ordinary words: "idtoken" ends "invalidtoken".
        long_names = sorted(
            name for name in every if " " in name and name.rstrip("s") not in ("id token", "sas key")
        )
        self._joined_ends = ("password", "passwd", *(name.replace(" ", "") for name in long_names))
        self._longest = max(_LONGEST_NAME, *(name.count(" ") + 1 for name in every))
        self.signs = _signs(every, wildcards)
        """Matches every lower-case text with a secret key. Most texts don't match, which saves a closer look."""
        self._cached: Callable[[str], bool] = functools.lru_cache(maxsize=2048)(lambda key: self._matches(key))

    def matches(self, key: str) -> bool:
        """True for a key that names a secret. Only the first and last 128 characters of a long key count."""
        if len(key) > _LONGEST_KEY:
            key = f"{key[: _LONGEST_KEY // 2]} {key[-_LONGEST_KEY // 2 :]}"
        return self._cached(key)

    def _matches(self, key: str) -> bool:
        if key.isascii() and "%" not in key and not self.signs.search(_SEPARATORS.sub("", key.lower())):
            return False
        words = words_of(key)
        if not words:
            return False
        if self._wildcards and any(pattern.match("_".join(words)) for pattern in self._wildcards):
            return True
        return self.ends_in_name(words) or self._has_name(words)

    def ends_in_name(self, words: list[str]) -> bool:
        """True if the last words are a secret name."""
        end = len(words)
        while end > 1 and (words[end - 1] in _HOLDING or _VERSION.match(words[end - 1])):
            end -= 1
        last = words[end - 1].rstrip("0123456789") or words[end - 1]
        if last == "token" and end > 1 and words[end - 2] in _HARMLESS_TOKENS:
            return False
        # Compared without separators, as the case may change within a word: PassWord, AgentCore.
        words = [*words[: end - 1], last]
        starts = range(max(0, end - self._longest - 1), end)
        return last.endswith(self._joined_ends) or any("".join(words[start:]) in self._joined for start in starts)

    def _has_name(self, words: list[str]) -> bool:
        for start in range(len(words)):
            for end in range(start + 1, min(len(words), start + self._longest) + 1):
                is_described = end < len(words) and words[end] in _DESCRIBING
                if not is_described and " ".join(words[start:end]) in self._anywhere:
                    return True
        return False


def is_counted(key: str) -> bool:
    """True for a plural whose value may be a number of secrets instead of the secrets: ``apiKeys``, ``tokens``."""
    return key.lower().endswith(("keys", "tokens", "passwords"))


def may_be_tokens(key: str) -> bool:
    """True for a key of tokens that are secret if they are texts: ``tokens`` and ``device_tokens``, but not
    ``max_tokens``."""
    if not key.lower().endswith("tokens") or len(key) > _LONGEST_KEY:
        return False
    words = words_of(key)
    return words[-1:] == ["tokens"] and _COUNTING.isdisjoint(words)


def _signs(names: Iterable[str], wildcards: Iterable[str]) -> re.Pattern[str]:
    """A pattern that matches every text with a secret name: one word of each name, and the longest literal part of
    each pattern."""
    signs: set[str] = {max(_LITERALS.split(pattern), key=len) for pattern in wildcards}
    for name in sorted(names, key=lambda name: name.count(" ")):
        words = name.split()
        if not any(sign in name for sign in signs):
            signs.add("key" if "key" in words else max(words, key=len))
    return compile_later("|".join(map(re.escape, sorted(signs))))


BUILT_IN = SecretKeys()


def is_secret_key(key: str) -> bool:
    """True for a key that the built-in names match."""
    return BUILT_IN.matches(key)
