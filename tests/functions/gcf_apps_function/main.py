"""A function whose module puts the middleware around the framework's application and traces at import."""

from __future__ import annotations

import os
import time
from typing import Any

import braintrust
import flask
import functions_framework

import trace_guard
from trace_guard_gcf.middleware import GuardMiddleware

flask.current_app.wsgi_app = GuardMiddleware(flask.current_app.wsgi_app)  # type: ignore[method-assign]

trace_guard.default_guard().start()
logger = braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"])
with logger.start_span(name="at import") as span:
    span.log(output=os.getpid())


@functions_framework.http
def main(request: flask.Request) -> Any:
    with braintrust.start_span(name="work") as span:
        span.log(output=os.getpid())
        if request.path.startswith("/sleeps/"):
            time.sleep(float(request.path.rpartition("/")[2]))
    braintrust.flush()
    return str(os.getpid())
