"""Experiments, datasets, other projects and other traces: inside an invocation the SDK treats them as it does alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from braintrust.span_identifier_v3 import SpanComponentsV3, SpanObjectTypeV3
from braintrust.span_identifier_v4 import SpanComponentsV4
from support import REPOSITORY, environment

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, Fault
from trace_guard.testing.braintrust_objects import object_id

SCENARIOS = Path(__file__).parent / "object_scenarios.py"
MODES = ("plain", "guarded")
OWNERS = ("project_id", "experiment_id", "prompt_session_id")


def run(
    python: Path, scenario: str, mode: str, server: BraintrustServer, directory: Path, *told: str, **more: str
) -> Any:
    """What a scenario said; it must end well, and with the guard leave no span open."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    done = subprocess.run(
        [python, SCENARIOS, scenario, mode, *told], text=True, capture_output=True, timeout=60, cwd=directory.parent,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(directory),
            **environment(server, directory, TRACE_GUARD_PROJECT_ID="", **more),
        },
    )
    assert done.returncode == 0, done.stderr
    assert "trace-guard: could not" not in done.stderr, done.stderr
    if mode == "guarded":
        assert server.open_spans() == []
    return json.loads(done.stdout.splitlines()[-1])


def shape(server: BraintrustServer) -> dict[str, Any]:
    """Each span of the user's by name: its object, the names of its parents, and whether it is in the invocation's
    trace."""
    spans = server.span_rows()
    names = {row["span_id"]: row["span_attributes"]["name"] for row in spans}
    projects = server._store.projects()
    guarded = {row["root_span_id"] for row in spans if names[row["span_id"]] == "invocation"}
    known = {}
    for row in spans:
        owner = next(row[key] for key in OWNERS if row.get(key))
        parents = [names.get(parent, parent) for parent in row.get("span_parents") or ()]
        known[names[row["span_id"]]] = (
            projects.get(owner, owner), [parent for parent in parents if parent != "invocation"],
            row["root_span_id"] in guarded,
        )
    known.pop("invocation", None)
    return known


def by_name(server: BraintrustServer) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def links(server: BraintrustServer, *names: str) -> None:
    """Spans of these names are linked with the invocation's root, both ways, and no others are."""
    rows = by_name(server)
    root = rows["invocation"]
    ids = {"id": root["id"], "span_id": root["span_id"], "root_span_id": root["root_span_id"]}
    linked = {name for name, row in rows.items()
              if ((row.get("metadata") or {}).get("trace_guard") or {}).get("invocation") == ids}
    assert linked == set(names)
    about = root["metadata"]["trace_guard"]
    assert {link["id"] for link in about.get("links", ())} == {rows[name]["id"] for name in names}
    assert about.get("links_count", 0) == len(names)


def test_an_evaluation_in_a_job_gives_what_it_gives_alone(python: Path, tmp_path: Path) -> None:
    """An Eval within a step of a job has the same root rows, traces and scores as without the guard."""
    seen = {}
    for mode in MODES:
        with BraintrustServer() as server:
            scores = run(python, "evaluation", mode, server, tmp_path / mode)
            rows = [row for row in server.span_rows() if row.get("experiment_id") == object_id("experiment", "exp")]
            roots = [row for row in rows if not row.get("span_parents")]
            seen[mode] = (scores, len(rows), len(roots), len({row["root_span_id"] for row in rows}),
                          sorted(row["span_attributes"]["name"] for row in rows))
    assert seen["guarded"] == seen["plain"]
    assert seen["plain"][2:4] == (4, 4)
    assert list(seen["plain"][0].values()) == [1.0]


@pytest.mark.parametrize("scenario", ["current_experiment", "other_logger"])
def test_what_belongs_to_another_object_is_a_root_of_its_own(python: Path, tmp_path: Path, scenario: str) -> None:
    """Spans of an experiment or of another project's logger are where the SDK alone puts them, linked with the
    invocation, and closed with it."""
    seen = {}
    for mode in MODES:
        with BraintrustServer() as server:
            run(python, scenario, mode, server, tmp_path / mode)
            seen[mode] = shape(server)
            if mode == "guarded":
                rows = by_name(server)
                assert rows["left open"]["metadata"]["trace_guard"]["reason"] == "left_open"
                elsewhere = {name for name, (_, parents, in_root) in seen[mode].items() if not in_root and not parents}
                links(server, *elsewhere)
    ours = seen["guarded"].pop("ours", None)
    assert ours == (None if scenario == "current_experiment" else ("mine", [], True))
    seen["plain"].pop("ours", None)
    assert seen["guarded"] == seen["plain"]


