"""Functions that trace two steps for each request, named after it, with a pause between them."""

import asyncio
import time

import braintrust
import functions_framework
import functions_framework.aio

from trace_guard_gcf import guard_handler


@functions_framework.http
@guard_handler
def plain(request):
    number = request.get_json()["number"]
    with braintrust.start_span(f"first {number}"):
        time.sleep(0.01)
        with braintrust.start_span(f"second {number}"):
            return {"number": number}


@functions_framework.aio.http
@guard_handler
async def on_loop(request):
    number = (await request.json())["number"]
    with braintrust.start_span(f"first {number}"):
        await asyncio.sleep(0.01)
        with braintrust.start_span(f"second {number}"):
            return {"number": number}
