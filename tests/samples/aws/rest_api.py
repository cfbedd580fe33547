"""A REST API for notes: one handler that looks at the method itself."""

import json

from trace_guard_lambda import guard_handler

NOTES = {"1": "buy tea"}


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


@guard_handler
def handler(event, context):
    method = event["httpMethod"]
    note = (event.get("pathParameters") or {}).get("id")
    if method == "GET":
        return answer(200, NOTES[note]) if note in NOTES else answer(404, {"message": "no such note"})
    if method == "POST":
        return answer(201, {"text": json.loads(event["body"])["text"]})
    return answer(405, {"message": f"{method} is not allowed"})
