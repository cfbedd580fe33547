"""Durable functions: an orchestrator and an entity, which are replayed, and an activity. ``GUARDED=no`` makes the
same app without the guard."""

import os

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="start")
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client) -> func.HttpResponse:
    return func.HttpResponse(type(client).__name__, status_code=202)


@app.orchestration_trigger(context_name="context")
def orchestrate(context):
    answer = yield context.call_activity("work", context.get_input())
    return answer


@app.activity_trigger(input_name="order")
def work(order: str) -> str:
    if order == "raise":
        raise LookupError("no such order")
    return f"done {order}"


@app.entity_trigger(context_name="context")
def counter(context):
    total = context.get_state(lambda: 0) + context.get_input()
    context.set_state(total)
    context.set_result(total)


if os.environ.get("GUARDED") != "no":
    from trace_guard_azure import guard_app

    guard_app(app)
