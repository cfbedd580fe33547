"""Sends rows that are larger than the server's limit by way of its object store, as the SDK does."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from ..contain import logger
from ..deadline import Deadline
from ..errors import BackendError, BackendUnavailable
from ..redaction.urls import strip_userinfo
from ..rows import OBJECT_KEYS
from .transport import Answer, Transport
from .urls import is_web_url

__all__ = ["DEFAULT_LIMIT", "Overflow", "upload_headers"]

DEFAULT_LIMIT = 6 * 1024 * 1024
"""The bytes of a request that every server takes: the SDK's DEFAULT_MAX_REQUEST_SIZE."""

_AZURE_BLOBS = "blob.core.windows.net"
_BLOB_TYPE = "x-ms-blob-type"
# Headers that the transport sets itself, even if the server asks for other values.
_OWN_HEADERS = frozenset({"connection", "content-length", "host", "transfer-encoding"})


class Overflow:
    """Uploads the body of a request to an object store.

    Args:
        ask: sends a request with the key to a path of the API, and returns its checked answer.
        transport: sends the requests to the object store, without the key.
    """

    def __init__(self, ask: Callable[[str, str, bytes, Deadline], Answer], transport: Transport) -> None:
        self._ask = ask
        self._transport = transport
        self._is_offered: bool | None = None

    def is_offered(self, deadline: Deadline) -> bool:
        """True if the server names a limit, above which it takes rows from its object store."""
        if self._is_offered is None:
            try:
                limit = _json(self._ask("GET", "/version", b"", deadline)).get("logs3_payload_max_bytes")
            except BackendError as error:
                logger.debug("the server's limit is not known: %s", error)
                return False
            self._is_offered = isinstance(limit, (int, float)) and limit > 0
        return self._is_offered

    def upload(self, rows: Sequence[bytes], body: bytes, deadline: Deadline) -> bytes:
        """Upload the body of a request. Returns the body that names it.

        Raises:
            BackendError: as in :meth:`.Backend.send`.
        """
        asked = {"content_type": "application/json", "size_bytes": len(body), "rows": [_about(row) for row in rows]}
        signed = _json(self._ask("POST", "/logs3/overflow", json.dumps(asked).encode(), deadline))
        url, key = signed.get("signedUrl"), signed.get("key")
        if not (isinstance(url, str) and is_web_url(url) and isinstance(key, str)):
            raise BackendUnavailable("the server answered without a signed URL for large rows")
        method, content, headers = "PUT", body, upload_headers(signed.get("headers"), url)
        if signed.get("method") == "POST":
            headers.pop(_BLOB_TYPE, None)
            fields: Mapping[str, Any] = signed.get("fields") or {}
            content_type = str(fields.get("Content-Type", "application/json"))
            content, headers["Content-Type"] = encode_multipart_formdata(
                [*((name, str(value)) for name, value in fields.items()), ("file", ("logs3.json", body, content_type))]
            )
            method = "POST"
        answer = self._transport.request(method, url, content, headers, deadline, follow=True)
        if not 200 <= answer.status < 300:
            host = urllib.parse.urlsplit(strip_userinfo(url)).netloc
            raise BackendUnavailable(
                f"the object store {host} answered {answer.status}: {answer.text}", status=answer.status,
                suspect_rows=True,
            )
        named = {"type": "logs3_overflow", "key": key, "size_bytes": len(body)}
        return json.dumps({"rows": named, "api_version": 2}).encode()


def upload_headers(given: Any, url: str) -> dict[str, str]:
    """The headers of an upload: those that the server wants, without those of the transport, and what Azure's object
    store requires, which a URL can't contain.

    Args:
        given: by the server, of any kind.
        url: of the upload.
    """
    headers = given if isinstance(given, Mapping) else {}
    wanted = {str(name): str(value) for name, value in headers.items() if str(name).lower() not in _OWN_HEADERS}
    if (urllib.parse.urlsplit(url).hostname or "").endswith(_AZURE_BLOBS):
        wanted[_BLOB_TYPE] = "BlockBlob"
    return wanted


def _about(encoded: bytes) -> dict[str, Any]:
    """What the server wants to know of a row before it is uploaded: whose it is, and its size in bytes."""
    row = json.loads(encoded)
    return {
        "object_ids": {name: row[name] for name in OBJECT_KEYS if name in row},
        "has_comment": "comment" in row,
        "is_delete": row.get("_object_delete") is True,
        "input_row": {"byte_size": len(encoded)},
    }


def _json(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise BackendUnavailable(f"the server did not answer with JSON: {answer.text}") from error
    return found if isinstance(found, dict) else {}
