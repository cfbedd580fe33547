"""A service, traced as ``TRACED`` says: ``no``, ``sdk``, ``flush`` (by the SDK, flushed in ``finally`` as its
documentation advises) or ``guard``.

A request says in its query how many spans it makes, how many bytes each has as input, and how many milliseconds it
waits for something. ``/usage`` answers what this process has used so far.
"""

import json
import os
import threading
import time
from pathlib import Path

import flask

TRACED = os.environ["TRACED"]
app = flask.Flask(__name__)
request_threads = {}


@app.get("/")
def answer():
    asked = flask.request.args
    work = float(asked.get("work", 0)) / 1000
    text = "x" * int(asked.get("bytes", 0)) or None
    for _ in range(int(asked.get("spans", 1))):
        if TRACED != "no":
            with braintrust.start_span(name="model", input=text):
                time.sleep(work)
        else:
            time.sleep(work)
    return {"answer": 42}


if TRACED == "guard":
    import braintrust

    from trace_guard_gcf import GuardMiddleware

    app.wsgi_app = GuardMiddleware(app.wsgi_app, project="bench")

elif TRACED != "no":
    import braintrust

    logger = braintrust.init_logger(project="bench")
    answer_alone = app.view_functions["answer"]

    def traced():
        try:
            request = {"method": flask.request.method, "path": flask.request.path}
            with logger.start_span(name="GET /", input=request) as span:
                response = answer_alone()
                span.log(metadata={"http.response.status_code": 200})
                return response
        finally:
            if TRACED == "flush":
                logger.flush()

    app.view_functions["answer"] = traced


def usage():
    """Seconds of CPU of the process and of the threads that answer requests, and the latter's voluntary switches."""
    switches = 0
    for thread in request_threads.values():
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    seconds = sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in request_threads)
    return {"process": time.process_time(), "threads": seconds, "switches": switches}


def counted(application):
    def respond(environ, start_response):
        if environ["PATH_INFO"] == "/usage":
            body = json.dumps(usage()).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        ident = threading.get_ident()
        if ident not in request_threads:
            request_threads[ident] = threading.current_thread()
        return application(environ, start_response)

    return respond


app.wsgi_app = counted(app.wsgi_app)
