"""Events and requests that are not traced, such as warm-up pings and health checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ..contain import contained
from ..errors import SettingsError
from .requests import is_excluded

__all__ = ["Exclude", "Excluded"]

Exclude: TypeAlias = Callable[[Any], bool] | str | Iterable[str]
"""A function that is called with an event or request and returns True for one that is not traced; or paths of HTTP
requests, where ``*`` at the end matches any rest."""


class Excluded:
    """Decides which events are not traced. False in a boolean context if all are traced.

    Args:
        exclude: the keyword of a decorator or middleware.

    Raises:
        SettingsError: it is neither a function nor paths.
    """

    def __init__(self, exclude: Exclude) -> None:
        self._function: Callable[[Any], bool] | None = None
        self._paths: tuple[str, ...] = ()
        if callable(exclude):
            self._function = exclude
            return
        try:
            self._paths = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        except TypeError:
            self._paths = (None,)  # type: ignore[assignment]
        if not all(isinstance(path, str) for path in self._paths):
            raise SettingsError(
                f"exclude={exclude!r} is not accepted: it takes a function of the event or request, or paths such as "
                '("/healthz", "/internal/*")'
            )

    def __bool__(self) -> bool:
        return self._function is not None or bool(self._paths)

    def matches(self, event: Any, path: Callable[[], str | None]) -> bool:
        """True if the event is not traced.

        Args:
            event: given to the function. If the function raises, the event is traced.
            path: returns the path of a request, None for other events.
        """
        function = self._function
        if function is not None:
            return bool(contained("call exclude", lambda: function(event), False))
        known = contained("read a request's path", path, None) if self._paths else None
        return known is not None and is_excluded(known, self._paths)
