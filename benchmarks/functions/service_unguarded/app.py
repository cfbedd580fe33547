"""The service alone: no tracing."""

import time

import flask

app = flask.Flask(__name__)


@app.get("/")
def answer():
    time.sleep(0.02)
    return {"answer": 42}
