"""Functions of each kind that run the contract's user code on request.

What leaves the guard is written down before the framework turns it into a response.
"""

import functools
import inspect
import json
import os
from pathlib import Path

import functions_framework
import functions_framework.aio
from contract import user_code

from trace_guard_gcf import guard_handler

REPORT = Path(os.environ["REPORT"])


def reports(function):
    def said(**what):
        REPORT.write_text(json.dumps(what))
        return "done"

    @functools.wraps(function)
    def plain(*args):
        try:
            return said(value=function(*args))
        except BaseException as error:
            said(error=type(error).__name__)
            raise

    @functools.wraps(function)
    async def on_loop(*args):
        try:
            return said(value=await function(*args))
        except BaseException as error:
            said(error=type(error).__name__)
            raise

    return on_loop if inspect.iscoroutinefunction(function) else plain


class Order:
    def __init__(self, code):
        self.code = code

    @classmethod
    def from_dict(cls, found):
        return cls(found["code"])


@functions_framework.http
@reports
@guard_handler(name="root")
def http(request):
    return getattr(user_code, request.get_json()["code"])()


@functions_framework.cloud_event
@reports
@guard_handler(name="root")
def cloud_event(event):
    return getattr(user_code, event.data["code"])()


@reports
@guard_handler(name="root")
def event(data, context):
    return getattr(user_code, data["code"])()


@functions_framework.typed
@reports
@guard_handler(name="root")
def typed(order: Order):
    return getattr(user_code, order.code)()


@functions_framework.aio.http
@reports
@guard_handler(name="root")
async def aio_http(request):
    return getattr(user_code, (await request.json())["code"])()


@functions_framework.aio.cloud_event
@reports
@guard_handler(name="root")
async def aio_cloud_event(event):
    return getattr(user_code, event.data["code"])()


@functions_framework.aio.http
@reports
@guard_handler(name="root")
def aio_in_thread(request):
    return getattr(user_code, request.query_params["code"])()
