"""Functions that run the contract's user code on request, each guarded by a decorator."""

import json

import azure.functions as func
from contract import user_code

from trace_guard_azure import guard_handler

app = func.FunctionApp()
returns = app.generic_output_binding(arg_name="$return", type="report")


def run(code):
    return getattr(user_code, code)()


def respond(code):
    return func.HttpResponse(json.dumps(run(code)), mimetype="application/json")


@app.route(route="sync")
@guard_handler(name="root")
def http_sync(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req.get_json()["code"])


@app.route(route="async")
@guard_handler(name="root")
async def http_async(req: func.HttpRequest) -> func.HttpResponse:
    return respond(req.get_json()["code"])


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler(name="root")
def queue_sync(order: func.QueueMessage):
    return run(order.get_body().decode())


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@returns
@guard_handler(name="root")
async def queue_async(order: func.QueueMessage):
    return run(order.get_body().decode())
