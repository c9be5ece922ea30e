"""A study as RayJob of KubeRay, or as the command that submits it to a running Ray cluster."""

from __future__ import annotations

import re
import shlex
from typing import Any

from caloforge.deploy import pods
from caloforge.deploy.job import Job
from caloforge.errors import ConfigError

API = "ray.io/v1"
# required by the operator; the version in the image is what runs
RAY_VERSION = "2.60.0"
# restarts of the driver, which continues the study
RESTARTS = 3
# seconds that the cluster of a finished job is kept for its logs
KEEP = 600
ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?/?")


def ray_job(job: Job, namespace: str | None = None) -> list[dict[str, Any]]:
    """Render a RayJob: a head, which runs only the driver, and a pod of workers for each node.

    Raises:
        ConfigError: Kubernetes cannot run the job.
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
                # Ray chooses the working directory of the driver; relative paths start at the volume
                "entrypoint": shlex.join(["env", f"--chdir={job.volumes[0].path}", *job.command]),
                "activeDeadlineSeconds": job.seconds,
                "backoffLimit": RESTARTS,
                "shutdownAfterJobFinishes": True,
                "ttlSecondsAfterFinished": KEEP,
                "rayClusterSpec": {
                    "rayVersion": RAY_VERSION,
                    # the operator generates a token that every pod of the cluster requires
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
    """The command that submits a study to the Ray cluster at an address, with the nodes that it has.

    Raises:
        ConfigError: The address is not valid.
    """
    if not ADDRESS.fullmatch(address):
        raise ConfigError(f"--dashboard {address}: expected an address, such as http://head:8265")
    return ["ray", "job", "submit", f"--address={address}", "--no-wait", "--", *job.command]
