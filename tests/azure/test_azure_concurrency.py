"""Many concurrent invocations on the worker's threads and on its loop."""

from __future__ import annotations

import pytest
from azure_host import triggers
from azure_host.deployment import Deployments, outcome_of
from azure_host.installation import needs_runtime

pytestmark = needs_runtime
TOGETHER = 20


@pytest.mark.parametrize("function", ["together", "together_async"])
def test_traces_do_not_mix(deploy: Deployments, function: str) -> None:
    """Each of twenty concurrent invocations has its own trace with only its own spans, and an open span is closed
    with its own trace."""
    app = deploy("azure_http", PYTHON_THREADPOOL_THREAD_COUNT=str(TOGETHER))
    app.server.clear()
    app.host.start()
    numbers = [str(number) for number in range(TOGETHER)]
    begun = [app.host.begin(function, triggers.http(query={"number": number})) for number in numbers]
    answers = [app.host.result(each) for each in begun]
    assert [answer.value for answer in answers] == numbers

    rows = app.server.span_rows()
    roots = {row["metadata"]["faas.invocation_id"]: row for row in rows if not row["span_parents"]}
    assert len(roots) == TOGETHER
    assert len(rows) == 3 * TOGETHER
    for number, answer in zip(numbers, answers, strict=True):
        root = roots[answer.invocation_id]
        below = {row["span_attributes"]["name"]: row for row in rows if row["span_parents"] == [root["span_id"]]}
        assert set(below) == {f"before {number}", f"open {number}"}
        assert outcome_of(root) == "ok"
        assert below[f"open {number}"]["metadata"]["trace_guard"]["reason"] == "left_open"
        assert all(row["root_span_id"] == root["root_span_id"] and row["metrics"]["end"] for row in below.values())
