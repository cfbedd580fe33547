"""Sorts the messages of a support queue. Each invocation handles a batch, and each message has a span of its own.

The function reports failed messages to SQS, which delivers only these again.
"""

import json
import time

import braintrust
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from trace_guard_lambda import guard_handler, guard_record

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


@guard_handler(project="support-desk")
def handler(event, context):
    return process_partial_response(event, sort_message, processor, context)


@guard_record(name="sort message")
def sort_message(record):
    message = json.loads(record.body)
    answer = ask_model(f"Which team is this for? {message['text']}")
    return {"ticket": message["ticket"], "team": answer}


@braintrust.traced(type="llm")
def ask_model(prompt):
    """Stands in for a model provider, so that the example runs without a key."""
    time.sleep(0.02)
    answer = "billing" if "invoice" in prompt else "shipping"
    braintrust.current_span().log(metrics={"prompt_tokens": len(prompt.split()), "completion_tokens": 1})
    return answer
