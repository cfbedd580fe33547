"""A queue of tickets. Messages that fail are reported, and come again alone."""

import json

from fake_model import complete

from trace_guard_lambda import guard_handler, guard_record


@guard_record
def sort_ticket(record):
    return complete(json.loads(record["body"])["text"])


@guard_handler
def handler(event, context):
    failures = []
    for record in event["Records"]:
        try:
            sort_ticket(record)
        except RuntimeError:
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}
