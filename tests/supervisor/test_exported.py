"""The supervisor exports its root span as the SDK does, without importing the SDK."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from braintrust.span_identifier_v3 import SpanComponentsV3, SpanObjectTypeV3
from braintrust.span_identifier_v4 import SpanComponentsV4

from trace_guard.supervisor.exported import ExportedSpan

HEX = ("0123456789abcdef", "0123456789abcdef0123456789abcdef")
UUIDS = (str(uuid.uuid4()), str(uuid.uuid4()))
ROW = str(uuid.uuid4())


@pytest.mark.parametrize("ids", [HEX, UUIDS])
@pytest.mark.parametrize("version", [SpanComponentsV3, SpanComponentsV4])
@pytest.mark.parametrize("owner", ["id", "name"])
def test_the_sdk_reads_what_is_written(ids: tuple[str, str], version: Any, owner: str) -> None:
    """Every reader of the SDK decodes the supervisor's exported spans without loss."""
    span_id, root = ids
    project = ExportedSpan.of_project("p-1" if owner == "id" else None, "name")
    found = version.from_str(project._replace(propagated={"tags": ["x"]}).child(ROW, span_id, root).encode())
    assert found.object_type is SpanObjectTypeV3.PROJECT_LOGS
    assert (found.object_id, found.compute_object_metadata_args) == (
        ("p-1", None) if owner == "id" else (None, {"project_name": "name"})
    )
    assert (found.row_id, found.span_id, found.root_span_id) == (ROW, span_id, root)
    assert found.propagated_event == {"tags": ["x"]}


@pytest.mark.parametrize("ids", [HEX, UUIDS])
@pytest.mark.parametrize("version", [SpanComponentsV3, SpanComponentsV4])
@pytest.mark.parametrize("kind", list(SpanObjectTypeV3))
def test_what_the_sdk_writes_is_read(ids: tuple[str, str], version: Any, kind: SpanObjectTypeV3) -> None:
    """The supervisor decodes what the SDK exports: spans of experiments, projects and playgrounds."""
    if version is SpanComponentsV3 and ids is HEX:
        ids = ("no-hex", "no-hex-either")  # the SDK can't return ids that it mistakes for UUIDs
    written = version(
        object_type=kind, object_id=UUIDS[0], row_id=ROW, span_id=ids[0], root_span_id=ids[1],
        propagated_event={"metadata": {"a": 1}},
    ).to_str()
    span = ExportedSpan.decode(written)
    assert span == ExportedSpan(kind.value, UUIDS[0], ROW, *ids, propagated={"metadata": {"a": 1}})
    assert span.owner == version.from_str(written).object_id_fields()
    child = span.child("row", "span", "a trace of its own")
    assert (child.root_span_id, child.object_id) == (ids[1], UUIDS[0])


@pytest.mark.parametrize("text", ["", "project_name:x", "!", "AAAA", "BAI=", "CQIA", "AwIAe30="])
def test_what_is_no_exported_span_is_refused(text: str) -> None:
    """A string that names no object raises a ValueError with the reason."""
    with pytest.raises(ValueError, match=r"no exported span|names no object"):
        ExportedSpan.decode(text)


@pytest.mark.parametrize("said", [
    {"object_id": 5}, {"span_id": {"a": 1}}, {"root_span_id": 7}, {"propagated_event": ["x"]},
    {"object_id": None, "compute_object_metadata_args": "x"}, "[" * 100_000,
])
def test_what_no_row_could_have_is_refused(said: Any) -> None:
    """An exported span with fields of wrong types raises a ValueError with the reason."""
    text = said if isinstance(said, str) else json.dumps({"object_id": "p", **said})
    with pytest.raises(ValueError, match="no exported span"):
        ExportedSpan.decode(base64.b64encode(bytes((3, 2, 0)) + text.encode()).decode())
