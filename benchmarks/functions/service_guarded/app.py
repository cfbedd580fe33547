"""The service traced and guarded."""

import time

import braintrust
import flask

from trace_guard_gcf import GuardMiddleware

app = flask.Flask(__name__)
app.wsgi_app = GuardMiddleware(app.wsgi_app, project="bench")


@app.get("/")
def answer():
    with braintrust.start_span(name="model"):
        time.sleep(0.02)
    return {"answer": 42}
