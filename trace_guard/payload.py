"""Copies events and results for spans: plain values, without secrets, bounded in bytes, depth and time."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, MappingView, Sequence, Set
from typing import Any

from .redaction.captured_text import CUT, DEPTH, CapturedText, beginning, size_of
from .redaction.encoded_text import decode_base64
from .redaction.secret_keys import (
    ALSO_NAMING,
    HOLDING,
    NAMING,
    SECRETS,
    Redactor,
    SecretKeys,
    is_counted,
    may_be_tokens,
)
from .redaction.shapes import REDACTED
from .redaction.text_redactor import TextRedactor
from .system.clock import monotonic
from .system.interruption import pass_interruption

__all__ = ["CUT", "DECODED", "REDACTED", "SECRETS", "Payload"]

DECODED = "[body decoded by trace-guard]"
"""Marks an object whose base64 text is kept decoded. Its ``isBase64Encoded`` is then false, so that the copy of an
event means the same and can be handed to a handler again."""

_LONGEST_INTEGER = 4096
# The bytes that a value costs besides its text.
_SMALL, _SCALAR = 4, 8
# The time limit of a copy of 64 KiB. It grows with the size limit.
_SECONDS = 0.02
_MOST_SECONDS = 1.0
_BYTES_OF_SECONDS = 65536
# The first steps, of a few microseconds each, are not timed: a small payload is copied whole even if the process loses
# the processor meanwhile.
_UNTIMED_STEPS = 2000
_STEPS_PER_CHECK = 32
_LONGEST_ROLE = 16
_LISTED = (Sequence, Set, MappingView, deque)
_LONGEST_NAME = 256
_SHORTEST_CREDENTIAL = 8


class Payload:
    """Makes a plain, redacted and bounded copy of a value. It never raises, and calls nothing of a user's objects but
    their fields, ``model_dump`` and ``__repr__``.

    A value is redacted if its key names a secret: in objects, pairs, and objects of name and value; in strings of JSON,
    forms, multipart forms and queries, also in base64; and in text, where secrets of known shape are redacted too.

    If an AWS event or result has ``isBase64Encoded``, its body is kept as text, so that secrets in it are found, and
    DECODED is added. Of a binary body only the size is kept. Other base64 is kept as it is unless it has a secret.

    Args:
        redact: more keys whose values are redacted, see :class:`.redaction.secret_keys.SecretKeys`. Also a function, or
            several, called with a key and its value as they would be logged, in objects, parsed JSON, forms and pairs.
                It
            returns True to have the value redacted, None, False or the value itself to keep it, or a replacement. If it
            raises, the value is redacted.
        max_bytes: about how many bytes are kept; what is cut is marked CUT. A copy of the default size takes at most
            about
            20 ms; what is not reached by then is cut too.
        query_keys: lower-case keys that name a secret only as parameters of a URL.
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
        self.keys = SecretKeys(patterns)
        self.functions: tuple[Redactor, ...] = tuple(rule for rule in rules if not isinstance(rule, str))
        self.in_text = TextRedactor(self.keys, query_keys)

    def copy(self, value: object) -> Any:
        """The copy, made of ``dict``, ``list``, ``str``, numbers, ``bool`` and None."""
        return _Copy(self).of(value, 0)

    def is_secret(self, key: object) -> bool:
        """True for a key that names a secret."""
        return isinstance(key, str) and self.keys.matches(key)