def test_a_logger_that_has_the_root_still_takes_rows(python: Path, tmp_path: Path) -> None:
    """Logger.log() works in an invocation whose root is in that logger, as it does where no span was started."""
    for mode in MODES:
        with BraintrustServer() as server:
            assert run(python, "rows_of_a_logger", mode, server, tmp_path / mode) is True
            assert [row["output"] for row in server.rows() if row.get("input") == 1] == [2]


def test_an_explicit_parent_is_followed_wherever_it_is(python: Path, tmp_path: Path) -> None:
    """start_span(parent=...) works for a span of an experiment, of a playground, of another project and of the
    guard's own project, from the first invocation on."""
    seen = {}
    for mode in MODES:
        with BraintrustServer(latency=0.1) as server:
            kinds = {
                "experiment": (SpanObjectTypeV3.EXPERIMENT, "the-experiment"),
                "playground": (SpanObjectTypeV3.PLAYGROUND_LOGS, "the-playground"),
                "other": (SpanObjectTypeV3.PROJECT_LOGS, server.add_project("other")),
                "same": (SpanObjectTypeV3.PROJECT_LOGS, server.add_project("mine")),
            }
            parents = {
                name: SpanComponentsV3(
                    object_type=kind, object_id=owner, row_id="6f1c1a4e-8d5c-4a86-a6a0-0d3c0e1ac8f1",
                    span_id="5cf0d7e4-18f1-4b1e-9d2d-54b30c9b4f3e", root_span_id="cf6c6d0f-65a1-4b57-95f3-7d7d4a2d9f0a",
                ).to_str() for name, (kind, owner) in kinds.items()
            }
            assert run(python, "parents", mode, server, tmp_path / mode, PARENTS=json.dumps(parents)) == "answer"
            seen[mode] = shape(server)
            if mode == "guarded":
                links(server)
    assert {"experiment", "playground", "other", "same", "in a context"} <= set(seen["plain"])
    assert seen["guarded"].pop("before") == ("mine", [], True)
    seen["plain"].pop("before")
    assert seen["guarded"] == seen["plain"]


def test_rows_are_there_when_they_are_read_back(python: Path, tmp_path: Path) -> None:
    """Within an invocation flush() of a dataset and summarize() of an experiment find the rows just written."""
    with BraintrustServer(latency=0.02) as server:
        assert run(python, "reads", "guarded", server, tmp_path) == [["one"], {"right": 1.0}]


@pytest.mark.parametrize("fault", ["reset", "503"])
def test_requests_that_pass_through_keep_the_sdks_retries(python: Path, tmp_path: Path, fault: str) -> None:
    """What the SDK alone gets after a reset or a 503 it gets in an invocation too."""
    said = {}
    for mode in MODES:
        with BraintrustServer() as server:
            server.prompts["greeting"] = "hi"
            for endpoint in ("/v1/prompt", *(("/function/invoke", "/btql") if fault == "reset" else ())):
                server.fail(endpoint, Fault.reset() if fault == "reset" else Fault.status(503), times=1)
            try:
                said[mode] = run(python, "asks", mode, server, tmp_path / mode)
            except AssertionError:
                said[mode] = "failed"
    assert said["guarded"] == said["plain"]
    if fault == "reset":
        assert said["plain"] == ["greeting", "hello", []]


