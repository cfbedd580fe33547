"""The handler for functions whose code stays unchanged. It loads the function's own handler and guards it.

Configure ``trace_guard_lambda.entry.handler`` as the function's handler, and the function's own handler as
``TRACE_GUARD_HANDLER=app.handler``. With the layer, set ``AWS_LAMBDA_EXEC_WRAPPER=/opt/trace-guard-exec`` instead and
leave the handler unchanged. The import of this module imports the function's module, in the init phase as usual.

An error of that import becomes a trace of its own and is raised for the runtime to report.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from trace_guard import default_guard
from trace_guard.contain import contain
from trace_guard.invocation.wrap import GUARDED

from .context import facts_of, name_of
from .handler import guard_handler

__all__ = ["handler"]

_VARIABLE = "TRACE_GUARD_HANDLER"
_OURS = f"{__name__}.handler"


def _load(name: str) -> Callable[..., Any]:
    """The function's own handler, guarded unless it is guarded already.

    Args:
        name: as in the function's configuration: ``module.function``, with dots or slashes after folders.

    Raises:
        BaseException: the import of its module failed; in the form that the runtime reports.
    """
    with contain("find the layer's packages for this Python"):
        _add_packages()
    if os.environ.get("_HANDLER") == _OURS:
        os.environ["_HANDLER"] = name  # other libraries expect the function's own handler here
    began = time.time()
    try:
        function = _imported(name)
    except BaseException as error:
        with contain("trace an error in the init phase"):
            _trace_init_error(error, began)
        raise
    return function if _is_guarded(function) else guard_handler(function)


def _imported(name: str) -> Callable[..., Any]:
    """Import with the runtime's own loader, so that errors are reported as usual:
    https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/bootstrap.py"""
    find = getattr(sys.modules.get("awslambdaric.bootstrap"), "_get_handler", None)
    if callable(find):
        return find(name)  # type: ignore[no-any-return]
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module.replace("/", ".")), function)  # type: ignore[no-any-return]


def _is_guarded(function: Any) -> bool:
    """True if the function is guarded at any depth. Another guard around it would override its settings."""
    seen = 0
    while function is not None and seen < 100:
        if hasattr(function, GUARDED):
            return True
        function, seen = getattr(function, "__wrapped__", None), seen + 1
    return False


def _trace_init_error(error: BaseException, began: float) -> None:
    """Write a trace of one span for an error that ends the process."""
    guard = default_guard()
    if guard.settings.disabled:
        return
    guard.start()
    with contain("describe the init"):
        invocation = guard.invocation(name_of(None), platform=facts_of(None, cold=True))
    invocation.open()
    invocation.span.log(metrics={"start": began}, metadata={"trace_guard": {"reason": "init"}})
    invocation.close(_cause(error))
    # The process is about to end and must not wait for the backend any longer. The next start delivers the rest.
    guard.close(timeout=0.0)


def _cause(error: BaseException) -> BaseException:
    """The exception that user code raised. The runtime's loader replaces it by one with less detail."""
    return error.__context__ if isinstance(error.__context__, (ImportError, SyntaxError)) else error


def _add_packages() -> None:
    """Add the layer's packages for this Python version to ``sys.path``. Only managed runtimes do so themselves:
    https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html#packaging-layers-paths"""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    packages = os.path.join(here, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    if os.path.isdir(packages) and packages not in sys.path:
        sys.path.append(packages)


def _own_handler() -> str:
    name = os.environ.get(_VARIABLE, "").strip()
    if not name or name == _OURS:
        raise RuntimeError(f"{_VARIABLE} is {name!r}: set it to the function's own handler, such as app.handler")
    return name


handler = _load(_own_handler())
