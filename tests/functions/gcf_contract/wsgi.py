"""A WSGI service that runs the contract's user code on request."""

import flask
from contract import user_code
from main import reports

from trace_guard_gcf import GuardMiddleware

app = flask.Flask(__name__)
app.wsgi_app = GuardMiddleware(app.wsgi_app, name="root")


@app.post("/ask")
@reports
def ask():
    return getattr(user_code, flask.request.args["code"])()
