"""Which of how many processes this is, as the launcher says; importing it does not import torch.

torchrun, Ray Train and Kubernetes set the variables of torch.distributed. The others have their own:

| Launcher | Rank, number of ranks | On this machine |
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

# what torch itself takes where nothing is said
DEFAULT_PORT = "29500"
# ports of SLURM jobs: below those that systems give to outgoing connections
FIRST_PORT, PORTS = 20000, 12000
# what starts the processes of an MPI job on a machine
MPI_DAEMONS = ("hydra_pmi_proxy", "mpirun", "mpiexec", "mpiexec.hydra", "orted", "prted", "prterun")


@dataclass(frozen=True)
class Layout:
    """The place of this process among all.

    Attributes:
        launcher: Who started them; "none" for a single process.
        rank: Number of this process.
        ranks: Number of processes.
        local_rank: Its number on this machine.
        local_ranks: Processes on this machine; None where the launcher does not say.
        address: Host where the processes meet, None where the launcher names none.
        port: Its port.
        restarts: How often the launcher has started the job anew after a failure.
        agent_store: Whether the launcher itself keeps the store at this host and port.
    """

    launcher: str = "none"
    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int | None = 1
    address: str | None = None
    port: int | None = None
    restarts: int = 0
    agent_store: bool = False

    def __post_init__(self) -> None:
        local = self.ranks if self.local_ranks is None else self.local_ranks
        if not (0 <= self.rank < self.ranks and 0 <= self.local_rank < local <= self.ranks):
            raise ConfigError(
                f"the environment of {self.launcher} contradicts itself: process {self.rank} of "
                f"{self.ranks}, on this machine {self.local_rank} of {self.local_ranks}; expected numbers "
                "below the number of processes. Unset variables that another launcher has left"
            )

    @property
    def on_one_machine(self) -> bool:
        """Whether all processes are known to be on this machine."""
        return self.local_ranks == self.ranks or (self.address is not None and is_loopback(self.address))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine under a name that no other machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_layout(environ: Mapping[str, str]) -> Layout:
    """Find out who started this process.

    Args:
        environ: `os.environ`.

    Raises:
        ConfigError: Variables that are missing, no numbers, or contradict each other.
    """
    if any(name in environ for name in ("RANK", "WORLD_SIZE")):
        return _of_torch(environ)
    if "OMPI_COMM_WORLD_SIZE" in environ:
        layout = _of_mpi(environ, "Open MPI", "OMPI_COMM_WORLD_{}RANK", "OMPI_COMM_WORLD_{}SIZE")
    elif "PMI_SIZE" in environ:
        layout = _of_mpi(environ, "MPICH", "PMI_RANK", "PMI_SIZE")
    elif "SLURM_PROCID" in environ and ("SLURM_STEP_ID" in environ or "SLURM_STEP_NODELIST" in environ):
        # a batch script itself has SLURM_PROCID too, but is no step
        layout = _of_slurm(environ)
    else:
        return Layout()
    if "MASTER_ADDR" in environ:
        port = _number(environ, "MASTER_PORT", DEFAULT_PORT)
        layout = replace(layout, address=environ["MASTER_ADDR"], port=port)
    return layout


def _of_torch(environ: Mapping[str, str]) -> Layout:
    for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if name not in environ:
            raise ConfigError(
                f"{other}={environ[other]} is set without {name}; a launcher (torchrun, mpirun, srun) sets "
                f"both. For a single process: unset {other}"
            )
    ranks = _number(environ, "WORLD_SIZE")
    layout = Layout(
        launcher="torch",
        rank=_number(environ, "RANK"),
        ranks=ranks,
        # operators of Kubernetes start one process a pod and do not say so
        local_rank=_number(environ, "LOCAL_RANK", "0"),
        local_ranks=_number(environ, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environ else None,
        address=environ.get("MASTER_ADDR"),
        port=_number(environ, "MASTER_PORT") if "MASTER_PORT" in environ else None,
        restarts=_number(environ, "TORCHELASTIC_RESTART_COUNT", "0"),
        agent_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environ]
    if ranks > 1 and missing:
        raise ConfigError(
            f"WORLD_SIZE={ranks} is set without {' and '.join(missing)}: name the host of process 0 and a "
            "free port of it, or start the processes with torchrun"
        )
    return layout


def _of_mpi(environ: Mapping[str, str], launcher: str, rank: str, size: str) -> Layout:
    local_rank, local_size = rank.format("LOCAL_"), size.format("LOCAL_")
    if launcher == "MPICH":
        local_rank, local_size = "MPI_LOCALRANKID", "MPI_LOCALNRANKS"
        if local_rank not in environ and "SLURM_LOCALID" in environ:
            # srun --mpi=pmi2 sets the names of PMI but this one
            local_rank = "SLURM_LOCALID"
    ranks = _number(environ, size.format(""))
    local_ranks = _number(environ, local_size) if local_size in environ else (1 if ranks == 1 else None)
    number = _number(environ, rank.format(""))
    local = _number(environ, local_rank) if ranks > 1 else 0
    return Layout(launcher, number, ranks, local, local_ranks)


def _of_slurm(environ: Mapping[str, str]) -> Layout:
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    ranks = _number(environ, tasks)
    nodes = environ.get("SLURM_STEP_NODELIST", environ.get("SLURM_NODELIST", ""))
    address = first_host(nodes) if nodes else environ.get("SLURM_LAUNCH_NODE_IPADDR")
    if ranks > 1 and not address:
        raise ConfigError(
            "SLURM names no nodes (SLURM_STEP_NODELIST); export MASTER_ADDR=HOST-OF-TASK-0 and MASTER_PORT"
        )
    # steps of one job may share a node
    job, step = environ.get("SLURM_JOB_ID", "0"), environ.get("SLURM_STEP_ID", "0")
    numbers = [int(text) if text.isdecimal() else 0 for text in (job, step)]
    return Layout(
        launcher="SLURM",
        rank=_number(environ, "SLURM_PROCID"),
        ranks=ranks,
        local_rank=_number(environ, "SLURM_LOCALID") if ranks > 1 else 0,
        local_ranks=1 if ranks == 1 else None,
        address=address,
        port=FIRST_PORT + (7 * numbers[0] + numbers[1]) % PORTS,
    )


def first_host(nodes: str) -> str:
    """The first of SLURM's list of hosts: "n[003-006,9]-ib,login1" begins with "n003-ib"."""
    depth, end = 0, len(nodes)
    for place, character in enumerate(nodes):
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            end = place
            break
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes[:end])


def _number(environ: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environ.get(name, default)
    if text is None:
        raise ConfigError(f"the launcher set no {name}; the number of this process is not known")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: expected a whole number") from None


def job_of_this_machine() -> str:
    """A name that the processes of one mpirun on this machine have in common and no other job has."""
    found = [number for number, name in _ancestors() if name in MPI_DAEMONS]
    return f"job-{found[0] if found else os.getppid()}"


def _ancestors() -> list[tuple[int, str]]:
    """Parent, grandparent and so on, with their names; as far as the system tells."""
    found: list[tuple[int, str]] = []
    number = os.getppid()
    try:
        while number > 1:
            stat = (Path("/proc") / str(number) / "stat").read_text(encoding="utf-8")
            # the name, in parentheses, may hold anything
            name, _, rest = stat.partition("(")[2].rpartition(")")
            found.append((number, name))
            number = int(rest.split()[1])
    except (OSError, ValueError, IndexError):
        return found
    return found
