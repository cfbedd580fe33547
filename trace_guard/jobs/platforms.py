"""The platforms that jobs run on, one class each. Specific platforms come before general ones.

All facts come from environment variables; no metadata server is called. Keys follow OpenTelemetry where it defines them
(https://opentelemetry.io/docs/specs/semconv/registry/attributes/): ``cloud.*``, ``faas.*``, ``k8s.*``,
``gcp.cloud_run.job.*``. Keys that all platforms share are in ``job``: see
:class:`trace_guard.jobs.platform.Platform`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .platform import Environ, Platform

__all__ = ["detect"]

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The suffix that the Job controller appends to the name: https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values
_RANDOM = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{5}$")


class Airflow(Platform):
    """A task of Airflow, whichever executor runs it.

    The variables are those of ``AIRFLOW_VAR_NAME_FORMAT_MAPPING``:
    https://github.com/apache/airflow/blob/main/task-sdk/src/airflow/sdk/execution_time/context.py. Airflow may allow an
    attempt more time to end (``killed_task_cleanup_time``), but the executor's platform need not.
    """

    name = "airflow"

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        return bool(environ.get("AIRFLOW_CTX_DAG_ID") and environ.get("AIRFLOW_CTX_TASK_ID"))

    @property
    def job_name(self) -> str | None:
        return f"{self._first('AIRFLOW_CTX_DAG_ID')}.{self._first('AIRFLOW_CTX_TASK_ID')}"

    def _job(self) -> dict[str, Any]:
        dag, task = self._first("AIRFLOW_CTX_DAG_ID"), self._first("AIRFLOW_CTX_TASK_ID")
        run = self._first("AIRFLOW_CTX_DAG_RUN_ID")
        attempt = self._number("AIRFLOW_CTX_TRY_NUMBER")
        group = "/".join(part for part in (dag, run, task) if part)
        return {
            "id": group if attempt is None else f"{group}/{attempt}", "group": group, "attempt": attempt, "dag": dag,
            "task": task, "run": run,
            "logical_date": self._first("AIRFLOW_CTX_LOGICAL_DATE", "AIRFLOW_CTX_EXECUTION_DATE"),
        }


class AwsBatch(Platform):
    """A job of AWS Batch. All attempts of a job have the same id. The id of an array's child ends in its index.

    https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html and, for the grace period,
    https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html
    """

    name = "aws_batch"

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        return bool(environ.get("AWS_BATCH_JOB_ID"))

    def _job(self) -> dict[str, Any]:
        job_id, index = str(self._first("AWS_BATCH_JOB_ID")), self._number("AWS_BATCH_JOB_ARRAY_INDEX")
        attempt = self._number("AWS_BATCH_JOB_ATTEMPT")
        return {
            "id": job_id, "group": job_id, "attempt": attempt, "index": index,
            "array": None if index is None else job_id.partition(":")[0],
            "queue": self._first("AWS_BATCH_JQ_NAME"),
            "compute_environment": self._first("AWS_BATCH_CE_NAME"),
            "node": self._number("AWS_BATCH_JOB_NODE_INDEX"), "nodes": self._number("AWS_BATCH_JOB_NUM_NODES"),
        }

    def _facts(self) -> dict[str, Any]:
        return _aws(self._environ)


class CloudRunJob(Platform):
    """A task of a Cloud Run job. Cloud Run counts attempts from 0.

    https://cloud.google.com/run/docs/container-contract#jobs-env-vars and, for the grace period,
    https://cloud.google.com/run/docs/container-contract#jobs-shutdown
    """

    name = "cloud_run_job"
    grace = 10.0

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        return bool(environ.get("CLOUD_RUN_JOB"))

    @property
    def job_name(self) -> str | None:
        return self._first("CLOUD_RUN_JOB")

    def _job(self) -> dict[str, Any]:
        execution, index = self._first("CLOUD_RUN_EXECUTION"), self._number("CLOUD_RUN_TASK_INDEX")
        retries = self._number("CLOUD_RUN_TASK_ATTEMPT")
        group = f"{execution or self.job_name}/{index or 0}"
        attempt = None if retries is None else retries + 1
        return {
            "id": group if attempt is None else f"{group}/{attempt}", "group": group, "attempt": attempt,
            "index": index, "count": self._number("CLOUD_RUN_TASK_COUNT"), "execution": execution,
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "cloud.provider": "gcp", "cloud.platform": "gcp_cloud_run", "faas.name": self.job_name,
            "cloud.region": self._first("CLOUD_RUN_REGION", "GOOGLE_CLOUD_REGION"),
            "cloud.account.id": self._first("GOOGLE_CLOUD_PROJECT"),
            "gcp.cloud_run.job.execution": self._first("CLOUD_RUN_EXECUTION"),
            "gcp.cloud_run.job.task_index": self._number("CLOUD_RUN_TASK_INDEX"),
        }


class ContainerAppsJob(Platform):
    """A job of Azure Container Apps. The attempt is unknown: the replicas of an execution may be attempts or parallel
    replicas.

    https://learn.microsoft.com/azure/container-apps/environment-variables and, for the grace period,
    https://learn.microsoft.com/azure/container-apps/application-lifecycle-management#shutdown
    """

    name = "container_apps_job"

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        return bool(environ.get("CONTAINER_APP_JOB_NAME"))

    @property
    def job_name(self) -> str | None:
        return self._first("CONTAINER_APP_JOB_NAME")

    def _job(self) -> dict[str, Any]:
        execution = self._first("CONTAINER_APP_JOB_EXECUTION_NAME")
        return {
            "id": self._first("CONTAINER_APP_REPLICA_NAME", "HOSTNAME") or execution,
            "group": execution or self.job_name, "execution": execution,
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "cloud.provider": "azure", "cloud.platform": "azure_container_apps", "faas.name": self.job_name,
            "faas.instance": self._first("CONTAINER_APP_REPLICA_NAME"),
        }


class Ecs(Platform):
    """A task of Amazon ECS. Its id is the container's id in the metadata URL.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html and, for the grace,
    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html. ``stopTimeout`` can raise it to 120
    seconds, but the container can't read that value.
    """

    name = "ecs"

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        return any(environ.get(name) for name in ("ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI"))

    def _job(self) -> dict[str, Any]:
        uri = self._first("ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI") or ""
        return {"id": uri.rstrip("/").rpartition("/")[2] or None}

    def _facts(self) -> dict[str, Any]:
        return {**_aws(self._environ), "cloud.platform": "aws_ecs"}


class Kubernetes(Platform):
    """A Kubernetes pod. The Job controller names pods after the Job, followed by the index of an indexed Job and by
    five random characters. All attempts share the name without these characters.

    https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-names and, for the grace period,
    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
    """

    name = "kubernetes"

    @classmethod
    def detects(cls, environ: Environ) -> bool:
        return bool(environ.get("KUBERNETES_SERVICE_HOST"))

    def _job(self) -> dict[str, Any]:
        pod, index = self._pod, self._number("JOB_COMPLETION_INDEX")
        group = _RANDOM.sub("", pod) if pod else None
        return {
            "id": self._first("POD_UID") or pod, "index": index, "group": self._first("JOB_NAME") or group,
        }

    @property
    def _pod(self) -> str | None:
        return self._first("POD_NAME", "HOSTNAME")

    def _facts(self) -> dict[str, Any]:
        namespace = self._first("POD_NAMESPACE")
        if namespace is None and _NAMESPACE.is_file():
            namespace = _NAMESPACE.read_text().strip()
        return {
            "k8s.pod.name": self._pod, "k8s.pod.uid": self._first("POD_UID"), "k8s.namespace.name": namespace,
            "k8s.node.name": self._first("NODE_NAME"),
        }


_PLATFORMS: tuple[type[Platform], ...] = (
    Airflow, AwsBatch, CloudRunJob, ContainerAppsJob, Ecs, Kubernetes, Platform,
)


def detect(environ: Environ | None = None) -> Platform:
    """The platform that the environment variables belong to; :class:`Platform` itself for an unknown one."""
    environ = os.environ if environ is None else environ
    return next(platform for platform in _PLATFORMS if platform.detects(environ))(environ)


def _aws(environ: Environ) -> dict[str, Any]:
    return {"cloud.provider": "aws", "cloud.region": environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")}
