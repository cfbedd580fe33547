"""Keys that Azure puts into the query of URLs: whoever has such a URL needs no other key.

``code`` is the key of a function, or of an extension as in the URLs that an HTTP starter of durable functions answers
with; ``sig`` signs access to storage and to workflows.
https://learn.microsoft.com/azure/azure-functions/function-keys-how-to,
https://learn.microsoft.com/azure/azure-functions/durable/durable-functions-http-api and
https://learn.microsoft.com/azure/storage/common/storage-sas-overview
"""

from __future__ import annotations

from trace_guard import Guard
from trace_guard.payload import Payload

__all__ = ["KEYS_IN_URLS", "without_keys"]

KEYS_IN_URLS = ("code", "sig")


def without_keys(guard: Guard) -> Guard:
    """A guard like this one, which captures no URL's key. They are no names to be redacted everywhere: an answer's
    ``code`` is seldom one."""
    found = guard.with_settings(guard.settings)
    found.payload = Payload(guard.settings.redact, guard.settings.max_payload_bytes, KEYS_IN_URLS)
    return found
