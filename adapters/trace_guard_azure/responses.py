"""What a function answers a request with.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-output
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trace_guard.http import answers, content

from .triggers.reading import content_of

__all__ = ["answer_in", "is_out", "judge", "output_of", "status_of_error"]

status_of_error = answers.status_of_error


def is_out(value: Any) -> bool:
    """True for what a function is given to set an output binding with: ``azure.functions.Out``."""
    return type(value).__name__ == "Out" and callable(getattr(value, "set", None)) and hasattr(value, "get")


def answer_in(result: Any, outputs: Iterable[Any]) -> Any:
    """The response: what was returned, else what was set on an output binding."""
    if result is None:
        for one in outputs:
            if is_out(one) and hasattr(found := one.get(), "status_code"):
                return found
    return result


def judge(answer: Any, *, is_streaming: bool, goes_to_worker: bool) -> tuple[int | None, str | None]:
    """The status of a response, as far as it is known, and what makes it an error.

    Args:
        is_streaming: it is for a request of the FastAPI extension, which takes anything but None.
        goes_to_worker: the worker gets it just so, and as the value of a binding ``http``.
    """
    status = answers.status_of(answer)
    if status is None and is_streaming:
        status = 500 if answer is None and goes_to_worker else 200
    elif status is None and isinstance(answer, str):
        status = 200
    elif status is None and goes_to_worker:
        # So the worker fails: "unable to encode outgoing TypedData".
        said = "no response" if answer is None else f"{type(answer).__name__}, which is no response"
        return 500, f"HTTP 500: the function returned {said}"
    if status is not None and status >= 500:
        return status, f"HTTP {status}" + (": the function returned no response" if answer is None else "")
    return status, None


def output_of(answer: Any, room: int) -> Any:
    """What is to stand as the output; NOTHING of what is still to be streamed."""
    if not callable(getattr(answer, "get_body", None)):
        return answers.output_of(answer, room)
    found: dict[str, Any] = {"status_code": answer.status_code}
    body = answer.get_body()
    if body:
        kind = content.content_type_of(answer.headers) or str(getattr(answer, "mimetype", "")).lower()
        is_text = content.is_text(kind) and not answer.headers.get("content-encoding")
        found["body"] = content_of(body, room) if is_text else f"<{len(body)} bytes>"
    return found
