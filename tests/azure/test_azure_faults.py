"""Faults of the guard itself, which must not affect user code."""

from __future__ import annotations

import pytest
from azure_host import triggers
from azure_host.deployment import Deployments
from azure_host.installation import needs_runtime
from support import until

from trace_guard.testing.steps import AZURE

pytestmark = needs_runtime


@pytest.mark.parametrize("step", AZURE)
def test_a_fault_of_ours_stays_ours(deploy: Deployments, step: str) -> None:
    """If any step of the guard raises, functions get their arguments, return and raise as usual, and the fault is
    logged."""
    app = deploy("azure_faults", breaks=True)
    host = app.host.start()
    assert host.invoke("break_step", triggers.generic(step)).error == ""
    for function in ("http", "http_async"):
        answer = host.invoke(function, triggers.http("POST", body="?"))
        assert (answer.error, answer.value["status"], answer.value["body"]) == ("", 202, b"fine")
    assert host.invoke("queue", triggers.queue("one")).error == "LookupError: queue"
    assert host.invoke("break_step", triggers.generic("")).value["raised"] > 0
    until(lambda: "broken on purpose" in host.log)
