"""A training as TrainJob and TrainingRuntime of Kubeflow Trainer v2."""

from __future__ import annotations

from typing import Any

from caloforge.deploy import pods
from caloforge.deploy.job import Job

API = "trainer.kubeflow.org/v1alpha1"
# restarts of all processes, from the last checkpoint, after one has died
RESTARTS = 3
# part of the grace period that torchrun itself needs, s
MARGIN = 20
# the container that the trainer fills in
NODE = "node"


def train_job(job: Job, namespace: str | None = None) -> list[dict[str, Any]]:
    """Render the TrainingRuntime, which describes the pods, and the TrainJob, which describes the command.

    torchrun starts the processes of a pod and gets the rendezvous address from the trainer. When a pod is
    stopped, it passes SIGTERM on to its processes, which save a checkpoint.

    Raises:
        ConfigError: Kubernetes cannot run the job.
    """
    image = pods.check(job)
    of_job, of_runtime = pods.metadata(job, namespace), pods.metadata(job, namespace, f"{job.name}-runtime")
    of_runtime["labels"]["trainer.kubeflow.org/framework"] = "torch"
    reference = {"apiGroup": API.partition("/")[0], "kind": "TrainingRuntime", "name": of_runtime["name"]}
    trainer = {
        "image": image,
        "command": ["torchrun", f"--shutdown-timeout={pods.GRACE - MARGIN}", "-m", "caloforge"],
        "args": list(job.command[1:]),
        "numNodes": job.nodes,
        "numProcPerNode": job.processes,
        "resourcesPerNode": pods.resources(job),
        "env": pods.environment(job),
    }
    spec = {"runtimeRef": reference, "activeDeadlineSeconds": job.seconds, "trainer": trainer}
    return [
        {"apiVersion": API, "kind": "TrainingRuntime", "metadata": of_runtime, "spec": _runtime(job, image)},
        {"apiVersion": API, "kind": "TrainJob", "metadata": of_job, "spec": spec},
    ]


def _runtime(job: Job, image: str) -> dict[str, Any]:
    pod = pods.pod(job, [pods.container(job, NODE, image)])
    replicated = {
        "name": NODE,
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            # a dead process ends its pod, which fails the job; then all processes are restarted
            "spec": {
                "backoffLimit": 0,
                "template": {
                    "metadata": pods.labels(),
                    "spec": {"restartPolicy": "Never", **pod},
                },
            },
        },
    }
    jobs = {"failurePolicy": {"maxRestarts": RESTARTS}, "replicatedJobs": [replicated]}
    return {"mlPolicy": {"numNodes": job.nodes, "torch": {}}, "template": {"spec": jobs}}
