"""The work alone: no tracing."""


def handler(event, context):
    return {"answer": 42}
