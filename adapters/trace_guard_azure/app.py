"""Guards all functions of an app when the worker asks the app for them."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain
from trace_guard.guard import Options
from trace_guard.http.exclude import Exclude
from trace_guard.settings import Capture

from .declaration import declared_by
from .guarded import GuardedFunction, guarded_in
from .kinds import UNGUARDED, check_app
from .options import AzureOptions
from .shutdown import prepare_for_shutdown
from .wrapping import taking_context, with_context

__all__ = ["guard_app", "listen"]

A = TypeVar("A")

_apps: weakref.WeakKeyDictionary[Any, AzureOptions] = weakref.WeakKeyDictionary()
_MARK = "_followed_by_trace_guard"


def guard_app(
    app: A,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    capture_input: Capture | None = None,
    capture_output: Capture | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
    exclude: Exclude = (),
) -> A:
    """Guard every function of a FunctionApp, also those that are added later and those of blueprints::

        app = func.FunctionApp()
        guard_app(app, project="support-bot")

    An ``AsgiFunctionApp`` or ``WsgiFunctionApp`` has one function for all requests; its traces are named after the
    routes of the application. A function with a :func:`guard_handler` keeps the keywords of that. Activities of durable
    functions are guarded. Orchestrators and entities are not, because they are replayed. A function that the worker
    can't run is left unchanged, so that the worker reports it.

    Args:
        app: a ``FunctionApp``, ``AsgiFunctionApp``, ``WsgiFunctionApp``, or ``DFApp``.
        keywords: as for :func:`guard_handler`.

    Returns:
        The app.

    Raises:
        TypeError: the argument is not an app; the message says what to do.
        SettingsError: a keyword's value is not accepted.
    """
    check_app(app)
    options = AzureOptions(Options(
        guard=guard, project=project, project_id=project_id, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
    ), exclude=exclude)
    with contain("guard an app"):
        _apps[app] = options
        prepare_for_shutdown()
        listen(app)
    return app


def listen(app: Any = None) -> None:
    """Wrap ``get_functions``, by which the worker asks an app for its functions. All declarations and decorators of a
    function are known by then.

    Args:
        app: whose class is wrapped besides the base class of all apps, if that has been imported.
    """
    module = sys.modules.get("azure.functions.decorators.function_app")
    kinds: tuple[Any, ...] = (getattr(module, "FunctionRegister", None), *type(app).__mro__)
    for kind in kinds:
        plain = kind.__dict__.get("get_functions") if isinstance(kind, type) else None
        if plain is None or hasattr(plain, _MARK):
            continue
        kind.get_functions = _wrapped(plain)


def _wrapped(plain: Any) -> Any:
    @functools.wraps(plain)
    def get_functions(app: Any, *args: Any, **keywords: Any) -> Any:
        functions = plain(app, *args, **keywords)
        with contain("guard the functions of an app"):
            for function in functions:
                with contain("guard a function of an app"):
                    _complete(function, _apps.get(app))
        return functions

    setattr(get_functions, _MARK, True)
    return get_functions


def _complete(function: Any, options: AzureOptions | None) -> None:
    """Guard a function of a guarded app and record its declaration."""
    declared = declared_by(function)
    guarded = guarded_in(function._func)
    if guarded is None and options is not None and declared.kind not in UNGUARDED:
        guarded = GuardedFunction.of(function._func, options)
        if guarded is not None:
            function._func = guarded.wrapper
    if guarded is not None:
        guarded.declarations[declared.name] = declared
        guarded.is_outermost = function._func is guarded.wrapper
        if not guarded.is_outermost:
            function._func = taking_context(function._func)
        elif not guarded.adds_context:
            guarded.adds_context = with_context(guarded.wrapper)
