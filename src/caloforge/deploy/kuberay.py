"""A study as RayJob of KubeRay, or as the command that gives it to a Ray cluster that runs already."""

from __future__ import annotations

import re
import shlex
from typing import Any

from caloforge.deploy import pods
from caloforge.deploy.job import Job
from caloforge.errors import ConfigError

API = "ray.io/v1"
# the operator asks for it; that of the image counts
RAY_VERSION = "2.60.0"
# how often the driver starts again; it continues the study
RESTARTS = 3
# the cluster of a finished job is kept this long, for its logs, s
KEEP = 600
ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?/?")


def ray_job(job: Job, namespace: str | None = None) -> list[dict[str, Any]]:
    """A RayJob: a head, which runs the driver and no trials, and a pod of workers for each node.

    Raises:
        ConfigError: A job that Kubernetes cannot run.
    """
    image = pods.check(job)
    workers = {**pods.container(job, "ray-worker", image), "resources": pods.resources(job)}
    head_job = job.model_copy(update={"processes": 1, "gpus": 0})
    head = {**pods.container(job, "ray-head", image), "resources": pods.resources(head_job)}
    for document in (head, workers):
        document["env"] = pods.environment(job)
    return [
        {
            "apiVersion": API,
            "kind": "RayJob",
            "metadata": pods.metadata(job, namespace),
            "spec": {
                # where the driver starts is up to Ray; relative paths are those of the volume
                "entrypoint": shlex.join(["env", f"--chdir={job.volumes[0].path}", *job.command]),
                "activeDeadlineSeconds": job.seconds,
                "backoffLimit": RESTARTS,
                "shutdownAfterJobFinishes": True,
                "ttlSecondsAfterFinished": KEEP,
                "rayClusterSpec": {
                    "rayVersion": RAY_VERSION,
                    # the operator makes a token, and every pod of the cluster asks for it
                    "authOptions": {"mode": "token"},
                    "headGroupSpec": {
                        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - of the pod
                        "template": {"metadata": pods.labels(), "spec": pods.pod(job, [head])},
                    },
                    "workerGroupSpecs": [
                        {
                            "groupName": "workers",
                            "replicas": job.nodes,
                            "minReplicas": job.nodes,
                            "maxReplicas": job.nodes,
                            "rayStartParams": {},
                            "template": {
                                "metadata": pods.labels(),
                                "spec": pods.pod(job, [workers]),
                            },
                        }
                    ],
                },
            },
        }
    ]


def ray_command(job: Job, address: str) -> list[str]:
    """The command that gives a study to the Ray cluster at an address; its nodes are what they are.

    Raises:
        ConfigError: An address that is none.
    """
    if not ADDRESS.fullmatch(address):
        raise ConfigError(f"--dashboard {address}: expected an address, such as http://head:8265")
    return ["ray", "job", "submit", f"--address={address}", "--no-wait", "--", *job.command]
