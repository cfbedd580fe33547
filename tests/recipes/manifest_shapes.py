"""The allowed fields of manifests for platforms without a schema package, and a check against them.

The shapes are excerpts of the platforms' schemas with names and types, limited to what a batch job may need:
``run.v1`` of https://cloud.google.com/run/docs/reference/rest/v1/namespaces.jobs, and ``Microsoft.App/jobs`` of
https://learn.microsoft.com/azure/templates/microsoft.app/jobs.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, TypedDict, get_args, get_origin, get_type_hints

__all__ = ["CloudRunJob", "ContainerAppsJob", "misfits"]


def misfits(value: Any, shape: Any, path: str = "") -> list[str]:
    """The paths of unknown keys and of values of a wrong type."""
    arguments = get_args(shape)
    if NoneType in arguments:
        return misfits(value, next(one for one in arguments if one is not NoneType), path)
    if get_origin(shape) is list and isinstance(value, list):
        return [misfit for at, one in enumerate(value) for misfit in misfits(one, arguments[0], f"{path}[{at}]")]
    if get_origin(shape) is dict and isinstance(value, dict):
        return [misfit for key, one in value.items() for misfit in misfits(one, arguments[1], f"{path}.{key}")]
    if isinstance(value, dict) and isinstance(shape, type) and (known := get_type_hints(shape)):
        strange = [f"{path}.{key} is not known" for key in value if key not in known]
        return strange + [
            misfit for key in value if key in known for misfit in misfits(value[key], known[key], f"{path}.{key}")
        ]
    if type(value) is shape or (shape is float and type(value) is int):
        return []
    return [f"{path} is {value!r}, not {shape}"]


class KeyOfSecret(TypedDict, total=False):
    name: str
    key: str


class ValueFrom(TypedDict, total=False):
    secretKeyRef: KeyOfSecret


class CloudRunVariable(TypedDict, total=False):
    name: str
    value: str
    valueFrom: ValueFrom


class Resources(TypedDict, total=False):
    limits: dict[str, str]


class CloudRunContainer(TypedDict, total=False):
    image: str
    command: list[str]
    args: list[str]
    env: list[CloudRunVariable]
    resources: Resources


class TaskSpec(TypedDict, total=False):
    containers: list[CloudRunContainer]
    maxRetries: int
    timeoutSeconds: int
    serviceAccountName: str


class TaskTemplate(TypedDict, total=False):
    spec: TaskSpec


class ExecutionSpec(TypedDict, total=False):
    parallelism: int
    taskCount: int
    template: TaskTemplate


class Metadata(TypedDict, total=False):
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]


class ExecutionTemplate(TypedDict, total=False):
    metadata: Metadata
    spec: ExecutionSpec


class CloudRunJobSpec(TypedDict, total=False):
    template: ExecutionTemplate


class CloudRunJob(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: Metadata
    spec: CloudRunJobSpec


class Secret(TypedDict, total=False):
    name: str
    value: str
    keyVaultUrl: str
    identity: str


class ManualTrigger(TypedDict, total=False):
    parallelism: int
    replicaCompletionCount: int


class Configuration(TypedDict, total=False):
    triggerType: str
    replicaTimeout: int
    replicaRetryLimit: int
    manualTriggerConfig: ManualTrigger
    secrets: list[Secret]


class ContainerAppsVariable(TypedDict, total=False):
    name: str
    value: str
    secretRef: str


class ContainerResources(TypedDict, total=False):
    cpu: float
    memory: str


class VolumeMount(TypedDict, total=False):
    volumeName: str
    mountPath: str
    subPath: str


class ContainerAppsContainer(TypedDict, total=False):
    name: str
    image: str
    command: list[str]
    args: list[str]
    env: list[ContainerAppsVariable]
    resources: ContainerResources
    volumeMounts: list[VolumeMount]


class Volume(TypedDict, total=False):
    name: str
    storageType: str
    storageName: str


class ContainerAppsTemplate(TypedDict, total=False):
    containers: list[ContainerAppsContainer]
    volumes: list[Volume]


class ContainerAppsProperties(TypedDict, total=False):
    environmentId: str
    configuration: Configuration
    template: ContainerAppsTemplate


class ContainerAppsJob(TypedDict, total=False):
    location: str
    properties: ContainerAppsProperties
