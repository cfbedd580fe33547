"""The id of a span's project, which may be a placeholder until the project is looked up.

Rows may carry the placeholder, as the courier replaces it. User code never sees it: until the id is known the SDK hands
out the project's name, as it does before its own look-up, in ``export()``, ``link()`` and the headers of a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from braintrust.span_identifier_v3 import SpanObjectTypeV3
from braintrust.util import LazyValue

from ..backends.project_ids import is_placeholder, placeholder, project_name
from ..contain import contain

__all__ = ["ProjectId", "hidden", "needs_request"]


class ProjectIds(Protocol):
    """The known ids of projects."""

    def project_id(self, name: str) -> str | None:
        """The id of a project, if it is known."""


class ProjectId(LazyValue[str]):
    """The SDK's value, which counts as unknown as long as it is a placeholder.

    Args:
        inner: the SDK's own, which is also an attribute.
        name: of the project.
        projects: looks up its id.
    """

    def __init__(self, inner: Any, name: str, projects: ProjectIds) -> None:
        def compute() -> str:
            try:
                return str(inner.get())
            except AssertionError:
                return placeholder(name)  # the SDK has compared a placeholder with the real id of a parent

        super().__init__(compute, use_mutex=False)
        self.inner = inner
        self._projects = projects

    @property
    def has_succeeded(self) -> bool:
        with contain("put a project's id in the place of its name"):
            if not self._state.has_succeeded:
                return False
            value = self._state.value
            real = self._projects.project_id(project_name(value)) if is_placeholder(value) else value
            if real is None:
                return False
            if real is not value:
                self._state = type(self._state)(value=real)
            return True
        return False

    @property
    def value(self) -> str | None:
        return self._state.value if self.has_succeeded and self._state.has_succeeded else None

    def get_sync(self) -> tuple[bool, str | None]:
        """Whether the real id is known, and the id."""
        value = self.value
        return value is not None, value


def hidden(kind: Any, object_id: Any, named: Mapping[str, Any] | None, projects: ProjectIds) -> Any:
    """The id of an object, in the form that spans may use.

    Args:
        kind: of the object.
        named: the arguments with which the SDK would look up the project.
    """
    name = (named or {}).get("project_name")
    if kind != SpanObjectTypeV3.PROJECT_LOGS or not name or (named or {}).get("project_id"):
        return object_id
    return object_id if isinstance(object_id, ProjectId) else ProjectId(object_id, str(name), projects)


def needs_request(object_id: Any) -> bool:
    """True if the SDK has not found out the id of an object yet, for which it may make a request."""
    value = object_id.inner if isinstance(object_id, ProjectId) else object_id
    return not value.has_succeeded
