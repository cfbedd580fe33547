"""Trace contexts that pass Google's front end.

The front end of Cloud Run replaces the span id in ``traceparent`` by that of a span of its own, and puts the same id
into ``X-Cloud-Trace-Context``, in decimal. Braintrust does not have that span, so it must not become a parent. The
front end does not change ``baggage``, so :func:`propagate` sends a copy of ``traceparent`` in it.

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
    """Headers for a request to another guarded service, which finds its parent in them behind Google's front end.

    Args:
        headers: other headers of the request.

    Returns:
        The same headers and, within a span, ``traceparent`` and ``baggage``. Releases of the SDK before 0.26 add
        nothing.
    """
    import braintrust

    inject = getattr(braintrust, "inject_trace_context", None)
    sent: dict[str, str] = dict(headers or {})
    if inject is None:
        return sent
    sent = inject(sent)
    if "traceparent" in sent:
        member = f"{_MEMBER}={quote(sent['traceparent'], safe='')}"
        sent["baggage"] = ",".join(filter(None, [sent.get("baggage"), member]))
    return sent


def carrier_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers that name a parent: ``traceparent``, ``tracestate`` and ``baggage``.

    If ``traceparent`` names the front end's span, ``baggage`` is left out, so that the span is recorded as metadata and
    does not become the parent.
    """
    fields = {name.lower(): value for name, value in headers.items() if name.lower() in (*_CARRIED, _CLOUD_TRACE)}
    cloud_trace = fields.pop(_CLOUD_TRACE, "")
    sent = _sent_traceparent(fields.get("baggage", ""))
    if sent is not None:
        fields["traceparent"] = sent
    elif _is_replaced(fields.get("traceparent", ""), cloud_trace):
        fields.pop("baggage", None)
    return fields if "traceparent" in fields else {}


def _sent_traceparent(baggage: str) -> str | None:
    """The ``traceparent`` that :func:`propagate` put into the baggage."""
    for member in baggage.split(","):
        name, _, value = member.partition("=")
        if name.strip() == _MEMBER:
            traceparent = unquote(value.partition(";")[0].strip())
            return traceparent if _WELL_FORMED.fullmatch(traceparent) else None
    return None


def _is_replaced(traceparent: str, cloud_trace: str) -> bool:
    """True if the front end has set ``traceparent``. Its own header is
    ``X-Cloud-Trace-Context: TRACE_ID/SPAN_ID;o=OPTIONS``, with the span's id in decimal."""
    span = cloud_trace.partition("/")[2].partition(";")[0]
    if not span.isdecimal() or not _WELL_FORMED.fullmatch(traceparent):
        return False
    return len(span) <= 20 and int(span) == int(traceparent.split("-")[2], 16)
