"""A simulation or generation as indexed Job of Kubernetes: each pod makes a part of the showers."""

from __future__ import annotations

import shlex
from typing import Any

from caloforge.deploy import pods
from caloforge.deploy.job import Job

# pods that may fail, for each part
RESTARTS = 3


def array_job(job: Job, namespace: str | None = None) -> list[dict[str, Any]]:
    """Render the Job; `nodes` pods run at a time, and the last one to end joins the parts.

    Raises:
        ConfigError: Kubernetes cannot run the job.
    """
    image = pods.check(job)
    assert job.array is not None
    part = f'--part "$((JOB_COMPLETION_INDEX + 1))/{job.array}"'
    container = {
        **pods.container(job, "part", image),
        "command": ["bash", "-c", f"{shlex.join(job.command)} {part} && {shlex.join(job.join)}"],
        "env": pods.environment(job),
        "resources": pods.resources(job),
    }
    return [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": pods.metadata(job, namespace),
            "spec": {
                "completionMode": "Indexed",
                "completions": job.array,
                "parallelism": min(job.nodes, job.array),
                "backoffLimit": RESTARTS * job.array,
                "activeDeadlineSeconds": job.seconds,
                "template": {
                    "metadata": pods.labels(),
                    "spec": {"restartPolicy": "Never", **pods.pod(job, [container])},
                },
            },
        }
    ]
