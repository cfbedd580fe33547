"""A rule on an event bus: classifies what customers said."""

from fake_model import complete

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    return {"id": event["id"], "mood": complete(event["detail"]["text"])}
