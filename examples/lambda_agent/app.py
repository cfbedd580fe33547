"""A support agent on AWS Lambda. It plans, calls two tools, and lets a model write the answer.

Only the decorator on ``handler`` is specific to trace-guard. The event is the question, or a request to the function's
URL with the question as its body. Its ``scenario`` chooses how the function ends.
"""

import json
import os
import sys
import time

import braintrust
from fake_llm import FakeLLM

from trace_guard_lambda import guard_handler

llm = FakeLLM()


@guard_handler(project="demo-agent")
def handler(event, context):
    if "requestContext" in event:
        try:
            return {"statusCode": 200, "body": json.dumps(answer(json.loads(event["body"])))}
        except (KeyError, ValueError):
            return {"statusCode": 400, "body": 'send {"question": "..."}'}
    return answer(event)


def answer(event):
    question, scenario = event["question"], event.get("scenario", "returns")
    facts = {}
    for tool in plan(question):
        facts |= TOOLS[tool](facts)
    go_wrong(scenario, facts)
    text = ask("answer", f"{question} {facts}", seconds=30 if scenario == "slow" else None)
    return {"answer": text, **({"facts": facts} if scenario == "returns_no_json" else {})}


@braintrust.traced
def plan(question):
    return ask("plan", question)


@braintrust.traced(type="llm")
def ask(task, prompt, seconds=None):
    answer, tokens = llm.complete(task, prompt, seconds)
    braintrust.current_span().log(metrics=tokens)
    return answer


@braintrust.traced(type="tool")
def find_order(facts):
    return {"order": 1042, "parcel": "Z-77"}


@braintrust.traced(type="tool")
def track_parcel(facts):
    return {"parcel": facts["parcel"], "state": "with the carrier"}


@braintrust.traced(type="tool")
def call_the_carrier(facts):
    time.sleep(30)


TOOLS = {"find_order": find_order, "track_parcel": track_parcel}


def go_wrong(scenario, facts):
    if scenario == "raises":
        raise LookupError(f"no parcel {facts['parcel']}")
    if scenario == "leaves_open":
        braintrust.start_span(name="stream the answer")  # never ended  # trace-guard: ignore[TG001]
    if scenario == "exits":
        sys.exit(3)
    if scenario == "crashes":
        os._exit(7)  # like a crash in native code
    if scenario == "returns_no_json":
        facts["parcels"] = {facts["parcel"]}
    if scenario == "times_out":
        call_the_carrier(facts)
