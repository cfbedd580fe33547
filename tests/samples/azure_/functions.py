"""A function app with a function for each kind of trigger, two of them in a blueprint."""

import json
from typing import List  # noqa: UP035 - the indexer knows no other

import azure.functions as func
from fake_model import complete

from trace_guard_azure import guard_handler, guard_records

app = func.FunctionApp()
blueprint = func.Blueprint()


@app.route(route="ask/{topic}", methods=["POST"])
@guard_handler
def ask(req: func.HttpRequest) -> func.HttpResponse:
    try:
        prompt = req.get_json()["prompt"]
    except (ValueError, KeyError):
        return func.HttpResponse("send a prompt", status_code=400)
    answer = {"topic": req.route_params["topic"], "answer": complete(prompt)}
    return func.HttpResponse(json.dumps(answer), mimetype="application/json")


@app.queue_trigger(arg_name="message", queue_name="tickets", connection="Storage")
@app.queue_output(arg_name="sorted", queue_name="sorted", connection="Storage")
@guard_handler
def sort_ticket(message: func.QueueMessage, sorted: func.Out[str]) -> None:
    sorted.set(complete(message.get_body().decode()))


@app.blob_trigger(arg_name="document", path="incoming/{name}", connection="Storage")
@guard_handler
def index_document(document: func.InputStream) -> None:
    complete(document.read().decode())


@app.event_hub_message_trigger(
    arg_name="events", event_hub_name="clicks", connection="Hub", cardinality=func.Cardinality.MANY
)
@guard_handler
def read_clicks(events: List[func.EventHubEvent]) -> None:  # noqa: UP006
    for event in guard_records(events):
        json.loads(event.get_body())


@blueprint.timer_trigger(arg_name="timer", schedule="0 0 6 * * *")
@guard_handler
async def morning_digest(timer: func.TimerRequest) -> None:
    if timer.past_due:
        raise TimeoutError("too late for a digest")
    complete("the morning")


@blueprint.route(route="health")
@guard_handler
def health(req: func.HttpRequest) -> str:
    return "fine"


app.register_functions(blueprint)
