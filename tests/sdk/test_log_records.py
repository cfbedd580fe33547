"""Log records of loggers, and the kind of ids that user code chooses after the guard is there."""

from __future__ import annotations

from pathlib import Path

from support import Program, environment

from trace_guard.testing import BraintrustServer

RECORDS = """
    import braintrust
    from trace_guard import Guard

    with Guard(project="mine").invocation("invocation") as invocation:
        ours, other = (braintrust.init_logger(project=name, set_current=False) for name in ("mine", "other"))
        if hasattr(other, "emit_log"):
            for logger in (ours, other):
                logger.emit_log("said", "info")
        say(invocation.span.root_span_id, hasattr(other, "emit_log"))
"""
IDS = """
    import os
    import braintrust
    from trace_guard import Guard

    if os.environ["GUARDED"]:
        Guard(project="mine").start()
    os.environ["BRAINTRUST_LEGACY_IDS"] = "true"
    with braintrust.init_logger(project="mine").start_span(name="span") as span:
        say(len(span.span_id), span.span_id == span.root_span_id)
"""


def test_a_log_record_is_in_the_trace_of_its_own_project(
    python: Path, server: BraintrustServer, directory: Path
) -> None:
    """Within an invocation a record of the same project joins its trace; one of another project does not."""
    with Program(RECORDS, environment(server, directory, TRACE_GUARD_PROJECT_ID=""), python=python) as program:
        trace, has_records = program.hears().split()
        program.ends_well()
    rows = [row for row in server.rows() if (row.get("span_attributes") or {}).get("type") == "log"]
    if has_records == "True":
        assert {row["project_id"]: row["root_span_id"] == trace for row in rows} == {
            server.add_project("mine"): True, server.add_project("other"): False,
        }
    else:
        assert rows == []


def test_the_kind_of_ids_can_be_chosen_after_the_guard_is_there(
    python: Path, server: BraintrustServer, directory: Path
) -> None:
    """``BRAINTRUST_LEGACY_IDS`` that user code sets before its first span decides what ids look like, as it does
    without the guard."""
    said = []
    for guarded in ("", "1"):
        variables = environment(server, directory, TRACE_GUARD_PROJECT_ID="")
        with Program(IDS, {**variables, "GUARDED": guarded}, python=python) as program:
            said.append(program.hears())
            program.ends_well()
    assert said[0] == said[1]
