"""Reads and writes exported spans: the strings that the SDK's ``span.export()`` returns.

An exported span is base64 of: a version, the kind of object, the number of packed ids, the packed ids (each after a
byte that names its field), and JSON with the other fields. Version 3 packs UUIDs, version 4 the hexadecimal ids of
OpenTelemetry. This module writes version 3 with all fields in JSON, which every release of the SDK reads.
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
_LOOK_UP, _PROPAGATED = "compute_object_metadata_args", "propagated_event"
_PACKED = {1: "object_id", 2: "row_id", 3: "span_id", 4: "root_span_id"}


class ExportedSpan(NamedTuple):
    """A span, or an object that spans belong to if the span ids are missing.

    Attributes:
        kind: 1 for an experiment, 2 for the logs of a project, 3 for a playground.
        object_id: the object's id; None if it must be looked up by the fields of ``look_up``.
        look_up: fields that identify the object, such as ``project_name``.
        propagated: fields that every descendant span gets.
    """

    kind: int
    object_id: str | None = None
    row_id: str | None = None
    span_id: str | None = None
    root_span_id: str | None = None
    look_up: dict[str, Any] | None = None
    propagated: dict[str, Any] | None = None

    @classmethod
    def of_project(cls, project_id: str | None, name: str | None) -> ExportedSpan:
        """The logs of a project, by the project's id if it is known, else by its name."""
        return cls(_PROJECT_LOGS, project_id, look_up=None if project_id else {"project_name": name})

    @classmethod
    def decode(cls, text: str) -> ExportedSpan:
        """Decodes an exported span, logger or experiment.

        Raises:
            ValueError: the text is not an exported span, or comes from an SDK release with a newer format.
        """
        try:
            raw = base64.b64decode(text, validate=True)
            version, kind, packed, rest = raw[0], raw[1], raw[2], raw[3:]
            if version not in (3, 4) or kind not in _KINDS:
                raise ValueError(f"version {version}, kind {kind}")
            fields: dict[str, Any] = {}
            for _ in range(packed):
                name = _PACKED[rest[0]]
                size = 8 if version == 4 and name == "span_id" else 16
                fields[name] = rest[1 : 1 + size].hex() if version == 4 else str(uuid.UUID(bytes=rest[1 : 1 + size]))
                rest = rest[1 + size :]
            fields.update(json.loads(rest) if rest else {})
            _check(fields)
            span = cls(
                kind, **{name: fields.get(name) for name in _PACKED.values()},
                look_up=fields.get(_LOOK_UP), propagated=fields.get(_PROPAGATED),
            )
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{text[:40]!r} is no exported span: {error}") from error
        if span.object_id is None and not span.look_up:
            raise ValueError(f"{text[:40]!r} names no object that a span can belong to")
        return span

    def encode(self) -> str:
        """The exported span as a string."""
        fields = {
            _LOOK_UP: self.look_up or None, _PROPAGATED: self.propagated or None,
            "object_id": self.object_id, "row_id": self.row_id, "span_id": self.span_id,
            "root_span_id": self.root_span_id,
        }
        rest = json.dumps({name: value for name, value in fields.items() if value is not None}, separators=(",", ":"))
        return base64.b64encode(bytes((3, self.kind, 0)) + rest.encode()).decode()

    def child(self, row_id: str, span_id: str, trace_id: str) -> ExportedSpan:
        """A child span. ``trace_id`` becomes the trace's id if the child is the first span of its trace."""
        return self._replace(row_id=row_id, span_id=span_id, root_span_id=self.root_span_id or trace_id)

    @property
    def owner(self) -> Row:
        """The fields of a row that name its object. A placeholder stands for a project whose id is unknown."""
        field, more = _KINDS[self.kind]
        object_id = self.object_id
        if object_id is None:
            look_up = self.look_up or {}
            object_id = look_up.get("project_id") or placeholder(str(look_up.get("project_name")))
        return {field: object_id, **more}


def _check(fields: dict[str, Any]) -> None:
    """Checks the types of the fields.

    Raises:
        ValueError: a field has a type that it can't have in a row.
    """
    for names, expected in ((_PACKED.values(), str), ((_LOOK_UP, _PROPAGATED), dict)):
        for name in names:
            if not isinstance(fields.get(name), (expected, type(None))):
                raise ValueError(f"its {name} is {type(fields[name]).__name__}")
