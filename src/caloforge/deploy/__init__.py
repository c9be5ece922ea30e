"""Jobs for clusters: batch scripts of SLURM, and manifests for Kubeflow Trainer and KubeRay."""

from caloforge.deploy.indexed_job import array_job
from caloforge.deploy.job import Job, Volume, slug
from caloforge.deploy.kubeflow import train_job
from caloforge.deploy.kuberay import ray_command, ray_job
from caloforge.deploy.send import send
from caloforge.deploy.slurm import batch_script

__all__ = [
    "Job",
    "Volume",
    "array_job",
    "batch_script",
    "ray_command",
    "ray_job",
    "send",
    "slug",
    "train_job",
]
