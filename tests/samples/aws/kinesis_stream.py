"""Counts events of a stream. The first bad record ends the batch, which then comes again from there."""

import base64
import json

from trace_guard_lambda import guard_handler, guard_record


@guard_record
def read(record):
    return json.loads(base64.b64decode(record["kinesis"]["data"]))["kind"]


@guard_handler
def handler(event, context):
    for record in event["Records"]:
        try:
            read(record)
        except ValueError:
            return {"batchItemFailures": [{"itemIdentifier": record["kinesis"]["sequenceNumber"]}]}
    return {"batchItemFailures": []}
