"""The example that repairs stuck traces on a timer, in Microsoft's own runtime."""

from __future__ import annotations

import time
from pathlib import Path

from azure_host import triggers
from azure_host.deployment import Deployments
from azure_host.installation import needs_runtime

from trace_guard import Deadline, Settings
from trace_guard.backends.make import make_backend
from trace_guard.backends.project_ids import ProjectIds
from trace_guard.rows import dump

pytestmark = needs_runtime
EXAMPLE = Path(__file__).parents[2] / "examples" / "reap_on_schedule" / "azure"


def test_a_timer_repairs_stuck_traces(deploy: Deployments) -> None:
    """The timer closes a trace in which nothing has happened for six hours, and leaves a younger one alone."""
    app = deploy("azure_reaper", folder=EXAMPLE, TRACE_GUARD_PROJECT_ID="")
    project_id = app.server.add_project("support-bot")
    rows = []
    for name, hours in (("old", 7), ("young", 1)):
        start = time.time() - hours * 3600
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
        ids = {"id": name, "span_id": name, "root_span_id": name, "project_id": project_id, "log_id": "g"}
        rows.append({**ids, "created": created, "metrics": {"start": start}, "span_attributes": {"name": name}})
    settings = Settings(backend="braintrust", api_key="key", api_url=app.server.url, app_url=app.server.url)
    backend = make_backend(settings, ProjectIds())
    backend.send([dump(row) for row in rows], Deadline.after(30))
    backend.close()
    app.host.start()
    assert app.host.invoke("reap", triggers.timer()).ok
    assert [row["id"] for row in app.server.open_spans()] == ["young"]
