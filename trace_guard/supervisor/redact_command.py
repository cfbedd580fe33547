"""Removes secrets from a command line before it is logged.

Detected are:

- values of options, variables, headers and JSON fields whose names say that they are secret, as words of their own or
  within a word, such as a script for ``sh -c``;
- users and passwords in URLs;
- passwords in options of known programs: ``curl -u user:password``, ``mysql -psecret``;
- keys with a known prefix.

Not detected are positional secrets of other programs (``job hunter2``, ``job -p hunter2``), secrets in variables with
harmless names, and values that a script computes.

Every scan is linear in the length of the command line, as the command waits for it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from ..payload import CUT, Payload
from ..redaction.known_keys import without_known_keys
from ..redaction.named_values import redact_named
from ..redaction.shapes import REDACTED, redact_keys, redact_schemes
from ..redaction.urls import redact_userinfo

__all__ = ["redact_command"]

_IsSecret: TypeAlias = Callable[[str], bool]

# Last words of secret names; and endings of names without separators.
_LAST_PARTS = frozenset((
    "auth", "authorization", "bearer", "cookie", "credential", "credentials", "key", "pass", "passphrase", "passwd",
    "password", "pat", "pwd", "secret", "sig", "signature", "token",
))
_ENDINGS = (
    "accesskey", "apikey", "authorization", "cookie", "passphrase", "passwd", "password", "secret", "secretkey",
    "token",
)
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z\d]+")
_LONGEST_NAME = 256

# A word that is an option with its value, or a header: the value is everything after the name.
_WHOLE_WORDS = (
    re.compile(r"(?P<before>(?P<name>--?[A-Za-z_][\w.-]*)=)"),
    re.compile(r"(?P<before>(?:--?[\w-]+=|-[A-Za-z](?=[A-Za-z]))?(?P<name>[A-Za-z][\w-]*):(?!//)[ ]?)"),
)
# Within a script: the name of an option that is followed by a value, not by another option.
_OPTION = re.compile(r"(?<![\w-])(?P<before>(?P<name>--?[A-Za-z_][\w.-]*)[ \t]{1,8})(?![-\s])")
_OPTION_VALUE = re.compile(
    r"""(?:(?:Bearer|Basic|Digest|Negotiate|Token)[ \t]{1,4})?
        (?:\$?"(?:[^"\\]|\\.)*"?|\$'(?:[^'\\]|\\.)*'?|'[^']*'?|\\.|[^\s&;|<>"'\\])+""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_USER_OPTION = r"(?:-[A-Za-z]{0,8}[uU]|--(?:proxy-)?user)"
_IS_USER_OPTION = re.compile(_USER_OPTION)
_USER_AND_PASSWORD = re.compile(
    rf"""(?<!\S)(?P<before>["']?{_USER_OPTION}(?:=|[ \t]{{1,8}})?\$?["']?[^\s:%"'=-][^\s:%"']{{0,255}}[:%])[^\s"']+"""
)


class _PasswordOption(NamedTuple):
    """An option that takes a password, for programs whose names begin with one of ``programs``."""

    programs: tuple[str, ...]
    letter: str
    is_separate: bool  # the password may also be the next word


_PASSWORD_OPTIONS = (
    _PasswordOption(("mysql", "mariadb"), "p", is_separate=False),
    _PasswordOption(("sshpass", "mongo"), "p", is_separate=True),
    _PasswordOption(("redis-cli",), "a", is_separate=True),
    _PasswordOption(("ldap",), "w", is_separate=True),
)
_PROGRAM = re.compile(r"(?<![\w.-])(?:mysql|mariadb|sshpass|mongo|redis-cli|ldap)[\w-]{0,32}")


