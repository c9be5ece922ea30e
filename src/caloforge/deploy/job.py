"""Description of a cluster job: the caloforge command, and nodes, processes, memory and time for it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from caloforge.campaign_part import parts_pattern
from caloforge.config import StrictModel

# RFC 1123 label of at most 63 characters, with room for the replica and pod numbers that Kubernetes appends
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
MEMORY = re.compile(r"([0-9]{1,9})(Mi|Gi|Ti)")
TIME = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])")
# registry/folder/name:tag, or @sha256:digest
IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/:-]*(@sha256:[0-9a-f]{64})?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# parts of the names of environment variables that hold secrets
SECRET_WORDS = re.compile(
    r"(^|_)(TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)S?(_|$)", re.I
)
ELSEWHERE = "on Kubernetes name a secret that holds it: --secret NAME, on SLURM export it before submitting"
MEBIBYTES = {"Mi": 1, "Gi": 1024, "Ti": 1024**2}


class Volume(StrictModel):
    """A folder or persistent volume claim that is mounted in the job.

    `source` is a claim on Kubernetes and a folder of the cluster elsewhere; `path` is the mount point.
    """

    source: str
    path: str

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not path.startswith("/") or path == "/" or ".." in PurePosixPath(path).parts or ":" in path:
            raise ValueError(f"got {path!r}, expected an absolute folder such as /data")
        return path.rstrip("/")

    @classmethod
    def parse(cls, text: str) -> dict[str, str]:
        """Parse "SOURCE:/path"."""
        source, _, path = text.rpartition(":")
        return {"source": source, "path": path}


class Job(StrictModel):
    """Command and resources of a job.

    `processes`, `gpus` and `memory` are per node, `cpus` per process; `time` limits the whole job. `paths`
    are the files and folders in the command, by option; relative ones start at the first volume. `secret` is
    a Kubernetes secret whose entries become environment variables. `setup` is a bash script that runs before
    the command, on the first node. With `array` the job has so many tasks, each of which makes one part of
    the showers; the last one joins them to the file `out`.
    """

    name: str
    verb: Literal["train", "tune", "simulate", "generate", "simulate-events"]
    arguments: tuple[str, ...]
    paths: dict[str, str] = Field(default_factory=dict)
    nodes: int = Field(default=1, ge=1, le=4096)
    processes: int = Field(default=1, ge=1, le=256)
    gpus: int = Field(default=0, ge=0, le=64)
    cpus: int = Field(default=4, ge=1, le=1024)
    memory: str = "16Gi"
    time: str = "04:00:00"
    image: str | None = None
    volumes: tuple[Volume, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    secret: str | None = None
    setup: str | None = None
    array: int | None = Field(default=None, ge=1, le=10_000)
    out: str = ""

    @field_validator("name", "secret")
    @classmethod
    def _label(cls, name: str | None) -> str | None:
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(
                f"got {name!r}, expected at most 40 small letters, digits and hyphens, such as {slug(name)!r}"
            )
        return name

    @field_validator("arguments")
    @classmethod
    def _one_line(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        # they are repeated in a comment of the script
        if wrong := [text for text in arguments if not text.isprintable()]:
            raise ValueError(f"got {wrong[0]!r}, which has more than one line or is no text")
        return arguments

    @field_validator("memory")
    @classmethod
    def _amount(cls, memory: str) -> str:
        if not (found := MEMORY.fullmatch(memory)) or not int(found[1]):
            raise ValueError(f"got {memory!r}, expected a whole number with Mi, Gi or Ti, such as 16Gi")
        return memory

    @field_validator("time")
    @classmethod
    def _limit(cls, time: str) -> str:
        if not TIME.fullmatch(time) or not _seconds(time):
            raise ValueError(f"got {time!r}, expected HH:MM:SS or D-HH:MM:SS, such as 04:00:00")
        return time

    @field_validator("image")
    @classmethod
    def _reference(cls, image: str | None) -> str | None:
        if image is not None and not (IMAGE.fullmatch(image) or image.endswith(".sif")):
            raise ValueError(f"got {image!r}, expected registry/name:tag, or the .sif file of Apptainer")
        return image

    @field_validator("env")
    @classmethod
    def _variables(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"got {name!r}, expected the name of a variable, such as OMP_NUM_THREADS")
            if "\n" in value or "\0" in value:
                raise ValueError(f"{name}: the value has more than one line")
            if SECRET_WORDS.search(name):
                raise ValueError(
                    f"{name} looks like a secret, which does not belong into a manifest; {ELSEWHERE}"
                )
        return env

    @field_validator("setup")
    @classmethod
    def _commands(cls, setup: str | None) -> str | None:
        if setup is None:
            return None
        for name in VARIABLE.findall(setup):
            if SECRET_WORDS.search(name) and re.search(rf"\b{name}=", setup):
                raise ValueError(
                    f"{name} looks like a secret, which does not belong into a script; {ELSEWHERE}"
                )
        done = subprocess.run(  # noqa: S603 - reads, and runs nothing
            [shutil.which("bash") or "bash", "-n"], input=setup, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(f"got {setup!r}, which bash cannot read: {done.stderr.strip()}")
        return setup

    @model_validator(mode="after")
    def _devices(self) -> Job:
        if self.gpus and self.processes != self.gpus:
            raise ValueError(
                f"got {self.processes} processes for {self.gpus} GPUs on a node, expected one for each GPU; "
                "leave --processes out"
            )
        if len({volume.path for volume in self.volumes}) < len(self.volumes):
            raise ValueError("volumes: two of them have the same path")
        return self

    @property
    def seconds(self) -> int:
        """The time limit in s."""
        return _seconds(self.time)

    @property
    def mebibytes(self) -> int:
        """Memory of a node in MiB."""
        found = MEMORY.fullmatch(self.memory)
        assert found is not None
        return int(found[1]) * MEBIBYTES[found[2]]

    @property
    def command(self) -> tuple[str, ...]:
        """The command and its arguments."""
        return ("caloforge", self.verb, *self.arguments)

    @property
    def join(self) -> tuple[str, ...]:
        """The command that joins the parts of an array when all are there."""
        assert self.array is not None
        pattern = parts_pattern(Path(self.out), self.array)
        return ("caloforge", "join", str(pattern), "-o", self.out, "--when-complete")

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables; OMP_NUM_THREADS is the cores of a process unless the user sets it.

        For a study Ray sets the number of threads of each process.
        """
        threads = {"OMP_NUM_THREADS": str(self.cpus)} if self.verb == "train" else {}
        return {**threads, **self.env}

    @property
    def origin(self) -> str:
        """Comment in the rendered file that shows the command."""
        return f"# runs: {shlex.join(self.command)}"


def slug(text: str) -> str:
    """The nearest valid name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-") or "caloforge"


def _seconds(time: str) -> int:
    found = TIME.fullmatch(time)
    assert found is not None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds
