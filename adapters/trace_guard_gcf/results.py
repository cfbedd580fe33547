"""What the Functions Framework makes of a function's result.

Flask and Starlette accept different results, and encode objects in different ways. Both answer with a 500 after the
function has returned if they can't use a result.

https://flask.palletsprojects.com/en/stable/quickstart/#about-responses and ``_http_func_wrapper`` in
https://github.com/GoogleCloudPlatform/functions-framework-python/blob/main/src/functions_framework/aio/__init__.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from trace_guard.invocation.calls import is_plain_json
from trace_guard.system.interruption import pass_interruption

__all__ = ["ReadResult", "read_result", "read_typed_result"]


class ReadResult(NamedTuple):
    """The result of an HTTP function or a typed one.

    Attributes:
        shown: the result with its objects as the client reads them; the result itself if it can't be encoded.
        refusal: why the framework answers with a 500; None if it does not.
    """

    shown: Any
    refusal: str | None = None


def read_result(result: Any, request: Any) -> ReadResult:
    """What the framework makes of a result.

    Args:
        request: of Flask or Starlette.
    """
    is_flask = hasattr(request, "environ")
    if not (_is_usable_by_flask(result) if is_flask else _is_usable_by_starlette(result)):
        return ReadResult(result, f"the function returned {_kind(result)}, which is no response")
    try:
        return ReadResult(_encoded(result, request))
    except Exception as error:  # noqa: BLE001 - the encoder calls code of the result
        pass_interruption(error)
        return ReadResult(result, f"the result can't be encoded: {type(error).__name__}: {error}")


def read_typed_result(result: Any, request: Any) -> ReadResult:
    """What the framework makes of the result of a typed function: it answers with what ``to_dict`` returns."""
    if result is None or type(result).__module__ == "builtins":
        return ReadResult(result) if result is None else read_result(result, request)
    if not callable(getattr(result, "to_dict", None)):
        return ReadResult(result, f"the function returned {_kind(result)}, which has no method to_dict")
    try:
        return ReadResult(json.loads(json.dumps(result.to_dict())))
    except Exception as error:  # noqa: BLE001 - it calls code of the result
        pass_interruption(error)
        return ReadResult(result, f"the result can't be encoded: {type(error).__name__}: {error}")


def _encoded(result: Any, request: Any) -> Any:
    if isinstance(result, tuple) and result:
        return (_encoded(result[0], request), *result[1:])
    if not isinstance(result, (dict, list)) or is_plain_json(result):
        return result
    if not hasattr(request, "environ"):
        return json.loads(json.dumps(result, allow_nan=False))
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_app_context():
        return result
    return json.loads(flask.json.dumps(result))


def _is_usable_by_flask(result: Any) -> bool:
    if isinstance(result, tuple):
        return len(result) in (2, 3) and _is_usable_by_flask(result[0])
    return isinstance(result, (str, bytes, bytearray, dict, list, Iterator)) or callable(result)


def _is_usable_by_starlette(result: Any) -> bool:
    if isinstance(result, tuple):
        return len(result) == 2 and isinstance(result[0], (str, bytes, memoryview, dict, type(None)))
    return isinstance(result, (str, dict)) or callable(result)


def _kind(result: Any) -> str:
    return "nothing" if result is None else type(result).__name__
