"""A function for each kind of trigger, plain and async. ``GUARDED=no`` makes the same app without the guard.

Each returns what it was given, or raises if that is "raise".
"""

import copy
import os
from typing import List  # noqa: UP035 - the indexer knows no other

import azure.functions as func
import braintrust
from tidying import tidying

GUARDED = os.environ.get("GUARDED") != "no"
if GUARDED:
    from trace_guard_azure import guard_handler, guard_records
else:
    guard_records = list

    def guard_handler(function=None, **_):
        return (lambda given: given) if function is None else function

app = func.FunctionApp()
returns = app.generic_output_binding(arg_name="$return", type="report")


def report(value, body):
    if body == "raise":
        raise LookupError("no such order")
    return {"type": type(value).__name__, "body": body}


def reports(value):
    return report(value, value.get_body().decode())


def reports_all(values):
    bodies = []
    for value in guard_records(values):
        with braintrust.start_span(f"work on {value.get_body().decode()}"):
            bodies.append(report(value, value.get_body().decode())["body"])
    return {"type": type(value).__name__, "body": bodies}


@app.route(route="ask/{order}", methods=["POST"])
@guard_handler
def http(req: func.HttpRequest) -> func.HttpResponse:
    report(req, req.get_body().decode())
    return func.HttpResponse(f"{req.route_params['order']} {req.params.get('fast')}", status_code=202)


@app.route(route="ask-async/{order}", methods=["POST"])
@guard_handler
async def http_async(req: func.HttpRequest) -> func.HttpResponse:
    report(req, req.get_body().decode())
    return func.HttpResponse(f"{req.route_params['order']} {req.params.get('fast')}", status_code=202)


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@returns
@guard_handler
def timer(timer: func.TimerRequest):
    return report(timer, "raise" if timer.past_due else "")


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@returns
@guard_handler
async def timer_async(timer: func.TimerRequest):
    return report(timer, "raise" if timer.past_due else "")


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler
def queue(order: func.QueueMessage):
    return reports(order)


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler
async def queue_async(order: func.QueueMessage):
    return reports(order)


@app.service_bus_queue_trigger(arg_name="message", queue_name="orders", connection="Bus")
@returns
@guard_handler
def service_bus(message: func.ServiceBusMessage):
    return reports(message)


@app.service_bus_topic_trigger(
    arg_name="message", topic_name="orders", subscription_name="mine", connection="Bus"
)
@returns
@guard_handler
async def service_bus_async(message: func.ServiceBusMessage):
    return reports(message)


@app.service_bus_queue_trigger(
    arg_name="messages", queue_name="orders", connection="Bus", cardinality=func.Cardinality.MANY
)
@returns
@guard_handler
def service_bus_batch(messages: List[func.ServiceBusMessage]):  # noqa: UP006
    return reports_all(messages)


@app.event_hub_message_trigger(
    arg_name="event", event_hub_name="orders", connection="Hub", cardinality=func.Cardinality.ONE
)
@returns
@guard_handler
def event_hub(event: func.EventHubEvent):
    return reports(event)


@app.event_hub_message_trigger(
    arg_name="event", event_hub_name="orders", connection="Hub", cardinality=func.Cardinality.ONE
)
@returns
@guard_handler
async def event_hub_async(event: func.EventHubEvent):
    return reports(event)


@app.event_hub_message_trigger(
    arg_name="events", event_hub_name="orders", connection="Hub", cardinality=func.Cardinality.MANY
)
@returns
@guard_handler
def event_hub_batch(events: List[func.EventHubEvent]):  # noqa: UP006
    return reports_all(events)


@app.event_hub_message_trigger(
    arg_name="events", event_hub_name="orders", connection="Hub", cardinality=func.Cardinality.MANY
)
@returns
@guard_handler
async def event_hub_batch_async(events: List[func.EventHubEvent]):  # noqa: UP006
    return reports_all(events)