class _Copy:
    """One copy in progress, with its remaining budget of bytes and time."""

    def __init__(self, payload: Payload) -> None:
        self.is_secret = payload.keys.matches
        self.in_text = payload.in_text
        self.functions = payload.functions
        self.room = payload.max_bytes
        self._deadline = monotonic() + payload.seconds
        self._steps = 0
        self._next_check = _UNTIMED_STEPS
        self._above: set[int] = set()
        self._text = CapturedText(self)

    def of(self, value: object, depth: int) -> Any:
        """The copy of a value at this depth."""
        try:
            return self._of(value, depth)
        except Exception as error:  # noqa: BLE001 - reading a user's object may raise anything
            pass_interruption(error)
            return f"<{type(value).__name__}: {type(error).__name__} when read>"

    def may_go_on(self, steps: int = 1) -> bool:
        """Counts steps and returns False once bytes or time are used up."""
        self._steps += steps
        if self._steps >= self._next_check:
            self._next_check = self._steps + _STEPS_PER_CHECK
            if monotonic() > self._deadline:
                self.room = 0
        return self.room > 0

    def _of(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self.room -= _SCALAR
            return value
        if isinstance(value, int):
            self.room -= _SCALAR
            # Python refuses to convert longer integers to decimal.
            return int.__int__(value) if value.bit_length() <= _LONGEST_INTEGER else f"<{value.bit_length()} bits>"
        if isinstance(value, float):
            self.room -= _SCALAR
            return float.__float__(value) if math.isfinite(value) else float.__repr__(value)
        if not self.may_go_on() or depth > DEPTH:
            return CUT
        if isinstance(value, str):
            return self._string(value, depth)
        if isinstance(value, (bytes, bytearray, memoryview)):
            self.room -= _SCALAR
            return f"<{len(value)} bytes>"
        if id(value) in self._above:
            return "<recursion>"
        self.room -= _SMALL
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
            return self.of(fields, depth)
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
            if not self.may_go_on():
                copy[CUT] = True
                break
            if instead:
                item = instead.get(original, item)
            key, is_secret = self._key(original)
            self._text.has_decoded = False
            copy[key] = self.value(key, is_secret, item, depth)
            has_decoded |= self._text.has_decoded and isinstance(item, str)
            if key == CUT:
                break
            role = key.lower() if len(key) <= _LONGEST_ROLE else ""
            is_cut = key.endswith(CUT)
            is_naming = is_cut or role in NAMING
            if role in NAMING:
                is_named = bool(is_named) or self._names_secret(item)
            elif role in ALSO_NAMING and item != "token":  # an event of a stream of tokens
                is_named = self._names_secret(item) or is_named
            elif role in HOLDING:
                holding.append(key)
        if has_decoded:
            copy[DECODED] = True
        if is_named or ((is_cut or CUT in copy) and (is_named is None or is_naming)):  # the name may have been cut
            copy |= {key: REDACTED for key in holding if copy[key] is not None}
        return copy

    def _key(self, key: object) -> tuple[str, bool]:
        """A key as it is logged, and whether it names a secret."""
        if isinstance(key, str):
            text = str.__str__(key)
        elif isinstance(key, bytes):
            text = key.decode("latin-1")  # an ASGI header
        elif isinstance(key, (tuple, frozenset)):
            text = repr(self._sequence(key, DEPTH))
        else:
            text = str(key) if not isinstance(key, int) or key.bit_length() <= _LONGEST_INTEGER else "<number>"
        is_secret = self.is_secret(text)
        kept = beginning(text, self.room)
        self.room -= size_of(kept) + _SMALL
        is_cut = len(kept) < len(text)
        if len(kept) >= _SHORTEST_CREDENTIAL:
            kept = self.in_text.redact_shapes(kept)
        return f"{kept} {CUT}" if is_cut else kept, is_secret

    def value(self, key: str, is_secret: bool, item: object, depth: int) -> Any:
        """The copy of a value that has a key."""
        if item is None:
            return self.of(None, depth)
        if is_secret:
            is_secret = not (isinstance(item, (int, float)) and is_counted(key))
        elif isinstance(item, (str, list, tuple)):
            # A list of ``tokens`` is what a model reads and writes; secret ones have a word before it.
            is_plain_list = key.lower() == "tokens" and not isinstance(item, str)
            is_secret = not is_plain_list and may_be_tokens(key) and _has_text(item)
        if is_secret:
            self.room -= len(REDACTED)
            return REDACTED
        copy = self.of(item, depth)
        for function in self.functions:
            try:
                verdict = function(key, copy)
            except Exception as error:  # noqa: BLE001 - a value is not logged if its rule fails
                pass_interruption(error)
                return REDACTED
            if verdict is True:
                return REDACTED
            if verdict is not None and verdict is not False and verdict is not copy:
                copy = self.of(verdict, depth)
        return copy

    def _names_secret(self, name: object) -> bool:
        if isinstance(name, Mapping) and len(name) == 1:
            (name,) = name.values()  # a DynamoDB string: {"S": "Authorization"}
        if isinstance(name, bytes):
            name = name[:_LONGEST_NAME].decode("latin-1")
        return isinstance(name, str) and len(name) <= _LONGEST_NAME and self.is_secret(name)

    def _sequence(self, value: Iterable[Any], depth: int) -> list[Any]:
        if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], (str, bytes)):
            # It may be a pair, as in a list of headers.
            name = value[0] if isinstance(value[0], str) else value[0][:_LONGEST_NAME].decode("latin-1")
            if len(name) <= _LONGEST_NAME:
                return [self.of(value[0], depth), self.value(name, self.is_secret(name), value[1], depth)]
        copy: list[Any] = []
        is_announced = False
        for index, item in enumerate(value):
            if not self.may_go_on():
                copy.append(CUT)
                break
            if is_announced and item is not None:
                copy.append(REDACTED)
                is_announced = False
                continue
            copy.append(self.of(item, depth))
            # An option of a command line, ["--api-key", "..."], or a flat list of headers as in Node:
            # ["Host", "h", "Authorization", "..."]
            is_announced = isinstance(item, str) and (item[:1] == "-" or index % 2 == 0) and self._names_secret(item)
        return copy

    # Strings

    def _string(self, value: str, depth: int) -> str:
        room = self.room
        text = self._text.clean(str.__str__(value), depth)
        self.room = min(self.room, room - _SMALL - size_of(text))
        return text

    def _plain_body(self, body: object) -> dict[str, Any]:
        """The entries that replace a base64 body in an event; empty if the body is not base64. No more is decoded
        than there is room for."""
        if not isinstance(body, str) or not body:
            return {}
        # UTF-8 has at most four bytes a character, so this much text is either all, or more than fits.
        most = (4 * max(self.room, 0)) // 3 * 4 + 8
        encoded = "".join(body[: 2 * most].split())
        is_cut = len(body) > 2 * most or len(encoded) > most
        plain = decode_base64(encoded[:most] if is_cut else encoded, self.room, is_cut=is_cut)
        if plain is None:
            return {}
        if isinstance(plain, str):
            return {"body": plain, "isBase64Encoded": False, DECODED: True}
        return {"body": f"<{len(body)} characters of base64>" if is_cut else f"<{len(plain)} bytes>"}


def _has_text(item: str | list[Any] | tuple[Any, ...]) -> bool:
    """True for a text that is no number, and for a list with one."""
    texts = (item,) if isinstance(item, str) else item
    return any(isinstance(text, str) and not text[:_LONGEST_NAME].replace(".", "").isdecimal() for text in texts)


def _fields_of(value: object) -> object:
    """The fields of a model, dataclass or named tuple by name; None for other objects. For a model of a list, the
    list."""
    kind = type(value)
    if isinstance(value, type):
        return None
    if isinstance(value, tuple):
        names: Iterable[str] | None = getattr(kind, "_fields", None)
        return dict(zip(names, value, strict=False)) if names is not None else None
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped: object = dump()
        return dumped
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    else:
        # msgspec and pydantic 1.
        names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__fields__", None)
    return {name: getattr(value, name) for name in names} if isinstance(names, (list, tuple, dict)) else None
