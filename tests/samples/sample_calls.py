"""How a sample is called: each function returns one that calls the loaded sample and gives a result to compare."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import azure.functions as func
import functions_framework
from awslambdaric.lambda_context import LambdaContext
from httpx import ASGITransport, AsyncClient

__all__ = ["Call", "asgi", "aws", "azure", "function", "job", "outcome_of", "wsgi"]

Call = Callable[[Path, Any], Any]
"""Called with the file and the loaded module of a sample."""


def aws(event: Any) -> Call:
    """An invocation of a Lambda function."""
    deadline = int((time.time() + 60) * 1000)

    def call(path: Path, module: Any) -> Any:
        lambda_context = LambdaContext("request-1", None, None, deadline, "arn:aws:lambda:eu-west-1:1:function:f")
        result = module.handler(copy.deepcopy(event), lambda_context)
        # Without the guard, an async handler needs somebody who runs it.
        return asyncio.get_event_loop().run_until_complete(result) if inspect.iscoroutine(result) else result

    return call


def function(method: str, url: str, *, kind: str | None = None, **keywords: Any) -> Call:
    """A request to a function of the Functions Framework, which loads the sample itself."""

    def call(path: Path, module: Any) -> Any:
        app = functions_framework.create_app("main", str(path), kind)
        return (wsgi if hasattr(app, "wsgi_app") else asgi)(method, url, **keywords)(path, None, app)

    return call


def wsgi(method: str, url: str, **keywords: Any) -> Any:
    """A request to a Flask application."""

    def call(path: Path, module: Any, app: Any = None) -> Any:
        app = app or module.app
        app.config["PROPAGATE_EXCEPTIONS"] = False
        answer = app.test_client().open(url, method=method, **keywords)
        return answer.status_code, answer.get_data(), answer.headers.get("content-type")

    return call


def asgi(method: str, url: str, **keywords: Any) -> Any:
    """A request to an ASGI application."""

    def call(path: Path, module: Any, app: Any = None) -> Any:
        async def send() -> Any:
            transport = ASGITransport(app or module.app, raise_app_exceptions=False)
            async with AsyncClient(transport=transport, base_url="http://service") as client:
                answer = await client.request(method, url, **keywords)
                return answer.status_code, answer.content, answer.headers.get("content-type")

        return asyncio.run(send())

    return call


class _Out(func.Out[Any]):
    """An output binding."""

    value: Any = None

    def set(self, value: Any) -> None:
        self.value = value

    def get(self) -> Any:
        return self.value


class _Context:
    """The worker's context."""

    def __init__(self, name: str) -> None:
        self.function_name, self.invocation_id, self.function_directory = name, "invocation-1", "/nowhere"
        self.trace_context = self.retry_context = self.thread_local_storage = None


def azure(name: str, *outputs: str, **given: Any) -> Call:
    """An invocation of a function of an Azure app, with the arguments that the worker passes."""

    def call(path: Path, module: Any) -> Any:
        functions = {each.get_function_name(): each.get_user_function() for each in module.app.get_functions()}
        user_function, outs = functions[name], {each: _Out() for each in outputs}
        keywords = {**given, **outs}
        parameters = inspect.signature(user_function).parameters
        keywords.update({each: _Context(name) for each in parameters if each not in keywords})
        result = user_function(**keywords)
        result = asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result
        answer = (result.status_code, result.get_body()) if isinstance(result, func.HttpResponse) else result
        return answer, {each: out.get() for each, out in outs.items()}

    return call


async def _awaited(work: Any) -> Any:
    return await work


def job(name: str, *args: Any) -> Call:
    """A run of a job."""

    def call(path: Path, module: Any) -> Any:
        return functools.partial(getattr(module, name), *args)()

    return call


def outcome_of(call: Callable[[], Any]) -> Mapping[str, Any]:
    """What came of a call: its result, or its exception."""
    try:
        return {"result": call()}
    except BaseException as error:  # noqa: BLE001 - an exit is a result to compare too
        return {"raised": type(error).__name__, "text": str(error), "code": getattr(error, "code", None)}
