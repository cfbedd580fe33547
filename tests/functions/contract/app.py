"""A function that runs what its event names of the contract's user code."""

from contract import user_code

from trace_guard_lambda import guard_handler


@guard_handler(name="root")
def handler(event, context):
    return getattr(user_code, event["code"])()
