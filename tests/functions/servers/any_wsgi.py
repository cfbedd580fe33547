"""A WSGI application for any server. Traces of paths below ``/later/`` are delivered after the response."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import braintrust

from trace_guard_gcf import GuardMiddleware


class Body:
    """Neither a list nor an iterator, so that only the server knows whether it is read."""

    def __iter__(self) -> Iterator[bytes]:
        with braintrust.start_span(name="body"):
            yield str(os.getpid()).encode()


def answer(environ: Any, start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path.startswith("/fails"):
        raise ValueError("no such order")
    with braintrust.start_span(name="step"):
        start_response("204 No Content" if path == "/nothing" else "200 OK", [("Content-Type", "text/plain")])
    return Body()


application = GuardMiddleware(
    GuardMiddleware(answer, flush="after-response"), exclude=["/later/*"], flush="before-response"
)

if "SPAN_AT_IMPORT" in os.environ:
    braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"]).start_span(name="at import").end()
