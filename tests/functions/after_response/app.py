"""A function that returns how the previous invocation was delivered."""

import asyncio
import os
import sys

import braintrust

from trace_guard import current_invocation
from trace_guard_lambda import guard_handler

LAST = []


def remember():
    delivery = LAST[-1].delivery if LAST else None
    LAST.append(current_invocation())
    return {"before": delivery and [delivery.verdict.value, delivery.way]}


@guard_handler
def plain(event, context):
    if event.get("do") == "crash":
        braintrust.current_span().log(output=event["words"])
        braintrust.flush()
        os._exit(7)
    return DO[event.get("do", "answer")]()


@guard_handler
async def leaving(event, context):
    for name in ("refresh", "warm up"):
        LAST.append(asyncio.create_task(asyncio.sleep(60), name=name))
    return "left"


def handler(event, context):
    if event.get("bypass"):
        return "bypassed"
    return (leaving if event.get("do") == "leave_tasks" else plain)(event, context)


def answer():
    return remember()


def fail():
    raise ValueError("no such order")


def leave():
    sys.exit(3)


def no_json():
    return {"set": {1, 2, 3}}


def much():
    return "x" * (6 * 1024 * 1024 + 1000)


DO = {"answer": answer, "fail": fail, "leave": leave, "set": no_json, "much": much}
