"""Traces across services through Google's front end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import braintrust
import pytest
from services import GTHREAD, Service, named, run
from support import PROJECT_ID

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.testing import BraintrustServer
from trace_guard_gcf import propagate
from trace_guard_gcf.propagation import carrier_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
BAGGAGE = f"braintrust.parent=project_id%3A{PROJECT_ID}"


def test_a_guarded_service_calls_another(tmp_path: Path) -> None:
    """With the headers of propagate(), the called service's root is a child of the caller's current span, despite
    the front end's own span."""
    guard = Guard(backend=MemoryBackend(), dir=tmp_path, project_id=PROJECT_ID)
    with guard.invocation("caller"), braintrust.start_span(name="call") as span:
        headers = propagate({"Accept": "text/plain"})
    guard.close()
    assert headers["Accept"] == "text/plain"
    with BraintrustServer() as server, run(GTHREAD, server) as sandbox:
        _, rows = Service(sandbox, server).ask("/orders/1", headers=headers)
    root: Any = named(rows)["GET /orders/<order>"]
    assert (root["root_span_id"], root["span_parents"]) == (span.root_span_id, [span.span_id])


def test_the_front_ends_span_is_no_parent() -> None:
    """With the SDK's headers alone, the request is a trace of its own, and the ids of the front end's span are
    recorded as metadata."""
    with BraintrustServer() as server, run(GTHREAD, server) as sandbox:
        _, rows = Service(sandbox, server).ask("/orders/1", headers={"traceparent": TRACEPARENT, "baggage": BAGGAGE})
    root: Any = named(rows)["GET /orders/<order>"]
    assert root["span_parents"] is None
    assert root["metadata"]["traceparent"].split("-")[1] == TRACE


def test_outside_a_span_nothing_is_added() -> None:
    """Without a current span, the headers are unchanged."""
    assert propagate({"Accept": "text/plain"}) == {"Accept": "text/plain"}
    assert propagate() == {}


@pytest.mark.parametrize(("headers", "found"), [
    ({}, {}),
    ({"baggage": BAGGAGE}, {}),
    ({"Traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT}),
    ({"traceparent": TRACEPARENT, "baggage": BAGGAGE, "X-Cloud-Trace-Context": f"{TRACE}/1;o=1"},
     {"traceparent": TRACEPARENT, "baggage": BAGGAGE}),
    ({"traceparent": TRACEPARENT, "baggage": BAGGAGE, "X-Cloud-Trace-Context": f"{TRACE}/{int(SPAN, 16)};o=1"},
     {"traceparent": TRACEPARENT}),
    ({"traceparent": "nonsense", "baggage": "trace_guard.traceparent=worse", "x-cloud-trace-context": "a/b;c"},
     {"traceparent": "nonsense", "baggage": "trace_guard.traceparent=worse"}),
    ({"traceparent": TRACEPARENT, "x-cloud-trace-context": "/" + "9" * 5000}, {"traceparent": TRACEPARENT}),
])
def test_only_wellformed_headers_name_a_parent(headers: dict[str, str], found: dict[str, str]) -> None:
    """Only well-formed headers name a parent, the platform's own span is none, and odd headers do no harm."""
    assert carrier_of(headers) == found
