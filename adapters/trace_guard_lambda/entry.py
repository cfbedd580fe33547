"""The handler for functions whose code stays as it is: it loads the function's own handler, and guards it.

Configure ``trace_guard_lambda.entry.handler`` as the function's handler and its own one as
``TRACE_GUARD_HANDLER=app.handler``; or leave the handler, and set ``AWS_LAMBDA_EXEC_WRAPPER=/opt/trace-guard-exec``
with the layer. The function's module is imported when this one is, which is in the init phase, as ever.

What goes wrong while it is imported becomes a trace of its own, and is raised on for the runtime to report.
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
    """The function's own handler, guarded unless its code has done that.

    Args:
        name: as in the function's configuration, ``module.function``; folders before it with dots or slashes.

    Raises:
        BaseException: what the import of its module has raised, in the form that the runtime reports.
    """
    with contain("find the layer's packages for this Python"):
        _add_packages()
    if os.environ.get("_HANDLER") == _OURS:
        os.environ["_HANDLER"] = name  # other libraries expect the function's own handler here
    began = time.time()
    try:
        function = _imported(name)
    except BaseException as error:
        with contain("trace what went wrong in the init phase"):
            _trace_init_error(error, began)
        raise
    return function if _is_guarded(function) else guard_handler(function)


def _imported(name: str) -> Callable[..., Any]:
    """By the runtime's own loader, so that each error is reported as if it had loaded the module itself:
    https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/bootstrap.py"""
    find = getattr(sys.modules.get("awslambdaric.bootstrap"), "_get_handler", None)
    if callable(find):
        return find(name)  # type: ignore[no-any-return]
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module.replace("/", ".")), function)  # type: ignore[no-any-return]


def _is_guarded(function: Any) -> bool:
    """True if the function is guarded at any depth. Another guard around it would override the settings of that one."""
    seen = 0
    while function is not None and seen < 100:
        if hasattr(function, GUARDED):
            return True
        function, seen = getattr(function, "__wrapped__", None), seen + 1
    return False


def _trace_init_error(error: BaseException, began: float) -> None:
    """A trace of one span, delivered before the process ends over the error."""
    guard = default_guard()
    if guard.settings.disabled:
        return
    guard.start()
    with contain("describe the init"):
        invocation = guard.invocation(name_of(None), platform=facts_of(None, cold=True))
    invocation.open()
    invocation.span.log(metrics={"start": began}, metadata={"trace_guard": {"reason": "init"}})
    invocation.close(_cause(error))
    # The process ends over this, and must not wait for a backend that did not answer now: the next start delivers.
    guard.close(timeout=0.0)


def _cause(error: BaseException) -> BaseException:
    """What user code raised: the runtime's loader turns that into an exception of its own, with less to tell."""
    return error.__context__ if isinstance(error.__context__, (ImportError, SyntaxError)) else error


def _add_packages() -> None:
    """A layer for several Pythons has the packages of each apart. Managed runtimes look there, others don't:
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
