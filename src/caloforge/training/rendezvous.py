"""Rendezvous of the processes of a job, also without an address from the launcher and after a restart."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from caloforge.errors import ConfigError, TrainingError
from caloforge.files import write_text
from caloforge.training.launcher import LaunchInfo, is_loopback, mpi_job_name

HOST = "127.0.0.1"
# seconds between two looks into the store or at the file of the port
POLL_INTERVAL = 0.05


@dataclass(frozen=True)
class Rendezvous:
    """Result of a rendezvous.

    Attributes:
        store: Key-value store of all processes; keys of an earlier start of the job are not visible in it.
        restarted: Whether the launcher has restarted the job after a failure.
    """

    store: Store
    restarted: bool


def join_rendezvous(launch: LaunchInfo, timeout: float) -> Rendezvous:
    """Connect to the store and wait until all processes have done so.

    Args:
        launch: Rank, number of processes and address, as the launcher gives them.
        timeout: Seconds to wait for the other processes.

    Raises:
        ConfigError: The processes are on several machines and no address is given.
        TrainingError: A process is missing, or the address cannot be reached.
    """
    wait, address = timedelta(seconds=timeout), f"{launch.address or HOST}:{launch.port}"
    try:
        if launch.address is None:
            store = _local_store(launch, timeout)
        else:
            # under torchrun its agent may host the store
            is_host = launch.rank == 0 and not launch.agent_store
            assert launch.port is not None
            store = _open_store(launch.address, launch.port, is_host, wait)
        return _wait_for_processes(store, launch, timeout)
    except (RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"process {launch.rank} of {launch.world_size} ({launch.launcher}): cannot reach the others at "
            f"{address} ({reason}). Can this host and port (MASTER_ADDR, MASTER_PORT) be reached, "
            "and is the port free?"
        ) from error


def _open_store(host: str, port: int, is_host: bool, wait: timedelta) -> TCPStore:
    """Host the store at this address (port 0: any free one), or connect to it.

    Torch would listen on all interfaces; a loopback address is served on the loopback interface only.
    """
    if not (is_host and is_loopback(host)):
        return TCPStore(host, port, None, is_host, wait, wait_for_workers=False)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    port = listener.getsockname()[1]
    return TCPStore(host, port, None, True, wait, wait_for_workers=False, master_listen_fd=listener.detach())


def _wait_for_processes(store: Store, launch: LaunchInfo, timeout: float) -> Rendezvous:
    """Wait until all processes of this start of the job are connected.

    When torchrun restarts the processes, it keeps its store with all keys of the killed ones (torch 2.13),
    whose addresses would be taken for the new ones. So each process writes a random token; process 0 proposes
    a round with the tokens that it sees, a new one when a token changes, until every process has accepted.
    """
    token = uuid.uuid4().hex
    store.set(f"token/{launch.rank}", token)
    missing = coordinator = None
    if launch.rank == 0:
        coordinator = _coordinate(store, launch.world_size)
    for _ in _poll(timeout):
        round_id, missing = next(coordinator) if coordinator else _accept(store, launch.rank, token)
        if round_id:
            restarted = store.add("starts", 0) > 1 or launch.restarts > 0
            return Rendezvous(PrefixStore(round_id, store), restarted)
    raise TrainingError(
        f"process {launch.rank} of {launch.world_size} ({launch.launcher}) is ready, but {missing} did not "
        f"come within {timeout:g} s (training.distribution.timeout_seconds)"
    )


def _coordinate(store: Store, world_size: int) -> Iterator[tuple[str, str]]:
    """Propose rounds, in process 0; yields the accepted round, or "" and the processes that are missing."""
    tokens: list[str] = []
    while True:
        missing = [rank for rank in range(world_size) if not store.check([f"token/{rank}"])]
        if not missing:
            found = [store.get(f"token/{rank}").decode() for rank in range(world_size)]
            if found != tokens:
                tokens, round_id = found, uuid.uuid4().hex
                store.set("proposal", json.dumps([round_id, tokens]))
            missing = [
                rank for rank in range(1, world_size) if not store.check([f"{round_id}/accepted/{rank}"])
            ]
            if not missing:
                store.add("starts", 1)
                store.set(f"{round_id}/complete", "")
                yield round_id, ""
        yield "", f"process {', '.join(map(str, missing))}"


def _accept(store: Store, rank: int, token: str) -> tuple[str, str]:
    """Accept a round that contains this process's token; the round once it is complete, or who is missing."""
    if store.check(["proposal"]):
        round_id, tokens = json.loads(store.get("proposal"))
        if rank < len(tokens) and tokens[rank] == token:
            store.set(f"{round_id}/accepted/{rank}", "")
            if store.check([f"{round_id}/complete"]):
                return round_id, ""
            return "", "another process"
    return "", "process 0"


def _poll(timeout: float) -> Iterator[None]:
    """Yield every `POLL_INTERVAL` until the timeout."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        yield
        time.sleep(POLL_INTERVAL)


def _local_store(launch: LaunchInfo, timeout: float) -> Store:
    """Store for the processes of one mpirun on this machine, which gives them no address.

    Process 0 takes a free port and writes it to a file named after the job; the file is removed once all
    processes have read it.
    """
    if launch.local_world_size != launch.world_size:
        raise ConfigError(
            f"{launch.launcher} started {launch.world_size} processes on several machines and gives no "
            "address where they can connect. Give the host of process 0 and a free port of it to all of "
            "them: mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=29500 (Open MPI), -genv MASTER_ADDR HOST "
            "-genv MASTER_PORT 29500 (MPICH, Intel MPI)"
        )
    wait = timedelta(seconds=timeout)
    path = _port_folder() / f"{mpi_job_name()}.json"
    if launch.rank == 0:
        store = _open_store(HOST, 0, True, wait)
        write_text(path, json.dumps({"port": store.port, "process": os.getpid()}))
    else:
        store = _open_store(HOST, _read_port(path, launch, timeout), False, wait)
    if store.add("readers", 1) == launch.world_size:
        path.unlink(missing_ok=True)
    return store


def _port_folder() -> Path:
    """Folder for the port files, which only this user can read."""
    folder = Path(tempfile.gettempdir()) / f"caloforge-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else; set TMPDIR to a folder of yours")
    return folder


def _read_port(path: Path, launch: LaunchInfo, timeout: float) -> int:
    """Wait for the port that process 0 writes."""
    for _ in _poll(timeout):
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            # raises if the file was left by a process that is dead
            os.kill(int(written["process"]), 0)
            return int(written["port"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    raise TrainingError(
        f"process {launch.rank} of {launch.world_size}: process 0 did not come within {timeout:g} s. If it "
        "runs elsewhere or was started by a wrapper, set MASTER_ADDR and MASTER_PORT for all processes"
    )
