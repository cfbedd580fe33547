"""The deployment of the batch example: its image, and a manifest for each platform."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from lightkube.models.batch_v1 import Job as KubernetesJob
from manifest_shapes import CloudRunJob, ContainerAppsJob, misfits
from support import REPOSITORY

from trace_guard import Settings
from trace_guard.jobs.platforms import detect

EXAMPLE = REPOSITORY / "examples" / "batch_job"
DEPLOY = EXAMPLE / "deploy"
AWS_BATCH = DEPLOY / "aws_batch.yaml"
SHAPES = {"cloud_run_job": CloudRunJob, "container_apps_job": ContainerAppsJob, "kubernetes_job": KubernetesJob}


class CloudFormation(yaml.SafeLoader):
    """Reads a template. The arguments of its functions stand for their results."""


CloudFormation.add_multi_constructor("!", lambda loader, name, node: loader.construct_object(
    yaml.ScalarNode("tag:yaml.org,2002:str", node.value), deep=True
))


def manifest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())
    return document


def containers() -> dict[str, dict[str, Any]]:
    """The only container of each manifest, by the manifest's name."""
    template = yaml.load(AWS_BATCH.read_text(), CloudFormation)
    return {
        "aws_batch": template["Resources"]["Definition"]["Properties"]["ContainerProperties"],
        "cloud_run_job": manifest("cloud_run_job")["spec"]["template"]["spec"]["template"]["spec"]["containers"][0],
        "container_apps_job": manifest("container_apps_job")["properties"]["template"]["containers"][0],
        "kubernetes_job": manifest("kubernetes_job")["spec"]["template"]["spec"]["containers"][0],
    }


def variables(container: dict[str, Any]) -> dict[str, Any]:
    """Environment variables by name, with their values or sources."""
    given = [*container.get("env", ()), *container.get("Environment", ()), *container.get("Secrets", ())]
    return {
        one.get("name") or one["Name"]: one.get("value") or one.get("Value") or {**one} for one in given
    }


@pytest.fixture(scope="module")
def image() -> dict[str, list[str]]:
    """The lines of the Dockerfile, grouped by instruction, in order."""
    said: dict[str, list[str]] = {}
    with (EXAMPLE / "Dockerfile").open("rb") as file:
        for line in DockerfileParser(fileobj=file).structure:
            said.setdefault(line["instruction"], []).append(line["value"])
    return said


def environment_of(image: dict[str, list[str]]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in image["ENV"])


def lint(template: Path) -> subprocess.CompletedProcess[str]:
    program = "from cfnlint.runner import main; main()"
    command = [sys.executable, "-c", program, "--non-zero-exit-code", "warning", str(template)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_supervisor_is_process_1(image: dict[str, list[str]]) -> None:
    """The image runs the example under ``trace-guard run`` as PID 1, without a shell that would swallow signals."""
    (entrypoint,), (command,) = ([json.loads(line) for line in image[name]] for name in ("ENTRYPOINT", "CMD"))
    assert entrypoint == ["trace-guard", "run", "--"]
    assert "trace-guard" in {script.name for script in entry_points(group="console_scripts")}
    program, script = command
    assert (program, (EXAMPLE / script).is_file()) == ("python", True)
    assert all((EXAMPLE / line.split()[0]).exists() for line in image["COPY"])


def test_the_image_can_write_its_journal(image: dict[str, list[str]]) -> None:
    """The journal is on a volume that belongs to the image's user, who is not root."""
    (user,), (volume,) = image["USER"], image["VOLUME"]
    assert int(user) > 0
    assert environment_of(image) == {"PYTHONUNBUFFERED": "1", "TRACE_GUARD_DIR": volume}
    assert f"useradd --uid {user} --no-create-home job" in image["RUN"][-1]
    assert f"--owner job --mode 0700 {volume}" in image["RUN"][-1]


def test_aws_batch_takes_it() -> None:
    """AWS's own linter accepts the CloudFormation template."""
    done = lint(AWS_BATCH)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SHAPES)
def test_the_platform_takes_it(name: str) -> None:
    """Every key of a manifest exists in the platform's schema, with a value of its type."""
    assert misfits(manifest(name), SHAPES[name]) == []


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_platform_would_not_take_is_found_out(name: str) -> None:
    """The check reports keys that do not exist and values of a wrong type."""
    text = (DEPLOY / f"{name}.yaml").read_text()
    (strange,) = misfits(yaml.safe_load(text.replace("image: ", "images: ")), SHAPES[name])
    assert strange.endswith("containers[0].images is not known")
    (strange,) = misfits(yaml.safe_load(text.replace("image: ", "image: 1 #")), SHAPES[name])
    assert strange.endswith("containers[0].image is 1, not <class 'str'>")


def test_kubernetes_has_what_it_requires() -> None:
    """The Kubernetes manifest has every field that the API requires."""
    job = KubernetesJob.from_dict(manifest("kubernetes_job"))
    assert job.spec.template.spec.containers[0].name == "job"


@pytest.mark.parametrize("name", [*SHAPES, "aws_batch"])
def test_the_image_is_started_as_it_is(name: str, image: dict[str, list[str]]) -> None:
    """Every manifest keeps the supervisor, passes the key as a secret, and sets only variables that exist."""
    container = containers()[name]
    assert "command" not in container
    assert container.get("Command", json.loads(image["CMD"][0])) == json.loads(image["CMD"][0])
    given = variables(container)
    known = {variable for one in fields(Settings) for variable in one.metadata["variables"]}
    assert {one for one in given if one.startswith(("TRACE_GUARD_", "BRAINTRUST_"))} <= known
    assert isinstance(given["BRAINTRUST_API_KEY"], dict)
    assert given["TRACE_GUARD_PROJECT"] == "prompt-eval"


@pytest.mark.parametrize("name", ["container_apps_job", "kubernetes_job"])
def test_the_journal_outlives_the_container(name: str, image: dict[str, list[str]]) -> None:
    """Where containers are restarted in place, the journal is on a volume that persists."""
    mounts = {one["mountPath"]: one.get("name") or one["volumeName"] for one in containers()[name]["volumeMounts"]}
    document = manifest(name)
    template = document["spec"]["template"]["spec"] if "spec" in document else document["properties"]["template"]
    assert mounts[image["VOLUME"][0]] in {volume["name"] for volume in template["volumes"]}


def test_kubernetes_and_the_code_agree(image: dict[str, list[str]]) -> None:
    """The pod's grace equals the grace in the code, its user is the image's, and its facts are on the root span."""
    pod = manifest("kubernetes_job")["spec"]["template"]["spec"]
    given = {name: f"the-{name}" for name in variables(pod["containers"][0])}
    platform = detect({**given, "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert (platform.name, platform.grace) == ("kubernetes", pod["terminationGracePeriodSeconds"])
    assert pod["securityContext"]["runAsUser"] == int(image["USER"][0])
    facts = platform.metadata
    assert (facts["k8s.pod.name"], facts["k8s.pod.uid"], facts["k8s.node.name"]) == (
        "the-POD_NAME", "the-POD_UID", "the-NODE_NAME",
    )
    assert facts["job"]["group"] == "the-JOB_NAME"


def test_the_grace_of_cloud_run() -> None:
    """On Cloud Run the code assumes the fixed grace of ten seconds, whatever the manifest says."""
    assert detect({"CLOUD_RUN_JOB": manifest("cloud_run_job")["metadata"]["name"]}).grace == 10
