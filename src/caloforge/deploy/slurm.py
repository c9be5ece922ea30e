"""A job as a batch script of SLURM."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from caloforge.deploy.job import Job
from caloforge.errors import ConfigError

SCRIPTS = Path(__file__).parent / "scripts"
# before the time is up the processes need this long to save, s
NOTICE = 300
OPTION = re.compile(r"[a-z][a-z-]*")
VALUE = re.compile(r"[A-Za-z0-9_.,:@%+/=*-]+")
# what the job itself decides; another value would contradict the script
DECIDED = ("nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem", "time", "signal", "job-name")


def batch_script(job: Job, options: Mapping[str, str] | None = None) -> str:
    """The script for sbatch.

    Training: a process for each task of srun, which tells them their ranks. Before the time is up they get
    SIGTERM and save; the job then puts itself back into the queue and continues. Tuning: a Ray cluster on
    the nodes of the job, and the driver on the first of them.

    Args:
        job: What runs.
        options: Further options of sbatch, such as {"partition": "gpu"}.

    Raises:
        ConfigError: An option that is none, or that the job decides.
    """
    header = _header(job)
    for name, value in (options or {}).items():
        _check_option(name, value)
        header[name] = value
    lines = ["#!/bin/bash"]
    if job.setup is not None:
        # files of the cluster, which a linter elsewhere does not find
        lines.append("# shellcheck disable=SC1090,SC1091")
    lines += [*(f"#SBATCH --{name}{_value(value)}" for name, value in header.items())]
    lines += [job.origin, *(f"export {name}={shlex.quote(value)}" for name, value in job.variables.items())]
    if job.setup is not None:
        # modules and virtual environments use variables that are not set
        lines += ["set -eo pipefail", job.setup.rstrip()]
    lines += [f"launcher=({shlex.join(_container(job))})", f"command=({shlex.join(job.command)})"]
    body = (SCRIPTS / f"{job.verb}.sh").read_text(encoding="utf-8")
    return "\n".join(lines) + "\n" + body


def _header(job: Job) -> dict[str, str]:
    one = job.verb == "tune"
    header = {
        "job-name": job.name,
        "nodes": str(job.nodes),
        # of Ray there is one process on a node, which starts those that work
        "ntasks-per-node": "1" if one else str(job.processes),
        "cpus-per-task": str(job.cpus * (job.processes if one else 1)),
        "mem": f"{job.mebibytes}M",
        "time": job.time,
        # to the script alone: it knows what to do
        "signal": f"B:USR1@{min(NOTICE, job.seconds // 2)}",
        "requeue": "",
        "open-mode": "append",
        "output": f"{job.name}-%j.log",
    }
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
    """Apptainer in front of the command; nothing where there is no image."""
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
