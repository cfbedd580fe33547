"""The service traced with the SDK alone, flushed in ``finally`` as its documentation advises."""

import time

import braintrust
import flask

app = flask.Flask(__name__)
logger = braintrust.init_logger(project="bench")


@app.get("/")
def answer():
    try:
        with logger.start_span(name="request") as span, span.start_span(name="model"):
            time.sleep(0.02)
        return {"answer": 42}
    finally:
        logger.flush()
