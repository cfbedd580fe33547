"""Attachments in the rows that are read from an object with credentials of its own.

The SDK downloads attachments with the login of the process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import braintrust.logger as bt

from ..contain import contain
from .call_state import CallState

__all__ = ["read_attachments_with"]

_ASKED = ("key", "url", "filename", "content_type")


def read_attachments_with(state: CallState, plain: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """What an object does with each row that it reads: ``plain``, the SDK's own, and then its attachments are to be
    downloaded with this state."""
    def mutate(record: Any) -> Any:
        record = record if plain is None else plain(record)
        with contain("read attachments with the credentials of an object"):
            for attachment in _attachments(record):
                attachment.metadata = functools.partial(_metadata, state, attachment.reference)
        return record

    return mutate


def _metadata(state: CallState, reference: dict[str, Any]) -> Any:
    """Stands in for ``ReadonlyAttachment.metadata()``."""
    asked: dict[str, Any] = {name: reference[name] for name in _ASKED if name in reference}
    asked["org_id"] = state.org_id or ""
    response = state.api_conn().get("/attachment", params=asked)  # type: ignore[no-untyped-call]
    response.raise_for_status()
    return response.json()


def _attachments(value: Any) -> Iterator[Any]:
    if isinstance(value, bt.ReadonlyAttachment):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _attachments(one)