def redact_command(command: Sequence[str], payload: Payload, limit: int = 65536) -> list[str]:
    """The words of a command line without secrets.

    More names count as secret than in events: ``OPENAI_API_KEY=...`` and ``--hf-token ...``, for example.

    Args:
        payload: decides which other keys are secret.
        limit: roughly the number of characters that are kept. A mark shows where the rest was cut.
    """
    is_secret = functools.lru_cache(maxsize=4096)(functools.partial(_is_secret, payload))
    words: list[str] = []
    options: list[_PasswordOption] = []
    before = ""
    for word in command:
        redacted = _redacted_value(before, word, options, is_secret)
        words.append(_redacted_word(word, options, is_secret) if redacted is None else redacted)
        # A replaced value is not an option, even if it starts with a dash.
        before = "" if redacted == REDACTED else word
        options += (option for option in _password_options(word) if option not in options)
    return list(_within(limit, words))


def _within(limit: int, words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if limit <= 0:
            yield CUT
            return
        yield word if len(word) <= limit else f"{word[:limit]} {CUT}"
        limit -= len(word)


def _redacted_value(option: str, word: str, options: Sequence[_PasswordOption], is_secret: _IsSecret) -> str | None:
    """The redacted word if it is the secret value of the option before it; None otherwise."""
    if not option.startswith("-"):
        return None
    if "=" not in option and is_secret(option):
        return REDACTED
    if any(known.is_separate and option == f"-{known.letter}" for known in options):
        return REDACTED
    if _IS_USER_OPTION.fullmatch(option):
        user, separator, _ = word.partition(":") if ":" in word else word.partition("%")
        return f"{user}{separator}{REDACTED}" if separator else None
    return None


def _redacted_word(word: str, options: Sequence[_PasswordOption], is_secret: _IsSecret) -> str:
    for option in options:
        if word.startswith(f"-{option.letter}") and len(word) > 2:
            return f"-{option.letter}{REDACTED}"
    for pattern in _WHOLE_WORDS:
        whole = pattern.match(word)
        if whole is not None and is_secret(whole["name"]):
            return whole["before"] + REDACTED
    if " " in word or "\t" in word or "\n" in word:
        word = _redacted_options(word, is_secret)
    word = _USER_AND_PASSWORD.sub(rf"\g<before>{REDACTED}", word)
    word = redact_named(word, is_secret)
    return redact_keys(redact_schemes(redact_userinfo(without_known_keys(word))))


def _redacted_options(text: str, is_secret: _IsSecret) -> str:
    """A script, such as that of ``sh -c``, without the values of secret options."""
    for option in _password_options(text):
        following = r"[ \t]{0,8}" if option.is_separate else ""
        text = re.sub(rf"(?<!\S)(-{option.letter}{following})[^\s;&|]+", rf"\g<1>{REDACTED}", text)
    kept: list[str] = []
    done = position = 0
    while (option_match := _OPTION.search(text, position)) is not None:
        position = option_match.end()
        if is_secret(option_match["name"]):
            value = _OPTION_VALUE.match(text, position)
            if value is not None:
                kept += (text[done:position], REDACTED)
                done = position = value.end()
    return "".join((*kept, text[done:]))


def _password_options(text: str) -> list[_PasswordOption]:
    """The password options of the programs that a word or a script names."""
    is_word = " " not in text
    programs = [os.path.basename(text)] if is_word else [match[0] for match in _PROGRAM.finditer(text)]
    return [option for option in _PASSWORD_OPTIONS if any(program.startswith(option.programs) for program in programs)]


def _is_secret(payload: Payload, name: str) -> bool:
    if len(name) > _LONGEST_NAME:
        name = name[-_LONGEST_NAME:]
    plain = name.lstrip("-")
    if _is_secret_name(plain, payload):
        return True
    # One letter and its value in one word: -HX-Api-Key, -dkey=.
    return name.startswith("-") and not name.startswith("--") and _is_secret_name(plain[1:], payload)


def _is_secret_name(name: str, payload: Payload) -> bool:
    parts = [part.lower() for part in _PART.findall(name)]
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()  # a number of several: API_KEY_2
    if not parts:
        return payload.is_secret(name)
    parts[-1] = parts[-1].rstrip("0123456789") or parts[-1]
    if parts[-1] in _LAST_PARTS or parts[-1].endswith(_ENDINGS):
        return True
    return any(payload.is_secret("_".join(parts[start:])) for start in range(max(0, len(parts) - 6), len(parts)))
