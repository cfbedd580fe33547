"""What of an event or a result may stand on the root span: without secrets, and not too much of it."""

from __future__ import annotations

import binascii
import dataclasses
import functools
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

__all__ = ["CUT", "DECODED", "REDACTED", "Payload"]

REDACTED = "[redacted]"
CUT = "[cut by trace-guard]"
DECODED = "[body decoded by trace-guard]"
"""Marks an event whose body came in base64 and is kept as text. ``isBase64Encoded`` is false then, so that the copy
is an event which means the same, and can be handed to a handler again."""
_URL_ALPHABET = str.maketrans("-_", "+/")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_DEPTH = 40
_LONGEST_INTEGER = 4096

SECRETS = frozenset({
    "authorization", "proxy_authorization", "cookie", "cookies", "set_cookie", "x_api_key", "api_key", "apikey",
    "password", "passwd", "secret", "client_secret", "token", "access_token", "refresh_token", "id_token",
    "private_key", "x_amz_security_token", "x_amz_signature", "x_goog_signature",
})
"""Keys whose values are never captured; ``max_tokens`` and its like are not among them, as keys match whole."""

_HEADERS = frozenset({"authorization", "proxy_authorization", "cookie", "cookies", "set_cookie"})


class Payload:
    """Makes a plain, redacted and bounded copy of a value. It never raises, and never calls more of a user's
    objects than ``model_dump`` or ``__repr__``.

    Text that an event or a result of AWS has in base64 (``isBase64Encoded``) is kept as text, with DECODED beside
    it, since secrets in it could not be found otherwise; of such a body that is no text, only the size is kept.

    Args:
        redact: more keys whose values are replaced. Keys match whole, after lower-casing and turning ``-``
            into ``_``, at any depth, in objects, in strings that hold JSON, and in query strings.
        max_bytes: about how many bytes of text are kept; the rest is left out where it stands, marked CUT.
    """

    def __init__(self, redact: Iterable[str] = (), max_bytes: int = 65536) -> None:
        self._secrets = SECRETS | {_normal(key) for key in redact}
        self._max_bytes = max_bytes
        # Those that hold no other one: what has none of them has none at all.
        self._signs = [key for key in self._secrets if not any(one in key for one in self._secrets - {key})]

    @functools.cached_property
    def _in_text(self) -> re.Pattern[str]:
        """Made when it is first needed, which takes some milliseconds."""
        # key=value of a query string or a form, "key": "value" of JSON that can't be parsed whole, also within a
        # string of JSON, and a header's line, whose value may be several words.
        return re.compile(
            rf"""(?<![\w-])
            ((?:(?P<header>{_either(_HEADERS)})|{_either(self._secrets - _HEADERS)})
             (?P<quote>\\*["'])?\s*(?:(?P<colon>:)|=)\s*)
            ("(?:[^"\\]|\\.)*"?|'[^']*'?|(?P<escape>\\+)"(?:(?!(?P=escape)").)*(?:(?P=escape)")?|
             (?(quote)[^&\s,;}}]+|(?(header)(?(colon)[^\r\n]+|(?:\w+[ ]+)?[^&\s,;}}]+)|[^&\s,;}}]+)))""",
            re.IGNORECASE | re.VERBOSE | re.DOTALL,
        )

    def copy(self, value: object) -> Any:
        """The copy, of ``dict``, ``list``, ``str``, numbers, ``bool`` and None."""
        return _Copy(self).of(value, 0)

    def is_secret(self, key: object) -> bool:
        return isinstance(key, str) and _normal(key) in self._secrets

    def text(self, text: str, room: int) -> str:
        """A string without secrets, at most ``room`` characters of it."""
        stripped = text.lstrip()
        if stripped[:1] in ("{", "[") and len(text) <= room:
            try:
                parsed = json.loads(text)
            except (ValueError, RecursionError):
                parsed = None
            if isinstance(parsed, (dict, list)):
                clean = _Copy(self).of(parsed, 1)
                return text if clean == parsed else json.dumps(clean)
        kept = text[:room]
        if self._may_tell(kept):
            kept = self._in_text.sub(lambda found: found[1] + REDACTED, kept)
        return f"{kept} {CUT}" if len(text) > room else kept

    def _may_tell(self, text: str) -> bool:
        """False for nearly all text, which can then do without the search."""
        if not text.isascii():
            return True  # of some letters beyond ASCII the small form is one of ASCII
        plain = text.lower().replace("-", "_")
        return any(sign in plain for sign in self._signs)


