"""Batch scripts for SLURM."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from caloforge.deploy.job import Job
from caloforge.errors import ConfigError

SCRIPTS = Path(__file__).parent / "scripts"
# seconds before the time limit at which the processes are told to save
NOTICE = 300
OPTION = re.compile(r"[a-z][a-z-]*")
VALUE = re.compile(r"[A-Za-z0-9_.,:@%+/=*-]+")
# options that are set from the job
DECIDED = (
    "nodes",
    "ntasks-per-node",
    "cpus-per-task",
    "gpus-per-node",
    "array",
    "mem",
    "time",
    "signal",
    "job-name",
)


def batch_script(job: Job, options: Mapping[str, str] | None = None) -> str:
    """Render the script for sbatch.

    Training: one process per task of srun, which sets the ranks. Before the time limit the processes get
    SIGTERM and save; the job then requeues itself and continues. Tuning: a Ray cluster on the nodes of the
    job, with the driver on the first one; a simulation likewise. An array: independent tasks of one node,
    each with a part of the showers; the last one to end joins them.

    Args:
        job: The job.
        options: Further options of sbatch, such as {"partition": "gpu"}.

    Raises:
        ConfigError: An option is not valid, or is set from the job.
    """
    header = _header(job)
    for name, value in (options or {}).items():
        _check_option(name, value)
        header[name] = value
    lines = ["#!/bin/bash"]
    if job.setup is not None:
        # the files it sources exist on the cluster only
        lines.append("# shellcheck disable=SC1090,SC1091")
    lines += [*(f"#SBATCH --{name}{_value(value)}" for name, value in header.items())]
    lines += [job.origin, *(f"export {name}={shlex.quote(value)}" for name, value in job.variables.items())]
    if job.setup is not None:
        # no -u: modules and virtual environments use unset variables
        lines += ["set -eo pipefail", job.setup.rstrip()]
    lines += [f"launcher=({shlex.join(_container(job))})", f"command=({shlex.join(job.command)})"]
    if job.array is not None:
        lines += [f"parts={job.array}", f"join=({shlex.join(job.join)})"]
    name = "array" if job.array is not None else "train" if job.verb == "train" else "tune"
    body = (SCRIPTS / f"{name}.sh").read_text(encoding="utf-8")
    return "\n".join(lines) + "\n" + body


def _header(job: Job) -> dict[str, str]:
    one = job.verb != "train"
    header = {
        "job-name": job.name,
        "nodes": str(job.nodes),
        # one Ray process per node, which starts the workers
        "ntasks-per-node": "1" if one else str(job.processes),
        "cpus-per-task": str(job.cpus * (job.processes if one else 1)),
        "mem": f"{job.mebibytes}M",
        "time": job.time,
        # to the batch script only, which handles it
        "signal": f"B:USR1@{min(NOTICE, job.seconds // 2)}",
        "requeue": "",
        "open-mode": "append",
        "output": f"{job.name}-%j.log" if job.array is None else f"{job.name}-%A-%a.log",
    }
    if job.array is not None:
        header["array"] = f"1-{job.array}"
    if job.gpus:
        header["gpus-per-node"] = str(job.gpus)
    return header


def _value(value: str) -> str:
    return f"={value}" if value else ""


def _check_option(name: str, value: str) -> None:
    if name in DECIDED:
        raise ConfigError(f"--sbatch {name}={value}: this is decided by the options of caloforge submit")
    if not OPTION.fullmatch(name) or not VALUE.fullmatch(value):
        raise ConfigError(f"--sbatch {name}={value}: expected NAME=VALUE such as partition=gpu")


def _container(job: Job) -> list[str]:
    """The apptainer command that runs the image; empty without an image."""
    if job.image is None:
        if job.volumes:
            raise ConfigError(
                "--volume: without --image the job sees the folders of the cluster as they are; leave it out"
            )
        return []
    binds = [f"--bind={volume.source}:{volume.path}" for volume in job.volumes]
    if wrong := [volume.source for volume in job.volumes if not volume.source.startswith("/")]:
        raise ConfigError(f"--volume {wrong[0]}: expected an absolute folder, such as /scratch/me:/data")
    image = job.image if job.image.endswith(".sif") else f"docker://{job.image}"
    return ["apptainer", "exec", *(["--nv"] if job.gpus else []), *binds, image]
