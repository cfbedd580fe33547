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
from typing import Any

__all__ = ["encoded", "refusal"]


def refusal(result: Any, request: Any) -> str | None:
    """Why the framework answers an HTTP function's result with a 500; None if it does not.

    Args:
        request: of Flask or Starlette.
    """
    is_flask = hasattr(request, "environ")
    if not (_is_usable_by_flask(result) if is_flask else _is_usable_by_starlette(result)):
        return f"the function returned {_kind(result)}, which is no response"
    try:
        encoded(result, request)
    except Exception as error:  # noqa: BLE001 - the encoder calls code of the result
        return f"the result can't be encoded: {type(error).__name__}: {error}"
    return None


def encoded(result: Any, request: Any) -> Any:
    """The result with its objects as the client reads them.

    Raises:
        Exception: the framework can't encode it.
    """
    if isinstance(result, tuple) and result:
        return (encoded(result[0], request), *result[1:])
    if not isinstance(result, (dict, list)):
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