@app.event_hub_message_trigger(
    arg_name="events", event_hub_name="orders", connection="Hub", cardinality=func.Cardinality.MANY
)
@returns
@guard_handler
def event_hub_batch_at_once(events: List[func.EventHubEvent]):  # noqa: UP006
    whole = [event.get_body().decode() for event in events]
    return {
        "is_list": isinstance(events, list), "count": len(events), "whole": whole, "last": events[-1].sequence_number,
        "sliced": [event.offset for event in events[1:]], "same": list(events) == [*events],
        "copied": [event.sequence_number for event in copy.copy(events)], "type": type(events).__name__,
        "sorted": [event.sequence_number for event in sorted(events, key=lambda event: -event.sequence_number)],
    }


@app.event_hub_message_trigger(
    arg_name="events", event_hub_name="orders", connection="Hub", cardinality=func.Cardinality.MANY
)
@returns
@guard_handler
def event_hub_batch_left(events: List[func.EventHubEvent]):  # noqa: UP006
    for event in guard_records(events):
        if event.get_body() == b"two":
            break
    return event.get_body().decode()


@app.event_grid_trigger(arg_name="event")
@returns
@guard_handler
def event_grid(event: func.EventGridEvent):
    return report(event, event.get_json())


@app.event_grid_trigger(arg_name="event")
@returns
@guard_handler
async def event_grid_async(event: func.EventGridEvent):
    return report(event, event.get_json())


@app.blob_trigger(arg_name="blob", path="incoming/{name}", connection="Storage")
@returns
@guard_handler
def blob(blob: func.InputStream):
    return report(blob, blob.read().decode())


@app.blob_trigger(arg_name="blob", path="incoming/{name}", connection="Storage")
@returns
@guard_handler
async def blob_async(blob: func.InputStream):
    return report(blob, blob.read().decode())


@app.cosmos_db_trigger(arg_name="documents", container_name="orders", database_name="shop", connection="Cosmos")
@returns
@guard_handler
def cosmos(documents: func.DocumentList):
    return report(documents, documents[0]["body"])


@app.cosmos_db_trigger(arg_name="documents", container_name="orders", database_name="shop", connection="Cosmos")
@returns
@guard_handler
async def cosmos_async(documents: func.DocumentList):
    return report(documents, documents[0]["body"])


@app.generic_trigger(arg_name="given", type="kafkaTrigger", topic="orders")
@returns
@guard_handler
def generic(given: str):
    return report(given, given)


@app.generic_trigger(arg_name="given", type="kafkaTrigger", topic="orders")
@returns
@guard_handler
async def generic_async(given: str):
    return report(given, given)


# Positions of the guard, and functions that it must not change


@guard_handler
@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
def above_the_trigger(order: func.QueueMessage):
    return reports(order)


@app.function_name("named-otherwise")
@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler
def named(order: func.QueueMessage):
    return reports(order)


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler
def with_context(order: func.QueueMessage, context: func.Context):
    return {
        "type": type(context).__name__, "id": context.invocation_id, "function": context.function_name,
        "directory": context.function_directory, "retries": context.retry_context.retry_count,
    }


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler
async def with_bare_context(order: func.QueueMessage, context):
    return {"id": context.invocation_id}


@app.queue_trigger(arg_name="context", queue_name="orders", connection="Storage")
@returns
@guard_handler
def bound_as_context(context: func.QueueMessage):
    return reports(context)


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@app.queue_output(arg_name="receipt", queue_name="receipts", connection="Storage")
@app.blob_input(arg_name="customer", path="customers/7", connection="Storage")
@guard_handler(name="renamed", tags=["shop"], metadata={"team": "orders"})
def with_other_bindings(order: func.QueueMessage, customer: str, receipt: func.Out[str]) -> None:
    receipt.set(f"{order.get_body().decode()} for {customer}")


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:10")
@returns
@guard_handler
def retried(order: func.QueueMessage):
    return reports(order)


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@guard_handler
def returns_where_nothing_may(order: func.QueueMessage):
    return "no binding takes this"


app.register_functions(tidying(guard_handler))
