"""Removes this process's own API keys from text, also if they are escaped or encoded."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections import OrderedDict

from .shapes import REDACTED

__all__ = ["remember_key", "without_known_keys"]

_LEAST_OF_A_KEY = 8
"""Shorter keys would also match within ordinary words."""
_MOST_KEYS = 64
_keys: OrderedDict[str, tuple[str, ...]] = OrderedDict()


def remember_key(key: str | None) -> None:
    """Remove this key from every text from now on, in each form in which it may be returned."""
    if key is None or len(key) < _LEAST_OF_A_KEY:
        return
    _keys[key] = _keys.pop(key, ()) or _forms(key)
    while len(_keys) > _MOST_KEYS:
        try:
            _keys.popitem(last=False)
        except KeyError:  # another thread removed it first
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
    # The base64 of a key depends on its offset modulo 3. Characters that encode neighbouring bytes are left out.
    for before in range(3):
        text = base64.b64encode(bytes(before) + encoded).decode().rstrip("=")
        whole = text[(0, 2, 3)[before] : len(text) - ((before + len(encoded)) % 3 > 0)]
        if len(whole) >= _LEAST_OF_A_KEY:
            forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return tuple(sorted((form for form in forms if form), key=len, reverse=True))


def without_known_keys(text: str) -> str:
    """The text without the remembered keys."""
    for forms in tuple(_keys.values()):
        for form in forms:
            if form in text:
                text = text.replace(form, REDACTED)
    return text
