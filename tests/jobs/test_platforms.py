"""The detection of the platform that a job runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trace_guard.jobs import platforms
from trace_guard.jobs.platforms import detect

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "nightly-28412345-x7k2p", "NODE_NAME": "node-1"}
ECS = {
    "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/cd189a933e5849daa93386466019ab50-2495160603",
    "AWS_REGION": "eu-west-1",
}

# The environment, the expected platform, the name and grace of the job, and its metadata.
PLACES: dict[str, tuple[dict[str, str], str, str | None, float, dict[str, Any]]] = {
    "aws_batch, a child of an array, on its second attempt": (
        {
            **ECS, "AWS_BATCH_JOB_ID": "5f2e:7", "AWS_BATCH_JOB_ATTEMPT": "2", "AWS_BATCH_JOB_ARRAY_INDEX": "7",
            "AWS_BATCH_JQ_NAME": "spot", "AWS_BATCH_CE_NAME": "fleet",
        },
        "aws_batch", None, 30.0,
        {
            "cloud.provider": "aws", "cloud.region": "eu-west-1",
            "job": {
                "platform": "aws_batch", "id": "5f2e:7", "group": "5f2e:7", "attempt": 2, "retries": 1, "index": 7,
                "array": "5f2e", "queue": "spot", "compute_environment": "fleet",
            },
        },
    ),
    "cloud_run_job, which counts attempts from 0 on": (
        {
            "CLOUD_RUN_JOB": "nightly", "CLOUD_RUN_EXECUTION": "nightly-abc", "CLOUD_RUN_TASK_INDEX": "3",
            "CLOUD_RUN_TASK_COUNT": "10", "CLOUD_RUN_TASK_ATTEMPT": "1",
        },
        "cloud_run_job", "nightly", 10.0,
        {
            "cloud.provider": "gcp", "cloud.platform": "gcp_cloud_run", "faas.name": "nightly",
            "gcp.cloud_run.job.execution": "nightly-abc", "gcp.cloud_run.job.task_index": 3,
            "job": {
                "platform": "cloud_run_job", "id": "nightly-abc/3/2", "group": "nightly-abc/3", "attempt": 2,
                "retries": 1, "index": 3, "count": 10, "execution": "nightly-abc",
            },
        },
    ),
    "container_apps_job": (
        {
            "CONTAINER_APP_JOB_NAME": "nightly", "CONTAINER_APP_JOB_EXECUTION_NAME": "nightly-1",
            "CONTAINER_APP_REPLICA_NAME": "nightly-1-x", **POD,
        },
        "container_apps_job", "nightly", 30.0,
        {
            "cloud.provider": "azure", "cloud.platform": "azure_container_apps", "faas.name": "nightly",
            "faas.instance": "nightly-1-x",
            "job": {
                "platform": "container_apps_job", "id": "nightly-1-x", "group": "nightly-1", "execution": "nightly-1",
            },
        },
    ),
    "airflow, wherever its worker runs": (
        {
            **POD, "AIRFLOW_CTX_DAG_ID": "evals", "AIRFLOW_CTX_TASK_ID": "score", "AIRFLOW_CTX_TRY_NUMBER": "3",
            "AIRFLOW_CTX_DAG_RUN_ID": "run-1", "AIRFLOW_CTX_LOGICAL_DATE": "2026-01-01",
        },
        "airflow", "evals.score", 30.0,
        {
            "job": {
                "platform": "airflow", "id": "evals/run-1/score/3", "group": "evals/run-1/score", "attempt": 3,
                "retries": 2, "dag": "evals", "task": "score", "run": "run-1", "logical_date": "2026-01-01",
            },
        },
    ),
    "ecs": (
        ECS, "ecs", None, 30.0,
        {
            "cloud.provider": "aws", "cloud.platform": "aws_ecs", "cloud.region": "eu-west-1",
            "job": {"platform": "ecs", "id": "cd189a933e5849daa93386466019ab50-2495160603"},
        },
    ),
    "kubernetes": (
        POD, "kubernetes", None, 30.0,
        {
            "k8s.pod.name": "nightly-28412345-x7k2p", "k8s.node.name": "node-1", "k8s.namespace.name": "batch",
            "job": {"platform": "kubernetes", "id": "nightly-28412345-x7k2p", "group": "nightly-28412345"},
        },
    ),
    "kubernetes, an index of a Job": (
        {**POD, "HOSTNAME": "score-4", "JOB_COMPLETION_INDEX": "4", "POD_UID": "u-1"}, "kubernetes", None, 30.0,
        {
            "k8s.pod.name": "score-4", "k8s.pod.uid": "u-1", "k8s.node.name": "node-1", "k8s.namespace.name": "batch",
            "job": {"platform": "kubernetes", "id": "u-1", "group": "score-4", "index": 4},
        },
    ),
    "plain": ({"HOME": "/root"}, "plain", None, 30.0, {"job": {"platform": "plain"}}),
    "nonsense in a variable is left out": (
        {"AWS_BATCH_JOB_ID": "5f2e", "AWS_BATCH_JOB_ATTEMPT": "first"}, "aws_batch", None, 30.0,
        {"cloud.provider": "aws", "job": {"platform": "aws_batch", "id": "5f2e", "group": "5f2e"}},
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_platform_is_detected(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each platform is detected from its environment variables, specific ones first, with all its metadata."""
    namespace = tmp_path / "namespace"
    namespace.write_text("batch\n")
    monkeypatch.setattr(platforms, "_NAMESPACE", namespace)
    environ, name, job_name, grace, metadata = PLACES[place]
    found = detect(environ)
    assert (found.name, found.job_name, found.grace) == (name, job_name, grace)
    assert found.metadata == metadata


def test_the_attempts_of_a_job_share_a_group() -> None:
    """All attempts of a job have the same group, and other jobs have another one."""
    def group(attempt: int, index: int) -> Any:
        return detect({
            "CLOUD_RUN_JOB": "n", "CLOUD_RUN_EXECUTION": "n-1", "CLOUD_RUN_TASK_INDEX": str(index),
            "CLOUD_RUN_TASK_ATTEMPT": str(attempt),
        }).metadata["job"]["group"]

    assert group(0, 1) == group(1, 1) != group(1, 2)
