"""A guarded function of the framework."""

from __future__ import annotations

import time

import braintrust
import flask
import functions_framework

from trace_guard_gcf import guard_handler


@functions_framework.http
@guard_handler
def main(request: flask.Request) -> str:
    with braintrust.start_span(name="work"):
        if request.path.startswith("/sleeps/"):
            time.sleep(float(request.path.rpartition("/")[2]))
    return "done"