class _Copy:
    """One copy in the making, and how much room is left for it."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._room = payload._max_bytes
        self._above: set[int] = set()

    def of(self, value: object, depth: int) -> Any:
        try:
            return self._of(value, depth)
        except Exception as error:  # noqa: BLE001 - a user's object may do anything when looked at
            return f"<{type(value).__name__}: {type(error).__name__} when read>"

    def _of(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self._room -= 8
            return value
        if isinstance(value, int):
            self._room -= 8
            # Python refuses to write longer ones in decimal.
            return value if value.bit_length() <= _LONGEST_INTEGER else f"<{value.bit_length()} bits>"
        if isinstance(value, float):
            self._room -= 8
            return value if math.isfinite(value) else repr(value)
        if self._room <= 0 or depth > _DEPTH:
            return CUT
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"<{len(value)} bytes>"
        if id(value) in self._above:
            return "<recursion>"
        self._above.add(id(value))
        try:
            return self._container(value, depth + 1)
        finally:
            self._above.discard(id(value))

    def _container(self, value: object, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._sequence(value, depth)
        dump = getattr(value, "model_dump", None)
        if callable(dump) and not isinstance(value, type):
            return self.of(dump(), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._mapping({one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, depth)
        return self._text(value if isinstance(value, str) else repr(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        # {"name": "authorization", "value": "..."} and its like, as in recorded headers
        names_secret = any(self._payload.is_secret(value.get(key)) for key in ("name", "key", "Name", "Key"))
        copy: dict[str, Any] = {}
        if value.get("isBase64Encoded") is True:
            plain = _plain_body(value.get("body"), self._room)
            if plain is not None:
                value = {**value, **plain}
        for key, one in value.items():
            if self._room <= 0:
                copy[CUT] = True
                break
            text = key if isinstance(key, str) else str(key)
            secret = self._payload.is_secret(text) or (names_secret and text.lower() == "value")
            if len(text) > self._room:
                text = f"{text[: self._room]} {CUT}"
            self._room -= len(text)
            copy[text] = REDACTED if secret and one is not None else self.of(one, depth)
        return copy

    def _sequence(self, value: Collection[Any], depth: int) -> list[Any]:
        if isinstance(value, (list, tuple)) and len(value) == 2 and self._payload.is_secret(value[0]):
            return [value[0], REDACTED]  # a pair, as in a list of headers
        copy: list[Any] = []
        for one in value:
            if self._room <= 0:
                copy.append(CUT)
                break
            copy.append(self.of(one, depth))
        return copy

    def _text(self, value: str) -> str:
        text = self._payload.text(value, self._room)
        self._room -= len(text)
        return text


def _plain_body(body: object, room: int) -> dict[str, Any] | None:
    """What an event with this body in base64 has instead; None if it is no base64, and so is text already. Only as
    much is decoded as there is room for."""
    if not isinstance(body, str) or not body:
        return None
    # The longest characters of UTF-8 have four bytes: so much text is either all of it, or more than fits.
    most = (4 * max(room, 0)) // 3 * 4 + 8
    # MIME has line breaks, and URLs an alphabet of their own.
    encoded = "".join(body[: 2 * most].split()).translate(_URL_ALPHABET)
    cut = len(body) > 2 * most or len(encoded) > most
    encoded = encoded[:most].rstrip("=") if not cut else encoded[:most]
    if _NOT_BASE64.search(encoded) or len(encoded) % 4 == 1:
        return None
    decoded = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4))
    try:
        text = decoded.decode()
    except UnicodeDecodeError as error:
        if not cut or error.start < len(decoded) - 3:
            return {"body": f"<{len(body)} characters of base64>" if cut else f"<{len(decoded)} bytes>"}
        text = decoded[: error.start].decode()
    return {"body": text, "isBase64Encoded": False, DECODED: True}


def _either(keys: Iterable[str]) -> str:
    return "|".join(re.escape(key).replace("_", "[-_]") for key in sorted(keys, key=len, reverse=True))


def _normal(key: str) -> str:
    return key.lower().replace("-", "_")
