"""A task of a state machine. It raises an error that the machine retries by name."""

from fake_model import complete

from trace_guard_lambda import guard_handler


class ModelIsBusy(Exception):
    pass


@guard_handler
def handler(event, context):
    try:
        return {**event["input"], "verdict": complete(event["input"]["claim"])}
    except RuntimeError as error:
        raise ModelIsBusy("try again later") from error
