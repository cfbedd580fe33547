"""An application that traces at import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import braintrust

import trace_guard
from trace_guard_gcf.middleware import GuardMiddleware

trace_guard.default_guard().start()
logger = braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"])
with logger.start_span(name="at import") as span:
    span.log(output=os.getpid())


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with braintrust.start_span(name="work") as span:
        span.log(output=os.getpid())
        time.sleep(float(environ["PATH_INFO"].rpartition("/")[2]))
    braintrust.flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


app = GuardMiddleware(answer)
