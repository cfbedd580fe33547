"""Functions that run longer than the ``functionTimeout`` of host.json."""

import asyncio
import time

import azure.functions as func
import braintrust

from trace_guard_azure import guard_handler

app = func.FunctionApp()


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@guard_handler
def hangs(timer: func.TimerRequest) -> None:
    braintrust.start_span("step")
    time.sleep(600)


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@guard_handler
async def hangs_async(timer: func.TimerRequest) -> None:
    braintrust.start_span("step")
    await asyncio.sleep(600)
