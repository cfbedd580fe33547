"""The work traced and guarded."""

import braintrust

from trace_guard_lambda import guard_handler


@guard_handler(project="bench")
def handler(event, context):
    with braintrust.start_span(name="tool"):
        pass
    return {"answer": 42}
