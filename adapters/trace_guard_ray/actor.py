"""The decorator for classes that Ray runs as actors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.misuse import check_decorated
from trace_guard.settings import Capture

from .call import GuardedCall
from .context import sent
from .options import Options
from .task import CALL, guarded_function

__all__ = ["guard_actor"]

C = TypeVar("C", bound=type)

_CALLED_BY_NAME = ("__init__", "__call__")
_MARK = "_guarded_by_trace_guard"


@overload
def guard_actor(cls: C) -> C: ...


@overload
def guard_actor(
    *,
    guard: Guard | None = ...,
    project: str | None = ...,
    project_id: str | None = ...,
    name: str | None = ...,
    capture_input: Capture | None = ...,
    capture_output: Capture | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    flush: FlushPolicy | str | None = ...,
) -> Callable[[C], C]: ...


def guard_actor(
    cls: Any = NOTHING,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    name: str | None = None,
    capture_input: Capture | None = None,
    capture_output: Capture | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
) -> Any:
    """Guard an actor. Each call of a public method, of ``__init__`` and of ``__call__`` is a span like that of a task,
    below the span that was current where it was submitted. Methods may be plain, async, or generators.

    Use it bare or with keywords, below ``@ray.remote``. A method that the actor itself calls adds to the span of its
    caller. Each restart of the actor is another ``__init__`` span.

    Args:
        name: the part before the dot in the spans' names; by default the class's name.
        guard, project, project_id, capture_input, capture_output, tags, metadata, flush: as for
            :func:`trace_guard_ray.guard_task`.

    Raises:
        TypeError: the decorated object is not a class.
        SettingsError: a keyword's value is not accepted.
    """
    options = Options(
        guard, name=name, tags=tags, metadata=metadata, project=project, project_id=project_id,
        capture_input=capture_input, capture_output=capture_output, flush=flush,
    )
    return functools.partial(_guarded, options=options) if cls is NOTHING else _guarded(cls, options)


def _guarded(cls: type, options: Options) -> type:
    if hasattr(cls, "__ray_metadata__"):
        kind = cls.__ray_metadata__.class_name
        raise TypeError(f"{kind} is an actor of Ray already: put @guard_actor below @ray.remote, next to the class")
    if not inspect.isclass(cls):
        check_decorated(cls, "guard_actor")
        raise TypeError(f"{cls!r} is not a class: use @guard_task for functions")
    if options.is_off:
        return cls
    with contain("guard an actor"):
        options.start()
        _guard_methods(cls, options, options.name or cls.__name__)
        _send_with_creations(cls)
    return cls


def _guard_methods(cls: type, options: Options, name: str) -> None:
    for method, function in inspect.getmembers(cls, inspect.isfunction):
        if method.startswith("_") and method not in _CALLED_BY_NAME:
            continue
        if isinstance(inspect.getattr_static(cls, method), staticmethod):
            continue  # a static method is called without the actor
        # A method that is inherited from a guarded class is guarded again under this class's name.
        _, plain = getattr(function, CALL, (None, function))
        setattr(cls, method, guarded_function(plain, GuardedCall(options, f"{name}.{method}", is_method=True)))


def _send_with_creations(cls: type) -> None:
    """Send the context with the creation of each actor. Ray has no hook for it: ``@ray.remote`` makes a subclass, which
    calls ``__init_subclass__``, and Ray creates actors with the subclass's ``_remote``."""
    before: Any = cls.__dict__.get("__init_subclass__")
    above: Any = cls

    def init_subclass(below: Any, /, **keywords: Any) -> None:
        if before is not None:
            before.__get__(None, below)(**keywords)
        else:
            super(above, below).__init_subclass__(**keywords)
        with contain("send the context with the creation of an actor"):
            plain = getattr(below, "_remote", None)
            if plain is not None and hasattr(below, "options") and not hasattr(plain, _MARK):
                below._remote = _sending(plain)

    above.__init_subclass__ = classmethod(init_subclass)


def _sending(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def create(self: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        if contained("inspect an actor's class", lambda: _receives(self), False):
            kwargs = sent(kwargs)
        return plain(self, args, kwargs, **options)

    setattr(create, _MARK, True)
    return create


def _receives(remote: Any) -> bool:
    """False for a class without ``__init__``, and for a subclass of a guarded class with its own ``__init__``."""
    return hasattr(remote.__ray_metadata__.modified_class.__init__, CALL)
