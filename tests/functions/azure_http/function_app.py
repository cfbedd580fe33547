"""HTTP functions with responses in every form."""

import asyncio
import threading

import azure.functions as func
import braintrust

from trace_guard_azure import guard_handler

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
TOGETHER = 20
threads_meet = threading.Barrier(TOGETHER, timeout=30)
on_loop = 0
all_here = asyncio.Event()


@app.route(route="status")
@guard_handler
def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.params.get("body", ""), status_code=int(req.params["code"]))


@app.route(route="text")
@guard_handler
async def text(req: func.HttpRequest) -> str:
    return "just text"


@app.route(route="nothing")
@guard_handler
def nothing(req: func.HttpRequest):
    return None


@app.generic_trigger(arg_name="req", type="httpTrigger", route="out")
@app.generic_output_binding(arg_name="response", type="http")
@guard_handler
def out(req: func.HttpRequest, response: func.Out[func.HttpResponse]) -> None:
    response.set(func.HttpResponse("by binding", status_code=int(req.params["code"])))


@app.route(route="together")
@guard_handler
def together(req: func.HttpRequest) -> str:
    number = req.params["number"]
    with braintrust.start_span(f"before {number}"):
        threads_meet.wait()
    braintrust.start_span(f"open {number}")
    return number


@app.route(route="together-async")
@guard_handler
async def together_async(req: func.HttpRequest) -> str:
    global on_loop
    number = req.params["number"]
    with braintrust.start_span(f"before {number}"):
        on_loop += 1
        if on_loop == TOGETHER:
            all_here.set()
        await all_here.wait()
    braintrust.start_span(f"open {number}")
    return number
