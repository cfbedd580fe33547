"""A function with an internal extension, which registers and behaves as the environment variables request."""

import http.client
import json
import os
import signal
import socket
import threading
import time


def call(method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, f"/2020-01-01/extension/{path}", body, headers or {})
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body, response.headers.get("Lambda-Extension-Identifier")


def register(name, body):
    return call("POST", "register", body, {"Lambda-Extension-Name": name} if name else {})


def next_event(identifier):
    return call("GET", "event/next", headers={"Lambda-Extension-Identifier": identifier})


def extend(identifier):
    while True:
        events.append((next_event(identifier)[1], time.time()))
        time.sleep(float(os.environ.get("WORK", "0")))


def exit_on_sigterm():
    # Not in a signal handler, which would have to wait for the main thread.
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=lambda: ours.recv(1) and os._exit(5), daemon=True).start()


ours, theirs = socket.socketpair()
events = []
attempts = [register(name, body) for name, body in json.loads(os.environ.get("ATTEMPTS", "[]"))]
registered = None
if "EVENTS" in os.environ:
    registered = register("inside", json.dumps({"events": json.loads(os.environ["EVENTS"])}))
for _, _, identifier in [*attempts, registered or (0, 0, None)]:
    if identifier and "SILENT" not in os.environ:
        threading.Thread(target=extend, args=[identifier], daemon=True).start()
if os.environ.get("ON_SIGTERM") == "exit":
    exit_on_sigterm()
if os.environ.get("ON_SIGTERM") == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def tell(context):
    at = time.time()
    while os.environ.get("EVENTS") == '["INVOKE"]' and len(events) < tell.invocations:
        time.sleep(0.001)
    return {
        "event": {
            "eventType": "INVOKE",
            "deadlineMs": context._epoch_deadline_time_in_ms,
            "requestId": context.aws_request_id,
            "invokedFunctionArn": context.invoked_function_arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": os.environ.get("_X_AMZN_TRACE_ID")},
        },
        "at": at,
        "events": events,
        "registered": registered,
    }


tell.invocations = 0


def from_the_layer():
    import of_the_layer

    return [of_the_layer.WORD, os.environ.get("WRAPPED")]


WAYS = {
    "tell": tell,
    "attempts": lambda _: attempts,
    "register": lambda _: register("late", '{"events": []}'),
    "next of another": lambda _: next_event("00000000-0000-0000-0000-000000000000"),
    "next twice": lambda _: next_event(registered[2]),
    "from the layer": lambda _: from_the_layer(),
    "dawdle": lambda _: time.sleep(60),
    "exit": lambda _: os._exit(3),
    "nothing": lambda _: "fine",
}


def handler(event, context):
    tell.invocations += 1
    return WAYS[event](context)
