"""Finds credentials in text that was not written to hold any, and removes them.

Found are: the API keys that this process was configured with, also as they look when escaped or encoded; the values of
headers, variables and fields whose names say that they are secret; user names and passwords in URLs; and keys that are
known by how they begin. Every scan takes time in proportion to the text, whatever it contains.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable

from .secret_keys import is_secret_key, words_of

__all__ = [
    "REDACTED", "redact_named", "redact_recognised_keys", "redact_userinfo", "remember_key", "strip_userinfo",
    "without_credentials", "without_known_keys",
]

REDACTED = "[redacted]"

_LEAST_OF_A_KEY = 8
"""A shorter key would also be found within ordinary words."""
_MOST_KEYS = 64
_keys: OrderedDict[str, tuple[str, ...]] = OrderedDict()


def remember_key(key: str | None) -> None:
    """Remove this key from every text from here on, in each of the forms in which it may come back."""
    if key is None or len(key) < _LEAST_OF_A_KEY:
        return
    _keys[key] = _keys.pop(key, ()) or _forms(key)
    while len(_keys) > _MOST_KEYS:
        try:
            _keys.popitem(last=False)
        except KeyError:  # another thread was faster
            break


def _forms(key: str) -> tuple[str, ...]:
    encoded = key.encode("utf-8", "surrogatepass")
    forms = {
        key, repr(key)[1:-1], repr(encoded)[2:-1], ascii(key)[1:-1], json.dumps(key)[1:-1],
        encoded.decode("latin-1"), encoded.hex(),
    }
    for safe in ("", "/"):
        quoted = urllib.parse.quote(encoded, safe=safe)
        forms |= {quoted, urllib.parse.quote_plus(encoded, safe=safe), quoted.lower()}
    # Base64 depends on where in the encoded bytes the key begins. What its neighbours have a part in is left out.
    for before in range(3):
        text = base64.b64encode(bytes(before) + encoded).decode().rstrip("=")
        whole = text[(0, 2, 3)[before] : len(text) - ((before + len(encoded)) % 3 > 0)]
        if len(whole) >= _LEAST_OF_A_KEY:
            forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return tuple(sorted((form for form in forms if form), key=len, reverse=True))


def without_credentials(text: str) -> str:
    """The text, with each credential that is recognised in it replaced."""
    return redact_recognised_keys(redact_userinfo(redact_named(without_known_keys(text), is_secret_key)))


def without_known_keys(text: str) -> str:
    """The text without the keys that this process was configured with."""
    for forms in tuple(_keys.values()):
        for form in forms:
            if form in text:
                text = text.replace(form, REDACTED)
    return text


# Names and values

_QUOTE = r"""(?:\\{0,16}["'`]|%2[27]|&quot;|&\#3[49];)"""
_TAG = r"</?[A-Za-z]\w{0,11}>"
# The start of a run of letters only, so that each run is read once.
_NAMED = re.compile(
    rf"""(?<![\w.-])(?P<name>[\w.-]+)
        (?P<between>
            (?P<quote>{_QUOTE})?\]?(?:{_TAG}){{0,2}}
            (?:[ \t]{{1,8}}=>?[ \t]{{0,8}} | =>?(?:[ \t]{{1,8}}(?=["'`]))? | :(?!//)(?:{_TAG}|[ \t+]|%20){{0,8}}
             | %3[AaDd](?!%2[Ff])(?:%20|\+){{0,8}} | (?(quote),[ \t]{{0,8}}|(?!)))
            | {_TAG}\s{{0,8}}{_TAG}
        )""",
    re.VERBOSE,
)
_OPENING = re.compile(rf"(?P<prefix>[bBrRuU$]?)(?P<quote>{_QUOTE})")
_CLOSING_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_BRACKETS = re.compile(r"[\[\](){}]")
_IN_QUOTES = {
    '"': re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*", re.DOTALL),
}
_SCHEMES = "Bearer|Basic|Digest|Negotiate|NTLM|Token|ApiKey|Key|AWS4-HMAC-SHA256"
_BARE_VALUE = re.compile(
    rf"""(?:(?:{_SCHEMES})(?:[ \t]|%20|\+){{1,4}})?(?:[^\s"'`<>&;,(){{}}\[\]\\]|\\(?![rn"']))+""", re.IGNORECASE
)
_HEADER_VALUE = re.compile(r"""(?:="[^"\r\n]*"|[^\r\n"'`<>\\]|\\(?![rn"']))+""")
_HEADERS = ("authorization", "cookie", "cookies")


def redact_named(text: str, is_secret: Callable[[str], bool]) -> str:
    """The text without the values of names that are secret: headers, variables, fields of JSON and forms, pairs of a
    list, also where the text is escaped, percent-encoded or in HTML.

    Args:
        is_secret: called with each name that has a value.
    """
    kept: list[str] = []
    done = position = 0
    while (found := _NAMED.search(text, position)) is not None:
        position = found.end()
        name = found["name"]
        if text[found.start() - 1 : found.start()] == "%":
            name = name[2:]  # of the quote before it
        if not is_secret(name) or text.startswith(REDACTED, position) or _is_prose(found):
            continue
        start, end = _value(text, found, name)
        if end > start:
            kept += (text[done:start], REDACTED)
            done = position = end
    return "".join((*kept, text[done:])) if done else text


def _value(text: str, found: re.Match[str], name: str) -> tuple[int, int]:
    """Where the value behind a name begins and ends. Within quotes it may hold anything; the quotes of a name that has
    some itself stay, as in JSON."""
    start = found.end()
    if text[start : start + 1] in _CLOSING_BRACKETS:
        return start, _end_of_brackets(text, start)
    opening = _OPENING.match(text, start)
    if opening is not None:
        inside = opening.end()
        end = _closing(text, inside, opening["quote"], is_plain=False)
        if found["quote"] is not None:
            return inside, end
        end = min(len(text), end + len(opening["quote"]))
        # Shells join what stands side by side.
        while (more := _OPENING.match(text, end)) is not None:
            end = min(len(text), _closing(text, more.end(), more["quote"], is_plain=False) + len(more["quote"]))
        rest = _BARE_VALUE.match(text, end)
        return start, rest.end() if rest else end
    before = text[found.start() - 1 : found.start()]
    if before in ("'", '"', "`") and found["quote"] is None:
        return start, _closing(text, start, before, is_plain=text[found.start() - 2 : found.start() - 1] != "$")
    pattern = _HEADER_VALUE if name.lower().endswith(_HEADERS) else _BARE_VALUE
    value = pattern.match(text, start)
    return start, value.end() if value else start


def _end_of_brackets(text: str, start: int) -> int:
    """Where a list or an object ends: the end of the text if it is not closed."""
    depth = 0
    for bracket in _BRACKETS.finditer(text, start):
        depth += -1 if bracket[0] in _CLOSING_BRACKETS.values() else 1
        if depth == 0:
            return bracket.end()
    return len(text)


def _closing(text: str, start: int, quote: str, *, is_plain: bool) -> int:
    """Where the quote that was opened is closed: the end of the text if it isn't."""
    if quote in _IN_QUOTES and not is_plain:
        inside = _IN_QUOTES[quote].match(text, start)
        return inside.end() if inside else start
    end = text.find(quote, start)
    while quote.startswith("\\") and end > 0 and text[end - 1] == "\\":
        end = text.find(quote, end + len(quote))  # of a string within the string
    if end < 0:
        return len(text)
    while end > start and not quote.startswith("\\") and text[end - 1] == "\\":
        end -= 1
    return end


def _is_prose(found: re.Match[str]) -> bool:
    """True for an exception's name and its message, such as ``ExpiredToken: the token has expired``."""
    name = found["name"].rpartition(".")[2]
    return (
        found["quote"] is None and found["between"][:1] == ":" and found["between"][1:2] in (" ", "\t")
        and name[:1].isupper() and name.isalpha() and not name.isupper()
        and not name.lower().endswith(_HEADERS) and len(words_of(name)) > 1
    )


# URLs

_WORD = re.compile(r"""[^\s"'`<>]+""")
_SCHEME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"
_LONGEST_SCHEME = 31
_HOST_AND_PATH = re.compile(r"[^:/?#@]*(:\d*)?[/?#]")
# Where a URL names a user that is nobody's secret.
_NAMED_USERS = ("ssh", "sftp", "ftp", "rsync")
_ENCODED_URL = re.compile(r"%3A%2F%2F", re.IGNORECASE)


def redact_userinfo(text: str) -> str:
    """The text without passwords and tokens before the host of a URL, or before a host without a scheme. A password
    may hold any of ``:/@``: it ends at the last ``@`` of the word."""
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
        is_digest = word.startswith("sha256:", last + 1)  # of a container image
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
        return word[:start] + REDACTED + word[last:]  # tokens stand where others have a name
    return f"{word[:start]}{name}:{REDACTED}{word[last:]}" if colon else word


def strip_userinfo(url: str) -> str:
    """The URL without user and password; unchanged if it has none."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    end = next((index for index, letter in enumerate(rest) if letter in "/?#"), len(rest))
    host = rest[:end].rpartition("@")[2]
    return f"{scheme}://{host}{rest[end:]}"


# Keys that tell what they are

_BY_BEGINNING = re.compile(
    r"""(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2}))(?:
        sk-[\w-]{8,} | [rs]k_(?:live|test)_\w{8,} | whsec_\w{8,} | gh[opsur]_\w{16,} | github_pat_\w{16,} |
        glpat-[\w-]{16,} | (?:AKIA|ASIA)[A-Z\d]{12,} | xox[a-z]-[\w-]{8,} | xapp-[\w-]{8,} | AIza[\w-]{20,} |
        ya29\.[\w-]{16,} | hf_\w{16,} | npm_\w{16,} | pypi-[\w-]{16,} | bt-st-[\w-]{8,} | gsk_\w{16,} | xai-[\w-]{16,} |
        pplx-\w{16,} | nvapi-[\w-]{16,} | lsv2_\w{16,} | hvs\.[\w-]{16,} | dapi[0-9a-f]{32} |
        SG\.[\w-]{16,}\.[\w-]{16,} | eyJ[\w-]{8,}\.[\w-]+\.[\w-]* )""",
    re.VERBOSE,
)
_BY_SCHEME = re.compile(r"\b(?P<before>(?P<scheme>bearer|basic)(?:[ \t]{1,4}|%20|\+))(?P<value>[\w.~+/=%-]{6,})", re.I)
# As messages about a header quote its value, whatever is in it.
_QUOTED_SCHEME = re.compile(r"""(?P<before>(?P<quote>["'`])(?:Bearer|Basic)[ \t]{1,4})[^"'`]+(?=(?P=quote))""", re.I)
_PROSE = re.compile(r"auth|token|realm|scheme|header|error|scope|credential|method|challenge|is\b|or\b", re.I)


def redact_recognised_keys(text: str) -> str:
    """The text without keys that are known by how they begin, and without what follows ``Bearer`` or ``Basic``."""
    text = _QUOTED_SCHEME.sub(rf"\g<before>{REDACTED}", text)
    return _BY_BEGINNING.sub(REDACTED, _BY_SCHEME.sub(_redact_scheme, text))


def _redact_scheme(found: re.Match[str]) -> str:
    value = found["value"]
    if found["scheme"].lower() == "bearer":
        return found[0] if _PROSE.match(value) else found["before"] + REDACTED
    try:
        is_credential = b":" in binascii.a2b_base64(value.rstrip("=").rstrip(".") + "==")
    except ValueError:
        is_credential = False
    return found["before"] + REDACTED if is_credential else found[0]
