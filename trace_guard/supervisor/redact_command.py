"""A command line without its secrets, as far as those can be told: by what they are called, or by how they begin."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..payload import REDACTED, Payload

__all__ = ["shown"]

# What a secret is called: the last part of a name, or the end of one that is not in parts.
_LAST_PARTS = frozenset((
    "auth", "authorization", "bearer", "cookie", "credential", "credentials", "key", "pass", "passphrase", "passwd",
    "password", "pat", "pwd", "secret", "sig", "signature", "token",
))
_ENDINGS = ("accesskey", "apikey", "passphrase", "passwd", "password", "secret", "secretkey", "token")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z\d]+")
# An option and its value, a variable and its, a header and its. What follows an option may be the next one.
_SETTING = re.compile(
    r"""(?P<before>(?<![\w-])
            (?:--?(?P<option>[A-Za-z_][\w.-]*)(?:\s*=\s*|\s+(?!-))
            | (?P<name>[A-Za-z_][\w-]*)(?P<quote>["']?)(?:=|:[ ]?(?!//))))
        (?P<value>(?:(?:Bearer|Basic|Digest|Negotiate|Token)\s+)?(?:"[^"]*"|'[^']*'|[^\s&;"']+))""",
    re.VERBOSE | re.IGNORECASE,
)
# An option in one word with its value, or a header with its: to the end of the word, whatever is in it.
_WHOLE_WORDS = (
    re.compile(r"(?P<before>--?(?P<name>[A-Za-z_][\w.-]*)=)"),
    re.compile(r"(?P<before>(?:--?[\w-]+=)?(?P<name>[A-Za-z][\w-]*):(?!//)[ ]?)"),
)
_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,30})://(?P<user>[^\s\"'<>]*)@", re.IGNORECASE)
_HOST_AND_PATH = re.compile(r"[^:/?#@]*(:\d*)?[/?#]")
# Where the user of a URL is somebody's name, and no key.
_NAMED_USERS = re.compile(r"(.*ssh|s?ftp|rsync)$", re.IGNORECASE)
_KNOWN_BY_BEGINNING = re.compile(
    r"""(?<![\w-])(?: sk-[\w-]{8,} | [rs]k_(?:live|test)_\w{8,} | gh[opsur]_\w{16,} | github_pat_\w{16,} |
        glpat-[\w-]{16,} | (?:AKIA|ASIA)[A-Z\d]{12,} | xox[abeoprs]-[\w-]{8,} | AIza[\w-]{20,} | hf_\w{16,} |
        npm_\w{16,} | pypi-[\w-]{16,} | eyJ[\w-]{8,}\.[\w-]+\.[\w-]* )""",
    re.VERBOSE,
)
# Settings in the values of settings, URLs in the paths of URLs: what is deeper is nothing that anybody would read.
_DEEPEST = 20
_USER_OPTION = r"(?<!\S)(?:-[uU]|--user|--proxy-user)"
_USER_OPTIONS = re.compile(_USER_OPTION)
_USER_AND_PASSWORD = re.compile(rf"(?P<before>{_USER_OPTION}[= ]\s*[\"']?[^\s:\"']+:)[^\s\"']+")
# Programs whose -p has a password in the same word.
_MYSQL = re.compile(r"(mysql|mariadb)\w*")


def shown(command: Sequence[str], payload: Payload) -> list[str]:
    """The words without: values of options, variables and headers whose names say that they are secret; users and
    passwords in URLs; keys that are known by how they begin.

    Stricter than for events: ``OPENAI_API_KEY=...`` and ``--hf-token ...`` count, too.
    """
    words: list[str] = []
    before = ""
    for word in command:
        if before.startswith("-") and "=" not in before and _is_secret(before.lstrip("-"), payload):
            words.append(REDACTED)
            before = ""
            continue
        if _USER_OPTIONS.fullmatch(before) and ":" in word:
            word = f"{word.partition(':')[0]}:{REDACTED}"
        elif word.startswith("-p") and len(word) > 2 and _MYSQL.fullmatch(os.path.basename(command[0])):
            word = f"-p{REDACTED}"
        words.append(_hidden(word, payload))
        before = word
    kept: list[str] = payload.copy(words)
    return kept


def _hidden(word: str, payload: Payload) -> str:
    for pattern in _WHOLE_WORDS:
        whole = pattern.match(word)
        if whole is not None and _is_secret(whole["name"], payload):
            return whole["before"] + REDACTED
    word = _USER_AND_PASSWORD.sub(rf"\g<before>{REDACTED}", word)
    return _KNOWN_BY_BEGINNING.sub(REDACTED, _without_users(_without_settings(word, payload)))


def _without_settings(text: str, payload: Payload, depth: int = 0) -> str:
    if depth > _DEEPEST:
        return REDACTED

    def hidden(found: re.Match[str]) -> str:
        if _is_secret(found["option"] or found["name"], payload):
            quote = found["quote"] or ""  # in JSON
            return found["before"] + quote + REDACTED + quote
        return found["before"] + _without_settings(found["value"], payload, depth + 1)

    return _SETTING.sub(hidden, text)


def _without_users(text: str, depth: int = 0) -> str:
    """URLs without what stands before the last ``@`` of their host: a password may have any of ``:/@`` in it."""
    if depth > _DEEPEST:
        return REDACTED

    def hidden(found: re.Match[str]) -> str:
        scheme, user = found["scheme"], found["user"]
        if _HOST_AND_PATH.match(user):
            return f"{scheme}://{_without_users(user + '@', depth + 1)}"
        name, colon, _ = user.partition(":")
        if scheme.lower() in ("http", "https") or not (colon or _NAMED_USERS.match(scheme)):
            return f"{scheme}://{REDACTED}@"  # tokens stand where others have a name
        return f"{scheme}://{name}:{REDACTED}@" if colon else found[0]

    return _USER.sub(hidden, text)


def _is_secret(name: str, payload: Payload) -> bool:
    parts = [part.lower() for part in _PART.findall(name)]
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()  # of several
    if not parts:
        return payload.is_secret(name)
    parts[-1] = parts[-1].rstrip("0123456789") or parts[-1]
    if parts[-1] in _LAST_PARTS or parts[-1].endswith(_ENDINGS):
        return True
    return any(payload.is_secret("_".join(parts[start:])) for start in range(len(parts)))
