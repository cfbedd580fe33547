"""Keeps embeddings up to date with a table."""

from trace_guard_lambda import guard_handler, guard_records

EMBEDDINGS = {}


@guard_handler
def handler(event, context):
    for record in guard_records(event["Records"]):
        key = record["dynamodb"]["Keys"]["id"]["S"]
        if record["eventName"] == "REMOVE":
            EMBEDDINGS.pop(key, None)
        else:
            EMBEDDINGS[key] = len(record["dynamodb"]["NewImage"]["text"]["S"])
    return {"batchItemFailures": []}
