"""A function that is killed at any moment: a few spans, and as long as the event says."""

from __future__ import annotations

import time
from typing import Any

import braintrust

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    for number in range(event["spans"]):
        with braintrust.start_span(f"span {number}", input="x" * 500) as span:
            if number % 2:
                span.start_span("left open")
            time.sleep(event["seconds"] / event["spans"])
    return {"root": braintrust.current_span().root_span_id}
