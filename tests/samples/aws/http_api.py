"""An HTTP API that summarises text. The answer is plain JSON, without a status."""

import json

from fake_model import complete

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    text = json.loads(event["body"])["text"]
    return {"summary": complete(text)}
