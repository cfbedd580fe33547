"""A function that runs the contract's user code that its event names."""

from contract import user_code

from trace_guard_lambda import guard_handler


@guard_handler(name="root")
def handler(event, context):
    return getattr(user_code, event["code"])()
