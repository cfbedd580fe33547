"""The examples that run the reaper on a schedule: each platform takes them, and their options are the reaper's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from lightkube.models.batch_v1 import CronJob
from recipes.manifest_shapes import CloudRunJob, misfits
from stuck import environment, reap, send, span

from trace_guard.testing import BraintrustServer, LambdaSandbox

EXAMPLE = Path(__file__).parents[2] / "examples" / "reap_on_schedule"
TEMPLATE = EXAMPLE / "lambda" / "template.yaml"


class CloudFormation(yaml.SafeLoader):
    """Reads a template; the functions in it are left out."""


CloudFormation.add_multi_constructor("!", lambda loader, name, node: None)


def function() -> dict[str, Any]:
    """The properties of the template's function."""
    template = yaml.load(TEMPLATE.read_text(), CloudFormation)
    return dict(template["Resources"]["Reaper"]["Properties"])


def test_aws_takes_the_template() -> None:
    """AWS's own linter accepts the template of the Lambda example."""
    program = "from cfnlint.runner import main; main()"
    command = [sys.executable, "-c", program, "--non-zero-exit-code", "warning", str(TEMPLATE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
def test_lambda_repairs_on_its_schedule(server: BraintrustServer) -> None:
    """The template's handler, called with its event by AWS's runtime, closes the stuck traces and logs each."""
    send(server, span("agent", ago=7 * 3600), span("young", trace="2", ago=3600))
    event = json.loads(function()["Events"]["EveryQuarterOfAnHour"]["Properties"]["Input"])
    variables = {name: value for name, value in environment(server).items() if name.startswith("BRAINTRUST_")}
    with LambdaSandbox(function()["Handler"], code=EXAMPLE / "lambda", env=variables, timeout=60) as sandbox:
        first = sandbox.invoke(event)
        again = sandbox.invoke({"version": "0", "detail-type": "Scheduled Event", "detail": {"all_projects": True}})
        wrong = sandbox.invoke({"projekt": "support-bot"})
        log = sandbox.log
    assert (first.payload["closed"], first.payload["interrupted"]) == (1, False)
    assert (again.payload["found"], again.payload["closed"]) == (1, 0)
    assert "'projekt' is not an option of the reaper; the options are projects" in wrong.payload["errorMessage"]
    assert [row["id"] for row in server.open_spans()] == ["2-young"]
    assert '"trace_guard": "closed", "root_span_id": "r-t"' in log


def test_a_run_ends_before_the_timeout(server: BraintrustServer) -> None:
    """A run that would last longer than the function's timeout is stopped before it, and says so."""
    from trace_guard_lambda import reaper_handler

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 5100

    server.latency = 0.5
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment(server).items():
            patched.setenv(name, value)
        assert reaper_handler({"all_projects": True, "close": True}, Context())["interrupted"] is True


def test_the_container_runs_the_reaper(server: BraintrustServer) -> None:
    """The image, the Cloud Run job and the CronJob start the reaper with options that it takes."""
    with (EXAMPLE / "cloud_run" / "Dockerfile").open("rb") as file:
        lines = {line["instruction"]: line["value"] for line in DockerfileParser(fileobj=file).structure}
    assert json.loads(lines["ENTRYPOINT"]) == ["trace-guard", "reap"]
    cron = yaml.safe_load((EXAMPLE / "kubernetes" / "cronjob.yaml").read_text())
    arguments = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments == json.loads(lines["CMD"])
    send(server, span("agent", ago=7 * 3600))
    assert json.loads(reap(server, *arguments, project=False).stdout)["summary"]["closed"] == 1


def test_the_platforms_take_the_manifests() -> None:
    """Every key of the manifests exists in the platform's schema, with a value of its type."""
    job = yaml.safe_load((EXAMPLE / "cloud_run" / "cloud_run_job.yaml").read_text())
    cron = yaml.safe_load((EXAMPLE / "kubernetes" / "cronjob.yaml").read_text())
    assert misfits(job, CloudRunJob) == []
    read = CronJob.from_dict(cron)
    assert read.spec.concurrencyPolicy == "Forbid"
    assert read.to_dict() == cron
