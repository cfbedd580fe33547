"""Sorts the messages of a Pub/Sub topic. Each event is a trace, which is closed when the message has been handled.

If the trigger retries, a failed message is delivered again. Each attempt is a trace of its own.
"""

import base64
import json
import time

import braintrust
import functions_framework

from trace_guard_gcf import guard_handler


@functions_framework.cloud_event
@guard_handler(project="support-desk", tags=["inbox"])
def sort_message(event):
    message = json.loads(base64.b64decode(event.data["message"]["data"]))
    return {"ticket": message["ticket"], "team": ask_model(f"Which team is this for? {message['text']}")}


@braintrust.traced(type="llm")
def ask_model(prompt):
    """Stands in for a model provider, so that the example runs without a key."""
    time.sleep(0.02)
    answer = "billing" if "invoice" in prompt else "shipping"
    braintrust.current_span().log(metrics={"prompt_tokens": len(prompt.split()), "completion_tokens": 1})
    return answer
