"""The response of a function to a request.

https://learn.microsoft.com/azure/azure-functions/functions-bindings-http-webhook-output
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trace_guard.http import answers, content
from trace_guard.http.bodies import described, shown_body

from .triggers.reading import content_of

__all__ = ["answer_in", "is_out", "judge", "output_of", "status_of_error"]

status_of_error = answers.status_of_error


def is_out(value: Any) -> bool:
    """True for an ``azure.functions.Out``, with which a function sets an output binding."""
    return type(value).__name__ == "Out" and callable(getattr(value, "set", None)) and hasattr(value, "get")


def answer_in(result: Any, outputs: Iterable[Any]) -> Any:
    """The response that the function returned or set on an output binding."""
    if result is None:
        for output in outputs:
            if is_out(output) and hasattr(response := output.get(), "status_code"):
                return response
    return result


def judge(answer: Any, *, is_streaming: bool, goes_to_worker: bool) -> tuple[int | None, str | None]:
    """The status of a response, or None if it is unknown; and the error that it is, or None.

    Args:
        is_streaming: True for a request of the FastAPI extension, which accepts any response but None.
        goes_to_worker: True if the worker gets the response unchanged, for a binding of type ``http``.
    """
    status = answers.status_of(answer)
    if status is None and is_streaming:
        status = 500 if answer is None and goes_to_worker else 200
    elif status is None and isinstance(answer, str):
        status = 200
    elif status is None and goes_to_worker:
        # The worker fails with "unable to encode outgoing TypedData".
        returned = "no response" if answer is None else f"{type(answer).__name__}, which is no response"
        return 500, f"HTTP 500: the function returned {returned}"
    if status is not None and status >= 500:
        return status, f"HTTP {status}" + (": the function returned no response" if answer is None else "")
    return status, None


def output_of(answer: Any, byte_limit: int) -> Any:
    """The output to log for a response; NOTHING for one that is yet to be streamed."""
    if not callable(getattr(answer, "get_body", None)):
        return answers.output_of(answer, byte_limit)
    output: dict[str, Any] = {"status_code": answer.status_code}
    body = answer.get_body()
    if body:
        kind = content.content_type_of(answer.headers) or str(getattr(answer, "mimetype", "")).lower()
        coding = str(answer.headers.get("content-encoding") or "")
        header = str(answer.headers.get("content-type") or f"{kind}; charset={getattr(answer, 'charset', '')}")
        if coding or not content.is_text(kind):
            output["body"] = described(len(body), kind, coding)
        elif content.charset_of(header) != "utf-8":
            output["body"] = shown_body(body[:byte_limit], len(body), header)
        else:
            output["body"] = content_of(body, byte_limit)
    return output
