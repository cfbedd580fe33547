"""The id of a span's project, which may be a placeholder until the project is looked up.

Rows may carry the placeholder, as the courier replaces it. User code never sees it: until the id is known the SDK hands
out the project's name, as it does before its own look-up, in ``export()``, ``link()`` and the headers of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from braintrust.span_identifier_v3 import SpanObjectTypeV3

from ..backends.project_ids import is_placeholder, placeholder, project_name

__all__ = ["ProjectId", "hidden"]


class ProjectId:
    """Stands in for the SDK's ``LazyValue`` of a project's id.

    Args:
        inner: the SDK's own.
        name: of the project.
        known: the id of a project by its name, if it is known.
    """

    def __init__(self, inner: Any, name: str, known: Callable[[str], str | None]) -> None:
        self._inner = inner
        self._name = name
        self._known = known

    @property
    def has_succeeded(self) -> bool:
        return self.get_sync()[0]

    @property
    def value(self) -> str | None:
        return self.get_sync()[1]

    def get_sync(self) -> tuple[bool, str | None]:
        """Whether the real id is known, and the id."""
        resolved, value = self._inner.get_sync()
        real = self._real(value) if resolved else None
        return real is not None, real

    def get(self) -> str:
        """The id, or the placeholder; both may stand in rows."""
        try:
            value = str(self._inner.get())
        except AssertionError:
            # The SDK has compared a placeholder with the real id of a parent.
            value = placeholder(self._name)
        return self._real(value) or value

    def _real(self, value: str | None) -> str | None:
        return self._known(project_name(value)) if value is not None and is_placeholder(value) else value


def hidden(
    kind: Any, object_id: Any, named: Mapping[str, Any] | None, known: Callable[[str], str | None]
) -> Any:
    """The id of an object as spans may have it.

    Args:
        kind: of the object.
        named: by what the SDK would look the project up.
    """
    name = (named or {}).get("project_name")
    if kind != SpanObjectTypeV3.PROJECT_LOGS or not name or (named or {}).get("project_id"):
        return object_id
    return object_id if isinstance(object_id, ProjectId) else ProjectId(object_id, str(name), known)
