"""Functions whose guard is broken, one step at a time, by another function of the app."""

import importlib

import azure.functions as func

from trace_guard_azure import guard_handler

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
broken = []
raised = 0


@app.generic_trigger(arg_name="step", type="manualTrigger")
@app.generic_output_binding(arg_name="$return", type="report")
def break_step(step: str):
    """Make a step raise from now on: ``module:name`` or ``module:class.name``. Repairs the step that was broken
    before. Returns how often that step raised."""
    global raised
    before, raised = raised, 0
    while broken:
        setattr(*broken.pop())
    if step:
        module, _, path = step.partition(":")
        owner, _, name = path.rpartition(".")
        place = importlib.import_module(module)
        place = getattr(place, owner) if owner else place
        broken.append((place, name, place.__dict__[name]))
        setattr(place, name, fails)
    return {"raised": before}


def fails(*_, **__):
    global raised
    raised += 1
    raise RuntimeError("broken on purpose")


@app.route(route="http")
@guard_handler
def http(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fine", status_code=202)


@app.route(route="http-async")
@guard_handler
async def http_async(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fine", status_code=202)


@app.queue_trigger(arg_name="order", queue_name="orders", connection="Storage")
@guard_handler
def queue(order: func.QueueMessage, context: func.Context) -> None:
    raise LookupError(context.function_name)
