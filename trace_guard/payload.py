"""Copies of events and results for spans: plain, without secrets, and bounded in bytes, depth and time."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping, MappingView, Sequence, Set
from time import monotonic
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from .encoded_text import Parsed, complete_json, decode_base64, find_json, parse_json
from .redaction import HOLDING, NAMING, REDACTED, TextRedactor
from .secret_keys import BUILT_IN, SECRETS, Redactor, SecretKeys

__all__ = ["CUT", "DECODED", "REDACTED", "SECRETS", "Payload"]

CUT = "[cut by trace-guard]"
DECODED = "[body decoded by trace-guard]"
"""Marks an object with text that came in base64 and is kept as text. ``isBase64Encoded`` is false then, so that the
copy of an event means the same, and can be handed to a handler again."""

_DEPTH = 40
_LONGEST_INTEGER = 4096
# What a value costs besides its text.
_SMALL, _SCALAR = 4, 8
# The time that a copy of 64 KiB may take. A larger limit has more.
_SECONDS = 0.02
_MOST_SECONDS = 1.0
_BYTES_OF_SECONDS = 65536
# So many steps, of a few microseconds at most, are made without a look at the clock: a small payload is whole,
# even if another process has the processor meanwhile.
_UNTIMED_STEPS = 2000
_STEPS_BETWEEN_LOOKS = 32
# A longer text is cut before its JSON is parsed.
_PARSED_WHOLE = 131072
_SHORTEST_BASE64 = 16
_BASE64_START = re.compile(r"[A-Za-z0-9+/_-]{14,64}(?:[=\r\n]|\Z)|[A-Za-z0-9+/_-]{64}")
_ENCODED = re.compile(r"%|[A-Za-z0-9+/_-]{16}")
_CUT_PERCENT = re.compile(r"%[0-9A-Fa-f]?\Z")
_FORM_START = re.compile(r"[^\s=&\"'{<]{1,256}=")
_PART_NAME = re.compile(r"""\bname=(?:"([^"\r\n]{1,256})"|([^\s;"]{1,256}))""")
_END_OF_HEADERS = re.compile(r"\r?\n\r?\n")
_LONGEST_ROLE = 16
_LISTED = (Sequence, Set, MappingView, deque)
_LONGEST_NAME = 256


class Payload:
    """Makes a plain, redacted and bounded copy of a value. It never raises, and never calls more of a user's
    objects than their fields, ``model_dump`` or ``__repr__``.

    A value is replaced if its key names a secret: in objects, pairs, and objects of name and value; in strings that
    hold JSON, a form, a form in parts, a query or base64 of these; and in text, where it is also known by its shape.

    Text that an event or a result of AWS has in base64 (``isBase64Encoded``) is kept as text, with DECODED beside
    it, since secrets in it could not be found otherwise; of such a body that is no text, only the size is kept. Other
    base64 is kept as it is unless a secret is in it.

    Args:
        redact: more keys whose values are replaced, see :class:`.secret_keys.SecretKeys`. Also a function, or several,
            called with a key and its value, as they would be logged, in objects, parsed JSON, forms and pairs. It
            returns True to have the value replaced, None, False or the value itself to keep it, or what is logged
            instead. If it raises, the value is replaced.
        max_bytes: about how many bytes are kept; the rest is left out where it stands, marked CUT. A copy of the
            default size takes about 20 ms at most; what is not reached by then is cut as well.
        query_keys: keys that name a secret only as parameters of a URL, in small letters.
    """

    def __init__(
        self,
        redact: str | Redactor | Iterable[str | Redactor] = (),
        max_bytes: int = 65536,
        query_keys: Collection[str] = (),
    ) -> None:
        rules = (redact,) if isinstance(redact, str) or callable(redact) else tuple(redact)
        patterns = [rule for rule in rules if isinstance(rule, str)]
        self.max_bytes = max_bytes
        self.seconds = min(_SECONDS * max(1.0, max_bytes / _BYTES_OF_SECONDS), _MOST_SECONDS)
        self.keys = SecretKeys(patterns) if patterns else BUILT_IN
        self.functions: tuple[Redactor, ...] = tuple(rule for rule in rules if not isinstance(rule, str))
        self.in_text = TextRedactor(self.keys, query_keys)

    def copy(self, value: object) -> Any:
        """The copy, of ``dict``, ``list``, ``str``, numbers, ``bool`` and None."""
        return _Copy(self).of(value, 0)

    def is_secret(self, key: object) -> bool:
        """True for a key that names a secret."""
        return isinstance(key, str) and self.keys.matches(key)


class _Copy:
    """One copy in the making, and what is left for it of bytes and time."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._is_secret = payload.keys.matches
        self._room = payload.max_bytes
        self._deadline = monotonic() + payload.seconds
        self._steps = 0
        self._next_look = _UNTIMED_STEPS
        self._above: set[int] = set()
        self._has_decoded = False

    def of(self, value: object, depth: int) -> Any:
        try:
            return self._of(value, depth)
        except Exception as error:  # noqa: BLE001 - a user's object may do anything when looked at
            return f"<{type(value).__name__}: {type(error).__name__} when read>"

    def _may_go_on(self, steps: int = 1) -> bool:
        self._steps += steps
        if self._steps >= self._next_look:
            self._next_look = self._steps + _STEPS_BETWEEN_LOOKS
            if monotonic() > self._deadline:
                self._room = 0
        return self._room > 0

    def _of(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self._room -= _SCALAR
            return value
        if isinstance(value, int):
            self._room -= _SCALAR
            # Python refuses to write longer ones in decimal.
            return int.__int__(value) if value.bit_length() <= _LONGEST_INTEGER else f"<{value.bit_length()} bits>"
        if isinstance(value, float):
            self._room -= _SCALAR
            return float.__float__(value) if math.isfinite(value) else float.__repr__(value)
        if not self._may_go_on() or depth > _DEPTH:
            return CUT
        if isinstance(value, str):
            return self._string(value, depth)
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._room -= _SCALAR
            return f"<{len(value)} bytes>"
        if id(value) in self._above:
            return "<recursion>"
        self._room -= _SMALL
        self._above.add(id(value))
        try:
            return self._container(value, depth + 1)
        finally:
            self._above.discard(id(value))

    # Objects and lists

    def _container(self, value: object, depth: int) -> Any:
        kind = type(value)
        if kind is dict or isinstance(value, Mapping):
            return self._mapping(value, depth)  # type: ignore[arg-type]
        if kind is list:
            return self._sequence(value, depth)  # type: ignore[arg-type]
        fields = _fields_of(value)
        if fields is not None:
            return self._mapping(fields, depth)
        if isinstance(value, _LISTED):
            return self._sequence(value, depth)  # type: ignore[arg-type]
        return self._string(repr(value), depth)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        instead = self._plain_body(value.get("body")) if value.get("isBase64Encoded") is True else {}
        has_decoded = DECODED in instead
        is_named: bool | None = None
        is_naming = is_cut = False
        holding: list[str] = []
        for original, item in value.items():
            if not self._may_go_on():
                copy[CUT] = True
                break
            if instead:
                item = instead.get(original, item)
            key, is_secret = self._key(original)
            self._has_decoded = False
            copy[key] = self._value(key, is_secret, item, depth)
            has_decoded |= self._has_decoded and isinstance(item, str)
            if key == CUT:
                break
            role = key.lower() if len(key) <= _LONGEST_ROLE else ""
            is_cut = key.endswith(CUT)
            is_naming = is_cut or role in NAMING
            if role in NAMING:
                is_named = bool(is_named) or self._names_secret(item)
            elif role in HOLDING:
                holding.append(key)
        if has_decoded:
            copy[DECODED] = True
        if is_named or ((is_cut or CUT in copy) and (is_named is None or is_naming)):  # the name may be in what was cut
            copy |= {key: REDACTED for key in holding if copy[key] is not None}
        return copy

    def _key(self, key: object) -> tuple[str, bool]:
        """A key as it is logged, and whether it names a secret."""
        if isinstance(key, str):
            text = str.__str__(key)
        elif isinstance(key, bytes):
            text = key.decode("latin-1")  # a header of ASGI
        elif isinstance(key, (tuple, frozenset)):
            text = repr(self._sequence(key, _DEPTH))
        else:
            text = str(key) if not isinstance(key, int) or key.bit_length() <= _LONGEST_INTEGER else "<number>"
        is_secret = self._is_secret(text)
        kept = _beginning(text, self._room)
        self._room -= _size(kept) + _SMALL
        return kept if len(kept) == len(text) else f"{kept} {CUT}", is_secret

    def _value(self, key: str, is_secret: bool, item: object, depth: int) -> Any:
        if item is None:
            return self.of(None, depth)
        if is_secret:
            self._room -= len(REDACTED)
            return REDACTED
        copy = self.of(item, depth)
        for function in self._payload.functions:
            try:
                said = function(key, copy)
            except Exception:  # noqa: BLE001 - what could not be judged is not logged
                return REDACTED
            if said is True:
                return REDACTED
            if said is not None and said is not False and said is not copy:
                copy = self.of(said, depth)
        return copy

    def _names_secret(self, name: object) -> bool:
        if isinstance(name, Mapping) and len(name) == 1:
            (name,) = name.values()  # a string of DynamoDB: {"S": "Authorization"}
        if isinstance(name, bytes):
            name = name[:_LONGEST_NAME].decode("latin-1")
        return isinstance(name, str) and len(name) <= _LONGEST_NAME and self._is_secret(name)

    def _sequence(self, value: Iterable[Any], depth: int) -> list[Any]:
        if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], (str, bytes)):
            # It may be a pair, as in a list of headers.
            name = value[0] if isinstance(value[0], str) else value[0][:_LONGEST_NAME].decode("latin-1")
            if len(name) <= _LONGEST_NAME:
                return [self.of(value[0], depth), self._value(name, self._is_secret(name), value[1], depth)]
        copy: list[Any] = []
        is_announced = False
        for item in value:
            if not self._may_go_on():
                copy.append(CUT)
                break
            if is_announced and item is not None:
                copy.append(REDACTED)
                is_announced = False
                continue
            copy.append(self.of(item, depth))
            # An option of a command line: ["--api-key", "..."]
            is_announced = isinstance(item, str) and item[:1] == "-" and self._names_secret(item)
        return copy

    # Strings

    def _string(self, value: str, depth: int) -> str:
        room = self._room
        text = self._clean(str.__str__(value), depth)
        self._room = min(self._room, room - _SMALL - _size(text))
        return text

    def _clean(self, text: str, depth: int) -> str:
        """A text without secrets, cut to the room that is left."""
        if len(text) < _SHORTEST_BASE64 and text.isalnum() and self._may_go_on():
            return text
        if depth > _DEPTH or not self._may_go_on(1 + min(len(text), self._room) // 64):
            return CUT
        kept = _beginning(text, self._room)
        is_cut = len(kept) < len(text)
        if kept.lstrip()[:1] in ("{", "["):
            clean = self._json(text, kept, depth)
            if clean is not None:
                return clean
            if not self._may_go_on():
                return CUT
        clean = self._decoded(kept, depth, is_cut=is_cut)
        if clean is None:
            clean = self._in_parts(kept, depth)
        if clean is None:
            clean = self._form(kept, depth) if _FORM_START.match(kept) else self._with_json_within(kept, depth)
            clean = self._payload.in_text.redact(clean, self._may_go_on)
        if clean is None:  # there was no time to search it
            return CUT
        return f"{clean} {CUT}" if is_cut else clean

    def _json(self, text: str, kept: str, depth: int) -> str | None:
        if len(text) <= _PARSED_WHOLE:
            parsed = parse_json(text)
            if parsed is not None:
                return self._dumped(parsed, text, depth)
        parsed = complete_json(kept[:_PARSED_WHOLE], CUT, self._may_go_on)
        if parsed is None:
            return None
        if len(kept) < len(text):
            return json.dumps(self._parsed(parsed.value, depth))
        clean = self._dumped(parsed, text, depth)
        return clean if clean is not text else None

    def _dumped(self, parsed: Parsed, text: str, depth: int) -> str:
        """The JSON of a value without its secrets; the text that it was read from if there are none."""
        clean = self._parsed(parsed.value, depth)
        if clean == parsed.value and not parsed.has_duplicates:
            return text
        said = json.dumps(clean)
        if parsed.is_whole:
            return said
        # A broken text is kept as it is written, if no more secrets are found in what can be parsed of it.
        found = self._payload.in_text.redact(text, self._may_go_on)
        return said if found is None or found.count(REDACTED) < said.count(REDACTED) else text

    def _parsed(self, value: Any, depth: int) -> Any:
        """The copy of a value that stands in a text: only the text counts."""
        room = self._room
        clean = self.of(value, depth + 1)
        self._room = room if self._room > 0 else 0
        return clean

    def _decoded(self, kept: str, depth: int, *, is_cut: bool) -> str | None:
        """What base64 holds, if there is a secret in it."""
        if len(kept) < _SHORTEST_BASE64 or not _BASE64_START.match(kept):
            return None
        is_cut = is_cut or len(kept.rstrip("=\r\n")) % 4 == 1
        plain = decode_base64(kept, self._room, is_cut=is_cut)
        if not isinstance(plain, str) or not plain or "\0" in plain:
            return None
        clean = self._clean(plain, depth + 1)
        if clean == plain:
            return None
        self._has_decoded = True
        return clean

    def _plain_body(self, body: object) -> dict[str, Any]:
        """What an event with this body in base64 has instead; nothing if it is no base64, and so is text already.
        Only as much is decoded as there is room for."""
        if not isinstance(body, str) or not body:
            return {}
        # The longest characters of UTF-8 have four bytes: so much text is either all of it, or more than fits.
        most = (4 * max(self._room, 0)) // 3 * 4 + 8
        encoded = "".join(body[: 2 * most].split())
        is_cut = len(body) > 2 * most or len(encoded) > most
        plain = decode_base64(encoded[:most] if is_cut else encoded, self._room, is_cut=is_cut)
        if plain is None:
            return {}
        if isinstance(plain, str):
            return {"body": plain, "isBase64Encoded": False, DECODED: True}
        return {"body": f"<{len(body)} characters of base64>" if is_cut else f"<{len(plain)} bytes>"}

    def _form(self, text: str, depth: int) -> str:
        """A form or a query, with JSON and base64 in its values."""
        if any(space in text for space in (" ", "\n", "\t")):
            return text
        fields: list[str] = []
        for field in text.split("&"):
            if not self._may_go_on():
                return "&".join([*fields, CUT])
            if not self._payload.functions and not _ENCODED.search(field):
                fields.append(field)
                continue
            name, equals, value = field.partition("=")
            plain = unquote_plus(_CUT_PERCENT.sub("", value))
            clean = self._value(unquote_plus(name), self._is_secret(name), plain, depth + 1) if equals else plain
            if clean == plain:
                fields.append(field)
            else:
                said = clean if isinstance(clean, str) else json.dumps(clean)
                fields.append(f"{name}={said if said == REDACTED else quote_plus(said, safe='[]')}")
        return "&".join(fields)

    def _in_parts(self, text: str, depth: int) -> str | None:
        """A form in parts (``multipart/form-data``); None if the text is none."""
        if text[:2] != "--" or "form-data" not in text:
            return None
        boundary = text[: text.find("\n")].rstrip("\r") if "\n" in text else text
        parts: list[str] = []
        for part in text.split(boundary):
            headers = _END_OF_HEADERS.search(part)
            if headers is None:
                parts.append(part)
                continue
            if not self._may_go_on():
                return boundary.join([*parts, CUT])
            found = _PART_NAME.search(part, 0, headers.start())
            name = (found[1] or found[2]) if found is not None else ""
            content = part[headers.end() :]
            body = content.rstrip("\r\n")
            clean = self._value(name, self._is_secret(name), body, depth + 1)
            said = clean if isinstance(clean, str) else json.dumps(clean)
            parts.append(f"{part[: headers.end()]}{said}{content[len(body) :]}")
        return boundary.join(parts)

    def _with_json_within(self, text: str, depth: int) -> str:
        """A text such as a line of a log, which has JSON in it."""
        kept: list[str] = []
        done = 0
        for start, parsed in find_json(text, CUT, self._may_go_on):
            if not self._may_go_on():
                return f"{text[:done]} {CUT}" if not kept else f"{''.join(kept)} {CUT}"
            kept += text[done:start], self._dumped(parsed, text[start : parsed.end], depth)
            done = parsed.end
        return "".join([*kept, text[done:]])


def _fields_of(value: object) -> Mapping[Any, Any] | None:
    """The fields of a model, a dataclass or a named tuple by their names; None for other objects."""
    kind = type(value)
    if isinstance(value, type):
        return None
    if isinstance(value, tuple):
        names: Iterable[str] | None = getattr(kind, "_fields", None)
        return dict(zip(names, value, strict=False)) if names is not None else None
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        found = dump()
        return found if isinstance(found, Mapping) else {"": found}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    else:
        # Of msgspec, and of the first version of pydantic.
        names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__fields__", None)
    return {name: getattr(value, name) for name in names} if isinstance(names, (list, tuple, dict)) else None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _beginning(text: str, size: int) -> str:
    """As much of a text as takes so many bytes."""
    kept = text[:size]
    if kept.isascii():
        return kept
    encoded = kept.encode("utf-8", "surrogatepass")
    if len(encoded) <= size:
        return kept
    end = size
    while end > 0 and encoded[end] & 0xC0 == 0x80:  # within a character
        end -= 1
    return encoded[:end].decode("utf-8", "surrogatepass")
