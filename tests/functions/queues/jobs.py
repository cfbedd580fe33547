"""What the workers of queues run."""

import time

import braintrust

from trace_guard import Guard

guard = Guard()


@guard.wrap
def score(question):
    with braintrust.start_span(name="model", input=question):
        if question == "bad":
            raise ValueError("no answer")
        if question == "slow":
            time.sleep(60)
    return question
