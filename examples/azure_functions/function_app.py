"""Answers questions about orders over HTTP, and sorts the messages of a queue. Each invocation is a trace.

Only ``guard_app`` on the last line is specific to trace-guard.
"""

import asyncio
import json
import time

import azure.functions as func
import braintrust

from trace_guard_azure import guard_app

ORDERS = {"1042": {"parcel": "Z-77", "state": "with the carrier"}}

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@app.route(route="ask", methods=["POST"])
async def ask(req: func.HttpRequest) -> func.HttpResponse:
    question = json.loads(req.get_body() or b"{}").get("question")
    if not question:
        return func.HttpResponse('send {"question": "..."}', status_code=400)
    order = find_order(question)
    answer = await asyncio.to_thread(ask_model, f"{question} {order}")
    return func.HttpResponse(json.dumps({"answer": answer}), mimetype="application/json")


@app.queue_trigger(arg_name="message", queue_name="tickets", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="sorted_ticket", queue_name="sorted", connection="AzureWebJobsStorage")
def sort_ticket(message: func.QueueMessage, sorted_ticket: func.Out[str]) -> None:
    """Azure retries a failed ticket up to five times. Each attempt is a trace of its own."""
    ticket = message.get_json()
    team = ask_model(f"Which team is this for? {ticket['text']}")
    sorted_ticket.set(json.dumps({"ticket": ticket["ticket"], "team": team}))


@braintrust.traced(type="tool")
def find_order(question):
    number = next((word.strip("?.,") for word in question.split() if word.strip("?.,").isdigit()), None)
    return ORDERS[number]  # an unknown order raises KeyError, which the trace records


@braintrust.traced(type="llm")
def ask_model(prompt):
    """Stands in for a model provider, so that the example runs without a key."""
    time.sleep(0.02)
    answer = "Your parcel is with the carrier."
    if prompt.startswith("Which team"):
        answer = "billing" if "invoice" in prompt else "shipping"
    braintrust.current_span().log(metrics={"prompt_tokens": len(prompt.split()), "completion_tokens": 5})
    return answer


guard_app(app, project="support-bot")
