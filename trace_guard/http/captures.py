"""What is logged of one request and its response: copies of both bodies, made while they pass.

The rule for all adapters is the table in docs/capture.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..contain import contain
from ..invocation.invocation import NOTHING, Invocation
from .bodies import BodyCopy, described_file, length_of
from .requests import HttpRequest

__all__ = ["HttpResponse", "RequestCopy", "ResponseCopy", "has_body"]


@dataclass(frozen=True)
class HttpResponse:
    """A response that a ``capture_output`` function gets from the middleware, or for a streamed result.

    Attributes:
        headers: by name, in lower case.
        body: the value of JSON, the fields of a form, text up to the limit, or type and size; None without a body.
    """

    status_code: int | None
    headers: Mapping[str, str]
    body: Any = None


class RequestCopy:
    """The body of a request, copied as the application reads it, and logged when it has been read.

    Args:
        is_due: the input is logged even if the application reads no body, as nothing is logged yet.

    Attributes:
        is_announced: the headers announce a body.
    """

    def __init__(self, invocation: Invocation, request: HttpRequest, *, is_due: bool) -> None:
        self._invocation = invocation
        self._request = request
        self._is_due = is_due
        self._length = length_of(request.headers)
        self.is_announced = has_body(request.headers)
        # A guarded function logs an event in a form of its own, and then drops this copy.
        self._waits = "ce-id" in request.headers or "cloudevents" in request.headers.get("content-type", "")
        self._body = BodyCopy(request.headers, invocation.guard.settings.max_payload_bytes)
        self._is_over = False

    @property
    def size(self) -> int:
        """How many bytes the application has read."""
        return self._body.size

    def take(self, chunk: Any, *, is_last: bool = False) -> None:
        """Copy a chunk that the application has read. Never raises."""
        if self._is_over:
            return
        with contain("copy the body of a request"):
            body = self._body
            body.add(chunk)
            is_read = is_last or body.is_full or (self._length is not None and body.size >= self._length)
            if is_read and not self._waits:
                self.log()

    def log(self) -> None:
        """Log what has been read. Only the first call has an effect."""
        if self._is_over:
            return
        self._is_over = True
        with contain("log the body of a request"):
            body = self._body.shown()
            if callable(self._invocation.guard.settings.capture_input):
                if body is not NOTHING or self._is_due:
                    self._invocation.log_input(replace(self._request, body=None if body is NOTHING else body))
            elif body is not NOTHING:
                self._invocation.log_input({"body": body})

    def drop(self) -> None:
        """Log nothing."""
        self._is_over = True


class ResponseCopy:
    """A response whose body is copied as it is sent.

    Args:
        headers: by name, in lower case.
        shows_status: whether the output has the status, or is the body alone.

    Attributes:
        add: copies a chunk.
    """

    def __init__(
        self, status: int | None, headers: Mapping[str, str], byte_limit: int, *, shows_status: bool = True
    ) -> None:
        self._status = status
        self._headers = headers
        self._shows_status = shows_status
        self._body = BodyCopy(headers, byte_limit)
        self._is_file = False
        self.add = self._body.add

    def is_file(self) -> None:
        """The server sends a file, which is not read here."""
        self._is_file = True

    @classmethod
    def read(cls, invocation: Invocation, output: Any) -> Any:
        """What is logged for an output, which may be a copy."""
        if not isinstance(output, cls):
            return output
        body = output._shown()
        if callable(invocation.guard.settings.capture_output):
            return HttpResponse(output._status, output._headers, None if body is NOTHING else body)
        if not output._shows_status:
            return body
        return {"status_code": output._status, **({} if body is NOTHING else {"body": body})}

    def _shown(self) -> Any:
        if self._is_file:
            return described_file(self._headers)
        return self._body.shown()


def has_body(headers: Mapping[str, str]) -> bool:
    """True if the headers of a request announce a body. Requests of HTTP/2 may have one without."""
    return "transfer-encoding" in headers or bool(length_of(headers))
