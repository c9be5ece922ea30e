"""Rank, number of processes and rendezvous address from the environment that the launcher sets.

Importing it does not import torch. torchrun, Ray Train and Kubernetes set the variables of torch.distributed.
The others have their own:

| Launcher | Rank, number of processes | On this machine |
|---|---|---|
| Open MPI | OMPI_COMM_WORLD_RANK, _SIZE | OMPI_COMM_WORLD_LOCAL_RANK, _LOCAL_SIZE |
| MPICH, Intel MPI | PMI_RANK, PMI_SIZE | MPI_LOCALRANKID, MPI_LOCALNRANKS |
| SLURM (srun) | SLURM_PROCID, SLURM_STEP_NUM_TASKS | SLURM_LOCALID |
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from caloforge.errors import ConfigError

# torch's default
DEFAULT_PORT = "29500"
# ports for SLURM jobs, below the range that systems use for outgoing connections
FIRST_PORT, PORTS = 20000, 12000
# parents of the processes of an MPI job
MPI_DAEMONS = ("hydra_pmi_proxy", "mpirun", "mpiexec", "mpiexec.hydra", "orted", "prted", "prterun")


@dataclass(frozen=True)
class LaunchInfo:
    """What the launcher tells a process about its job.

    Attributes:
        launcher: Name of the launcher; "none" for a single process.
        rank: Rank of this process among all.
        world_size: Number of processes.
        local_rank: Rank among the processes on this machine.
        local_world_size: Processes on this machine; None if the launcher does not tell.
        address: Host of the rendezvous store; None if the launcher gives none.
        port: Port of the store.
        restarts: How often the launcher has restarted the job after a failure.
        agent_store: Whether the launcher itself hosts the store.
    """

    launcher: str = "none"
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int | None = 1
    address: str | None = None
    port: int | None = None
    restarts: int = 0
    agent_store: bool = False

    def __post_init__(self) -> None:
        local = self.world_size if self.local_world_size is None else self.local_world_size
        if not (0 <= self.rank < self.world_size and 0 <= self.local_rank < local <= self.world_size):
            raise ConfigError(
                f"the environment of {self.launcher} contradicts itself: process {self.rank} of "
                f"{self.world_size}, on this machine {self.local_rank} of {self.local_world_size}; expected "
                "ranks below the number of processes. Unset variables that another launcher has left"
            )

    @property
    def on_one_machine(self) -> bool:
        """Whether all processes are known to be on this machine."""
        if self.local_world_size == self.world_size:
            return True
        return self.address is not None and is_loopback(self.address)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback one, which other machines cannot reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_launch_info(environ: Mapping[str, str]) -> LaunchInfo:
    """Recognise the launcher by its variables and read them.

    Args:
        environ: `os.environ`.

    Raises:
        ConfigError: Variables are missing, are not numbers, or contradict each other.
    """
    if any(name in environ for name in ("RANK", "WORLD_SIZE")):
        return _from_torch(environ)
    if "OMPI_COMM_WORLD_SIZE" in environ:
        launch = _from_mpi(environ, "Open MPI", "OMPI_COMM_WORLD_{}RANK", "OMPI_COMM_WORLD_{}SIZE")
    elif "PMI_SIZE" in environ:
        launch = _from_mpi(environ, "MPICH", "PMI_RANK", "PMI_SIZE")
    elif "SLURM_PROCID" in environ and ("SLURM_STEP_ID" in environ or "SLURM_STEP_NODELIST" in environ):
        # a batch script has SLURM_PROCID too, but is not a step
        launch = _from_slurm(environ)
    else:
        return LaunchInfo()
    if "MASTER_ADDR" in environ:
        port = _integer(environ, "MASTER_PORT", DEFAULT_PORT)
        launch = replace(launch, address=environ["MASTER_ADDR"], port=port)
    return launch


def _from_torch(environ: Mapping[str, str]) -> LaunchInfo:
    for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if name not in environ:
            raise ConfigError(
                f"{other}={environ[other]} is set without {name}; a launcher (torchrun, mpirun, srun) sets "
                f"both. For a single process: unset {other}"
            )
    world_size = _integer(environ, "WORLD_SIZE")
    launch = LaunchInfo(
        launcher="torch",
        rank=_integer(environ, "RANK"),
        world_size=world_size,
        # Kubernetes operators start one process per pod and do not set it
        local_rank=_integer(environ, "LOCAL_RANK", "0"),
        local_world_size=_integer(environ, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environ else None,
        address=environ.get("MASTER_ADDR"),
        port=_integer(environ, "MASTER_PORT") if "MASTER_PORT" in environ else None,
        restarts=_integer(environ, "TORCHELASTIC_RESTART_COUNT", "0"),
        agent_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environ]
    if world_size > 1 and missing:
        raise ConfigError(
            f"WORLD_SIZE={world_size} is set without {' and '.join(missing)}: set the host of process 0 and "
            "a free port of it, or start the processes with torchrun"
        )
    return launch


def _from_mpi(environ: Mapping[str, str], launcher: str, rank: str, size: str) -> LaunchInfo:
    local_rank, local_size = rank.format("LOCAL_"), size.format("LOCAL_")
    if launcher == "MPICH":
        local_rank, local_size = "MPI_LOCALRANKID", "MPI_LOCALNRANKS"
        if local_rank not in environ and "SLURM_LOCALID" in environ:
            # srun --mpi=pmi2 sets all PMI variables but this one
            local_rank = "SLURM_LOCALID"
    world_size = _integer(environ, size.format(""))
    local_world_size = None if world_size > 1 else 1
    if local_size in environ:
        local_world_size = _integer(environ, local_size)
    return LaunchInfo(
        launcher=launcher,
        rank=_integer(environ, rank.format("")),
        world_size=world_size,
        local_rank=_integer(environ, local_rank) if world_size > 1 else 0,
        local_world_size=local_world_size,
    )


def _from_slurm(environ: Mapping[str, str]) -> LaunchInfo:
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    world_size = _integer(environ, tasks)
    nodes = environ.get("SLURM_STEP_NODELIST", environ.get("SLURM_NODELIST", ""))
    address = first_host(nodes) if nodes else environ.get("SLURM_LAUNCH_NODE_IPADDR")
    if world_size > 1 and not address:
        raise ConfigError(
            "SLURM gives no list of nodes (SLURM_STEP_NODELIST); export MASTER_ADDR=HOST-OF-TASK-0 and "
            "MASTER_PORT"
        )
    # steps of one job may run on the same node: each needs its own port
    job, step = environ.get("SLURM_JOB_ID", "0"), environ.get("SLURM_STEP_ID", "0")
    numbers = [int(text) if text.isdecimal() else 0 for text in (job, step)]
    return LaunchInfo(
        launcher="SLURM",
        rank=_integer(environ, "SLURM_PROCID"),
        world_size=world_size,
        local_rank=_integer(environ, "SLURM_LOCALID") if world_size > 1 else 0,
        local_world_size=1 if world_size == 1 else None,
        address=address,
        port=FIRST_PORT + (7 * numbers[0] + numbers[1]) % PORTS,
    )


def first_host(nodes: str) -> str:
    """First host of a SLURM node list: "n003-ib" of "n[003-006,9]-ib,login1"."""
    depth, end = 0, len(nodes)
    for place, character in enumerate(nodes):
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            end = place
            break
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes[:end])


def _integer(environ: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environ.get(name, default)
    if text is None:
        raise ConfigError(f"the launcher set no {name}; the rank of this process is not known")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: expected a whole number") from None


def mpi_job_name() -> str:
    """Name common to the processes of one mpirun on this machine and different from that of any other job."""
    found = [number for number, name in _ancestors() if name in MPI_DAEMONS]
    return f"job-{found[0] if found else os.getppid()}"


def _ancestors() -> list[tuple[int, str]]:
    """Process ids and names of the parent, its parent and so on, as far as /proc shows them."""
    found: list[tuple[int, str]] = []
    number = os.getppid()
    try:
        while number > 1:
            stat = (Path("/proc") / str(number) / "stat").read_text(encoding="utf-8")
            # the name is in parentheses and may contain any character
            name, _, rest = stat.partition("(")[2].rpartition(")")
            found.append((number, name))
            number = int(rest.split()[1])
    except (OSError, ValueError, IndexError):
        return found
    return found
