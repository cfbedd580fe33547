"""A Cognito trigger changes the event that it returns."""

from trace_guard_lambda import guard_handler


@guard_handler
def handler(event, context):
    if not event["request"]["userAttributes"]["email"].endswith("@example.org"):
        raise ValueError("sign-up is for members only")
    event["response"]["autoConfirmUser"] = True
    return event
