"""What Lambda's runtime makes of a handler's result.

The runtime writes the result as JSON after the handler has returned. It knows ``Decimal`` and named tuples, and fails
the invocation for anything else that is no JSON: dates, models, sets, generators and coroutines.

https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/lambda_runtime_marshaller.py
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from trace_guard import Invocation
from trace_guard.contain import contained
from trace_guard.invocation.calls import is_plain_json, never_runs
from trace_guard.invocation.invocation import NOTHING
from trace_guard.system.interruption import pass_interruption

__all__ = ["Results"]

_MODULES = ("awslambdaric.lambda_runtime_marshaller", "lambda_runtime_marshaller")
_ENTRY = f"{__package__}.entry"


class Results:
    """Reads the results of one guarded handler.

    Args:
        wrapper: returns the function that the runtime may call.
    """

    def __init__(self, wrapper: Callable[[], Any]) -> None:
        self._wrapper = wrapper
        self._goes_to_runtime: bool | None = None

    def read(self, invocation: Invocation, result: Any) -> Any:
        """The value to log for a result; NOTHING if the runtime can't use it, which makes the invocation fail."""
        if isinstance(result, bytes) or is_plain_json(result):
            return result
        reason = None
        if not self._is_runtimes and never_runs(result):
            reason = f"a {type(result).__name__}, which Lambda can't use" if self._is_last else None
        else:
            try:
                return _encoded(result)
            except Exception as error:  # noqa: BLE001 - the encoder calls code of the result
                pass_interruption(error)
                reason = f"Runtime.MarshalError: Unable to marshal response: {error}" if self._is_runtimes else None
        if reason is None:
            return result
        invocation.note({"trace_guard": {"reason": "result"}})
        invocation.fail(f"the result was not accepted: {reason}")
        return NOTHING

    @property
    def _is_last(self) -> bool:
        """False if another decorator gets the result. Outside of Lambda that is not known."""
        return self._is_runtimes or not os.environ.get("_HANDLER")

    @property
    def _is_runtimes(self) -> bool:
        """True if the runtime gets the result as it is."""
        if self._goes_to_runtime is None:
            self._goes_to_runtime = contained("find the runtime's handler", lambda: _is_served(self._wrapper()), False)
        return self._goes_to_runtime


def _is_served(wrapper: Any) -> bool:
    """True if the function is the one that the runtime calls."""
    if _runtime() is None:
        return False
    module, _, name = os.environ.get("_HANDLER", "").rpartition(".")
    served = getattr(sys.modules.get(module.replace("/", ".")), name, None)
    called = getattr(type(served), "__call__", None)  # noqa: B004 - of an object whose method is guarded
    entry = getattr(sys.modules.get(_ENTRY), "handler", None)
    return any(each is wrapper for each in (served, getattr(served, "__func__", None), called, entry))


def _runtime() -> Any:
    """The module with the runtime's encoder, or None outside of Lambda's runtime."""
    return next((module for module in map(sys.modules.get, _MODULES) if hasattr(module, "to_json")), None)


def _encoded(result: Any) -> Any:
    """The result as its receiver reads it. Outside of the runtime, the result itself."""
    runtime = _runtime()
    return result if runtime is None else json.loads(runtime.to_json(result))
