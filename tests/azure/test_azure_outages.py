"""Outages of Braintrust."""

from __future__ import annotations

import time

import pytest
from azure_host import triggers
from azure_host.deployment import Deployments, named
from azure_host.installation import needs_runtime
from support import until

from trace_guard.testing import Fault

pytestmark = needs_runtime
FAULTS = {
    "never answers": Fault.black_hole(), "500": Fault.status(500), "401": Fault.status(401), "hangs up": Fault.reset(),
}


def test_no_invocation_suffers(deploy: Deployments) -> None:
    """Whatever Braintrust does, functions return as usual within the delivery budget, and spooled rows arrive when
    it works again."""
    app = deploy("azure_triggers", TRACE_GUARD_FLUSH_TIMEOUT="0.2")
    app.host.start()
    assert app.invoke("queue", triggers.queue("one"))[0].ok
    app.server.clear()
    for fault in FAULTS.values():
        app.server.fail("*", fault)
        for function in ("queue", "queue_async"):
            began = time.monotonic()
            answer = app.host.invoke(function, triggers.queue("one"))
            assert answer.value == {"type": "QueueMessage", "body": "one"}
            # The SDK alone waits from 6 seconds up to hours.
            assert time.monotonic() - began < 5
        app.server.heal()
    answer = app.host.invoke("service_bus", triggers.service_bus("one"))
    assert answer.ok
    until(lambda: len(app.server.span_rows()) == 2 * len(FAULTS) + 1 and not app.server.open_spans())
    assert set(named(app.server.span_rows())) == {"queue", "queue_async", "service_bus"}


@pytest.mark.parametrize("value", ["maybe", ""])
def test_bad_settings_take_nothing_down(deploy: Deployments, value: str) -> None:
    """An invalid variable is logged, and functions still run."""
    app = deploy("azure_triggers", TRACE_GUARD_BACKEND=value or "local")
    assert app.host.start().invoke("queue", triggers.queue("one")).ok
    app.host.kill()  # all of its output has been read by then
    assert ("TRACE_GUARD_BACKEND" in app.host.log) == bool(value)
