"""Functions that run until their worker's end. ``GUARDED=no`` makes the same app without the guard."""

import asyncio
import os
import signal
import time

import azure.functions as func
import braintrust


def ends(*_):
    os._exit(7)


if os.environ.get("OWN_HANDLER"):
    signal.signal(signal.SIGTERM, ends)
if os.environ.get("GUARDED") != "no":
    from trace_guard_azure import guard_handler
else:
    def guard_handler(function):
        return function

app = func.FunctionApp()


def begun():
    print("begun", flush=True)


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@guard_handler
def waits(timer: func.TimerRequest) -> None:
    with braintrust.start_span("step"):
        begun()
        time.sleep(600)


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@guard_handler
async def waits_async(timer: func.TimerRequest) -> None:
    with braintrust.start_span("step"):
        begun()
        await asyncio.sleep(600)


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@guard_handler
async def blocks_the_loop(timer: func.TimerRequest) -> None:
    with braintrust.start_span("step"):
        begun()
        time.sleep(600)


@app.timer_trigger(arg_name="timer", schedule="0 */5 * * * *")
@guard_handler
def returns(timer: func.TimerRequest) -> None:
    begun()
