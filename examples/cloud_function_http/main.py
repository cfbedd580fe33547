"""Answers questions about orders over HTTP, as a function of Cloud Run or Cloud Functions.

Only the decorator ``guard_handler`` on ``ask`` is specific to trace-guard.
"""

import time

import braintrust
import functions_framework

from trace_guard_gcf import guard_handler

ORDERS = {"1042": {"parcel": "Z-77", "state": "with the carrier"}}


@functions_framework.http
@guard_handler(project="support-bot")
def ask(request):
    question = (request.get_json(silent=True) or {}).get("question")
    if not question:
        return {"error": 'send {"question": "..."}'}, 400
    order = find_order(question)
    return {"answer": ask_model(f"{question} {order}")}


@braintrust.traced(type="tool")
def find_order(question):
    number = next((word.strip("?.,") for word in question.split() if word.strip("?.,").isdigit()), None)
    return ORDERS[number]  # an unknown order raises KeyError, which the trace records


@braintrust.traced(type="llm")
def ask_model(prompt):
    """Stands in for a model provider, so that the example runs without a key."""
    time.sleep(0.02)
    braintrust.current_span().log(metrics={"prompt_tokens": len(prompt.split()), "completion_tokens": 5})
    return "Your parcel is with the carrier."
