"""Parts of Kubernetes manifests that all pods of a job have in common."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from caloforge.deploy.job import NAME, Job
from caloforge.errors import ConfigError

# user id in the image
USER = 1000
# seconds from SIGTERM to SIGKILL, in which the processes save
GRACE = 300
# RFC 1123 subdomain: valid names of claims and namespaces
CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def check(job: Job) -> str:
    """Check that Kubernetes can run a job; returns its image.

    Raises:
        ConfigError: No image, a volume that is not a claim, or a file of the command outside all volumes.
    """
    problems = []
    if job.image is None or job.image.endswith(".sif"):
        problems.append("--image is needed on Kubernetes: registry/name:tag, built from deploy/Dockerfile")
    if not job.volumes:
        problems.append("--volume is needed on Kubernetes: CLAIM:/data, a claim with the run and its showers")
    problems += [
        f"--volume {volume.source}:{volume.path}: {volume.source!r} is not a valid name of a persistent "
        "volume claim, such as showers"
        for volume in job.volumes
        if not CLAIM.fullmatch(volume.source)
    ]
    if job.volumes:
        problems += [
            f"{option} {path}: lies on no volume; expected a path below "
            + " or ".join(volume.path for volume in job.volumes)
            for option, path in job.paths.items()
            if not _on_volume(job, path)
        ]
    if problems:
        raise ConfigError("\n".join(problems))
    assert job.image is not None
    return job.image


def _on_volume(job: Job, path: str) -> bool:
    """Whether a path lies on a volume; relative ones start at the first volume."""
    whole = PurePosixPath(job.volumes[0].path) / path
    return ".." not in whole.parts and any(whole.is_relative_to(volume.path) for volume in job.volumes)


def metadata(job: Job, namespace: str | None, name: str | None = None) -> dict[str, Any]:
    """Name, namespace and labels of an object.

    Raises:
        ConfigError: The namespace is not a valid name.
    """
    if namespace is not None and not NAME.fullmatch(namespace):
        raise ConfigError(f"--namespace {namespace}: expected small letters, digits and hyphens")
    place = {} if namespace is None else {"namespace": namespace}
    labels = {"app.kubernetes.io/name": "caloforge", "app.kubernetes.io/instance": job.name}
    return {"name": name or job.name, **place, "labels": labels}


def labels() -> dict[str, Any]:
    """Labels that the network policy in `deploy/` selects."""
    return {"labels": {"app.kubernetes.io/part-of": "caloforge"}}


def resources(job: Job) -> dict[str, Any]:
    """Resource requests and limits of the pod of a node; cores are requested but not limited."""
    amounts: dict[str, str] = {"memory": job.memory}
    if job.gpus:
        amounts["nvidia.com/gpu"] = str(job.gpus)
    return {"requests": {"cpu": str(job.cpus * job.processes), **amounts}, "limits": amounts}


def environment(job: Job) -> list[dict[str, str]]:
    """Environment variables of a container; home and cache are in /tmp, since the image is read-only."""
    home = {"HOME": "/tmp", "XDG_CACHE_HOME": "/tmp/cache"}  # noqa: S108 - of the pod alone
    return [{"name": name, "value": value} for name, value in {**home, **job.variables}.items()]


def container(job: Job, name: str, image: str) -> dict[str, Any]:
    """A container with the volumes, without privileges."""
    document: dict[str, Any] = {
        "name": name,
        "image": image,
        "workingDir": job.volumes[0].path,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": f"volume-{place}", "mountPath": volume.path} for place, volume in enumerate(job.volumes)
        ]
        + [{"name": "shared-memory", "mountPath": "/dev/shm"}],  # noqa: S108 - of the pod alone
    }
    if job.secret is not None:
        document["envFrom"] = [{"secretRef": {"name": job.secret}}]
    return document


def pod(job: Job, containers: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod of a node."""
    volumes: list[dict[str, Any]] = [
        {"name": f"volume-{place}", "persistentVolumeClaim": {"claimName": volume.source}}
        for place, volume in enumerate(job.volumes)
    ]
    # the default 64 MiB of shared memory are too small for NCCL and Ray; it counts as memory of the pod
    memory = {
        "name": "shared-memory",
        "emptyDir": {"medium": "Memory", "sizeLimit": f"{job.mebibytes // 4}Mi"},
    }
    return {
        "terminationGracePeriodSeconds": GRACE,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        "volumes": [*volumes, memory],
    }
