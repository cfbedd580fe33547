"""Keys in the query of Azure's URLs. Such a URL grants access by itself.

``code`` is the key of a function or of an extension. The URLs in the response of a durable function's HTTP starter have
it too. ``sig`` signs access to storage and workflows.
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
    """A guard with the same settings that redacts these keys in URLs only. Elsewhere, such as in a response's JSON,
    ``code`` is rarely a key."""
    copy = guard.with_settings(guard.settings)
    copy.payload = Payload(guard.settings.redact, guard.settings.max_payload_bytes, KEYS_IN_URLS)
    return copy
