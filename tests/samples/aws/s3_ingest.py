"""Indexes documents that arrive in a bucket."""

from urllib.parse import unquote_plus

from fake_model import complete

from trace_guard_lambda import guard_handler, guard_records


@guard_handler
def handler(event, context):
    indexed = []
    for record in guard_records(event["Records"]):
        key = unquote_plus(record["s3"]["object"]["key"])
        if key.endswith("/"):
            raise ValueError(f"{key} is a folder")
        indexed.append({"key": key, "summary": complete(key)})
    return {"indexed": indexed}
