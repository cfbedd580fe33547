"""Which parent an invocation adopts: only a span that Braintrust has."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import braintrust
from braintrust.span_identifier_v4 import SpanComponentsV4

from ..contain import logger, warn_once

__all__ = ["adoptable"]

_PARENT_KEY = "braintrust.parent="


def adoptable(
    parent: str | Mapping[str, str] | None,
) -> tuple[str | Mapping[str, str] | None, dict[str, str]]:
    """The parent if Braintrust has it; as metadata the ids of a parent that it does not have.

    A text that is not an exported span is no parent; a warning says so once. A foreign ``traceparent`` without
    ``baggage: braintrust.parent`` names a span that Braintrust has never seen: a root below it would have a dead
    parent.
    """
    if parent is None or isinstance(parent, str):
        return (parent if parent and parent.strip() and _is_exported(parent) else None), {}
    headers = {str(name).lower(): str(value) for name, value in parent.items()}
    traceparent = headers.get("traceparent", "")
    if not traceparent:
        return None, {}
    extract = getattr(braintrust, "extract_trace_context", None)
    if extract is not None and _PARENT_KEY in headers.get("baggage", ""):
        context = extract(headers)
        if context:
            return context, {}
    return None, {"traceparent": traceparent}


@functools.lru_cache(maxsize=128)  # many tasks have one parent
def _is_exported(text: str) -> bool:
    """True if the SDK can read it as a span, or as an object that has spans."""
    try:
        found = SpanComponentsV4.from_str(text)
        if found.object_id or found.compute_object_metadata_args:
            return True
    except Exception as error:  # noqa: BLE001 - what it raises depends on what is in the text
        logger.debug("%.80r is not an exported span: %s", text, error)
    warn_once("parent", "the parent %.80r (of TRACE_GUARD_PARENT or parent=) is not an exported span: the work "
              "below it begins a trace of its own", text)
    return False
