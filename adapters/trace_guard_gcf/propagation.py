"""Trace contexts through Google's front end.

On the way into Cloud Run the front end puts a span id of its own into ``traceparent``, and the same into
``X-Cloud-Trace-Context``, in decimal; the trace's id stays. Braintrust has no such span, so that who followed it
would have a dead parent. ``baggage`` is left alone: there the sender's own ``traceparent`` arrives.

https://cloud.google.com/trace/docs/trace-context
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

__all__ = ["carrier_of", "propagate"]

_CARRIED = ("traceparent", "tracestate", "baggage")
_CLOUD_TRACE = "x-cloud-trace-context"
_MEMBER = "trace_guard.traceparent"
_WELL_FORMED = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def propagate(headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers for a request to another guarded service, which will find its parent behind Google's front end too.

    Args:
        headers: what else is sent.

    Returns:
        The same and, within a span, ``traceparent`` and ``baggage``. Without a span, or with a release of the SDK
        before 0.26, nothing is added.
    """
    import braintrust

    inject = getattr(braintrust, "inject_trace_context", None)
    found: dict[str, str] = dict(headers or {})
    if inject is None:
        return found
    found = inject(found)
    if "traceparent" in found:
        member = f"{_MEMBER}={quote(found['traceparent'], safe='')}"
        found["baggage"] = ",".join(filter(None, [found.get("baggage"), member]))
    return found


def carrier_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers that name a parent: ``traceparent``, ``tracestate`` and ``baggage``; without the last if the
    parent is the front end's span, so that it is kept as metadata and not followed."""
    found = {name.lower(): value for name, value in headers.items() if name.lower() in (*_CARRIED, _CLOUD_TRACE)}
    cloud_trace = found.pop(_CLOUD_TRACE, "")
    own = _member(found.get("baggage", ""))
    if own is not None:
        found["traceparent"] = own
    elif _is_replaced(found.get("traceparent", ""), cloud_trace):
        found.pop("baggage", None)
    return found if "traceparent" in found else {}


def _member(baggage: str) -> str | None:
    for one in baggage.split(","):
        name, _, value = one.partition("=")
        if name.strip() == _MEMBER:
            found = unquote(value.partition(";")[0].strip())
            return found if _WELL_FORMED.fullmatch(found) else None
    return None


def _is_replaced(traceparent: str, cloud_trace: str) -> bool:
    """``X-Cloud-Trace-Context: TRACE_ID/SPAN_ID;o=OPTIONS``, with the span's id in decimal."""
    span = cloud_trace.partition("/")[2].partition(";")[0]
    if not span.isdecimal() or not _WELL_FORMED.fullmatch(traceparent):
        return False
    return len(span) <= 20 and int(span) == int(traceparent.split("-")[2], 16)
