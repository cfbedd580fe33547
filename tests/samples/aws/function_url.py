"""A function URL that turns the model's failure into a 502."""

from fake_model import complete

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    prompt = (event.get("queryStringParameters") or {}).get("prompt", "nothing")
    try:
        return {"statusCode": 200, "body": complete(prompt)}
    except RuntimeError as error:
        return {"statusCode": 502, "body": str(error)}
