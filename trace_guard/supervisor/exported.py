"""A span as one process names it to another: the string that ``span.export()`` of the SDK makes.

It is base64 of: a version, the kind of object, the number of ids that are packed, the packed ids, each behind a byte
that says which, and JSON with the rest. Version 3 packs UUIDs; version 4 the hexadecimal ids of OpenTelemetry. Written
here is version 3 with all in JSON, which every release of the SDK reads as it stands.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any, NamedTuple

from ..backends.project_ids import placeholder
from ..rows import Row

__all__ = ["ExportedSpan"]

_EXPERIMENT, _PROJECT_LOGS, _PLAYGROUND = 1, 2, 3
_KINDS = {
    _EXPERIMENT: ("experiment_id", {}), _PROJECT_LOGS: ("project_id", {"log_id": "g"}),
    _PLAYGROUND: ("prompt_session_id", {"log_id": "x"}),
}
_LOOK_UP, _PASSED_ON = "compute_object_metadata_args", "propagated_event"
_PACKED = {1: "object_id", 2: "row_id", 3: "span_id", 4: "root_span_id"}


class ExportedSpan(NamedTuple):
    """A span, or, without ids, an object that spans belong to.

    Attributes:
        kind: 1 for an experiment, 2 for the logs of a project, 3 for a playground.
        object_id: the object's; None if it is yet to be looked up by what is in ``look_up``.
        look_up: such as ``project_name``.
        passed_on: fields that every span below it gets, too.
    """

    kind: int
    object_id: str | None = None
    row_id: str | None = None
    span_id: str | None = None
    root_span_id: str | None = None
    look_up: dict[str, Any] | None = None
    passed_on: dict[str, Any] | None = None

    @classmethod
    def of_project(cls, project_id: str | None, name: str | None) -> ExportedSpan:
        """The logs of a project, by its id or else its name."""
        return cls(_PROJECT_LOGS, project_id, look_up=None if project_id else {"project_name": name})

    @classmethod
    def decode(cls, text: str) -> ExportedSpan:
        """What an exported span, or an exported logger or experiment, says.

        Raises:
            ValueError: it is none, or of a release of the SDK that is newer than this.
        """
        try:
            raw = base64.b64decode(text, validate=True)
            version, kind, packed, rest = raw[0], raw[1], raw[2], raw[3:]
            if version not in (3, 4) or kind not in _KINDS:
                raise ValueError(f"version {version}, kind {kind}")
            said: dict[str, Any] = {}
            for _ in range(packed):
                name = _PACKED[rest[0]]
                size = 8 if version == 4 and name == "span_id" else 16
                said[name] = rest[1 : 1 + size].hex() if version == 4 else str(uuid.UUID(bytes=rest[1 : 1 + size]))
                rest = rest[1 + size :]
            said.update(json.loads(rest) if rest else {})
            _check(said)
            span = cls(
                kind, **{name: said.get(name) for name in _PACKED.values()},
                look_up=said.get(_LOOK_UP), passed_on=said.get(_PASSED_ON),
            )
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{text[:40]!r} is no exported span: {error}") from error
        if span.object_id is None and not span.look_up:
            raise ValueError(f"{text[:40]!r} names no object that a span could belong to")
        return span

    def encode(self) -> str:
        """The string."""
        said = {
            _LOOK_UP: self.look_up or None, _PASSED_ON: self.passed_on or None,
            "object_id": self.object_id, "row_id": self.row_id, "span_id": self.span_id,
            "root_span_id": self.root_span_id,
        }
        rest = json.dumps({name: value for name, value in said.items() if value is not None}, separators=(",", ":"))
        return base64.b64encode(bytes((3, self.kind, 0)) + rest.encode()).decode()

    def child(self, row_id: str, span_id: str, trace_id: str) -> ExportedSpan:
        """A span below it; ``trace_id``: of the trace if it is the first of that."""
        return self._replace(row_id=row_id, span_id=span_id, root_span_id=self.root_span_id or trace_id)

    @property
    def owner(self) -> Row:
        """The fields by which a row says what it belongs to; a placeholder stands for a project without an id."""
        field, more = _KINDS[self.kind]
        object_id = self.object_id
        if object_id is None:
            asked = self.look_up or {}
            object_id = asked.get("project_id") or placeholder(str(asked.get("project_name")))
        return {field: object_id, **more}


def _check(said: dict[str, Any]) -> None:
    """
    Raises:
        ValueError: a value is of a type that no row could have there.
    """
    for names, expected in ((_PACKED.values(), str), ((_LOOK_UP, _PASSED_ON), dict)):
        for name in names:
            if not isinstance(said.get(name), (expected, type(None))):
                raise ValueError(f"its {name} is {type(said[name]).__name__}")