def test_no_placeholder_leaves_the_process(python: Path, tmp_path: Path) -> None:
    """Before the project is looked up a handler hands out what the SDK alone does: the project's name, or links that
    work; and a parent of the same project is followed."""
    for mode in MODES:
        with BraintrustServer(latency=0.2) as server:
            parent = SpanComponentsV3(
                object_type=SpanObjectTypeV3.PROJECT_LOGS, object_id=server.add_project("mine"),
                row_id="6f1c1a4e-8d5c-4a86-a6a0-0d3c0e1ac8f1", span_id="5cf0d7e4-18f1-4b1e-9d2d-54b30c9b4f3e",
                root_span_id="cf6c6d0f-65a1-4b57-95f3-7d7d4a2d9f0a",
            ).to_str()
            server.answer_functions(lambda asked: asked["parent"])
            said = run(python, "hands_out", mode, server, tmp_path / mode, PARENT=parent)
            assert "trace-guard" not in json.dumps(said)
            known = {**server._store.projects(), "": ""}
            assert {*said["otel"]} <= parents_of(server)
            for slug in (*said["export"], *said["invoked"]):
                components = SpanComponentsV4.from_str(slug)
                args = components.compute_object_metadata_args or {}
                assert (known.get(components.object_id or "") or args.get("project_name")) in ("mine", "theirs")
            assert all(f"object_id={server.add_project('mine')}" in link for link in said["permalink"])
            assert all("/app/organization/object" in link for link in said["permalink"])
            assert {"call", "same project"} <= set(by_name(server))


@pytest.mark.parametrize("by", ["module", "name"])
def test_an_adapter_that_a_handler_sets_sees_what_it_would_see_alone(python: Path, tmp_path: Path, by: str) -> None:
    """An adapter that is set in the first invocation carries real ids, and all rows arrive."""
    for mode in MODES:
        with BraintrustServer(latency=0.1) as server:
            said, seen = run(python, "sets_an_adapter", mode, server, tmp_path / mode, by)
            assert said == ["one", "by name"]
            assert "trace-guard" not in json.dumps([request for request in seen if "/upload/" not in request[1]])
            assert {"before", "after", "of the logger"} <= set(by_name(server))
            assert {row["id"] for row in server.rows()} >= {"one", "row"}
            assert list(server.attachments.values()) == [b"content"]


@pytest.mark.parametrize("place", ["logger", "none"])
def test_an_evaluation_without_logs_is_as_it_is_alone(python: Path, tmp_path: Path, place: str) -> None:
    """An Eval(no_send_logs=True) in an invocation has the results that it has alone, and sends only what it sends
    alone: nothing, unless user code has a logger."""
    said, names = {}, {}
    for mode in MODES:
        with BraintrustServer() as server:
            said[mode] = run(python, "evaluation_without_logs", mode, server, tmp_path / mode, place)
            assert [request.path for request in server.requests if "experiment" in request.path] == []
            names[mode] = set(by_name(server)) - {"invocation", "after"}
    assert said["guarded"] == said["plain"]
    expected = {"eval", "task", "score", "in the task"} if place == "logger" else set()
    assert names == dict.fromkeys(MODES, expected)


def test_a_function_without_parent_has_the_sdks(python: Path, tmp_path: Path) -> None:
    """A function that is invoked without a parent is below the invocation, and where an experiment is current below
    that, as without the guard."""
    for mode in MODES:
        with BraintrustServer(latency=0.05) as server:
            server.answer_functions(lambda asked: asked["parent"])
            said = run(python, "invocations_without_parent", mode, server, tmp_path / mode)
            first, second, third = [SpanComponentsV4.from_str(slug) for slug in said]
            case = by_name(server)["case"]
            assert first.object_type == SpanObjectTypeV3.PROJECT_LOGS
            assert first.span_id == (by_name(server)["invocation"]["span_id"] if mode == "guarded" else None)
            assert {(one.object_type, one.object_id) for one in (second, third)} == {
                (SpanObjectTypeV3.EXPERIMENT, object_id("experiment", "exp")),
            }
            assert (second.span_id, third.span_id) == (None, case["span_id"])
            if mode == "guarded":
                links(server, "case")


def test_opentelemetry_gets_what_it_gets_alone(python: Path, tmp_path: Path) -> None:
    """Spans of OpenTelemetry in the first invocation name a parent that anybody can resolve."""
    for mode in MODES:
        with BraintrustServer(latency=0.1) as server:
            seen = run(python, "opentelemetry", mode, server, tmp_path / mode, BRAINTRUST_OTEL_COMPAT="true")
            assert [name for name, _ in seen] == [
                "in the root", "in a step", "below an exported root", "below an exported step",
            ]
            assert {parent for _, parent in seen} <= parents_of(server)
            assert {"invocation", "step"} <= set(by_name(server))


def parents_of(server: BraintrustServer) -> set[str]:
    """How the SDK names the project of the handler to others."""
    return {"project_name:mine", f"project_id:{server.add_project('mine')}"}
