"""Keys that Azure puts into the query of URLs: whoever has such a URL needs no other key.

``code`` is the key of a function, or of an extension as in the URLs that an HTTP starter of durable functions answers
with; ``sig`` signs access to storage and to workflows.
https://learn.microsoft.com/azure/azure-functions/function-keys-how-to,
https://learn.microsoft.com/azure/azure-functions/durable/durable-functions-http-api and
https://learn.microsoft.com/azure/storage/common/storage-sas-overview
"""

from __future__ import annotations

import re

from trace_guard import Guard
from trace_guard.payload import REDACTED, Payload

__all__ = ["KEYS_IN_URLS", "without_keys"]

KEYS_IN_URLS = ("code", "sig")

# JSON of .NET writes & as a backslash and u0026.
_IN_URL = re.compile(rf"((?:[?&]|\\+u0026)(?:{'|'.join(KEYS_IN_URLS)})=)[^&#\s\"'<>\\]+", re.IGNORECASE)


def without_keys(guard: Guard) -> Guard:
    """A guard like this one, which captures no URL's key. They are no names to be redacted everywhere: an answer's
    ``code`` is seldom one."""
    found = guard.like(guard.settings)
    found.payload = _Keyless(guard.settings.redact, guard.settings.max_payload_bytes)
    return found


class _Keyless(Payload):
    def text(self, text: str, room: int) -> str:
        kept = super().text(text, room)
        return _IN_URL.sub(lambda found: found[1] + REDACTED, kept) if "=" in kept else kept
