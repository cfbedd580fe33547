"""Closes stuck Braintrust traces every 15 minutes."""

import json
import logging

import azure.functions as func

from trace_guard import Reaper

app = func.FunctionApp()


@app.timer_trigger(schedule="0 */15 * * * *", arg_name="timer")
def reap(timer: func.TimerRequest) -> None:
    reaper = Reaper(all_projects=True, older_than=6 * 3600)
    done = reaper.close(lambda trace: logging.info("closed %s", json.dumps(trace.to_json())))
    logging.info("reaper: %s", json.dumps(done.to_json()))
