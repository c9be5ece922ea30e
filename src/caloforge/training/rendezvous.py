"""How processes find each other, also where the launcher names no meeting point or starts them again."""

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
from caloforge.training.launcher import Layout, is_loopback, job_of_this_machine

HOST = "127.0.0.1"
# seconds between two looks for others
LOOK = 0.05


@dataclass(frozen=True)
class Meeting:
    """What the processes have in common once all are there.

    Attributes:
        store: For messages; nothing of an earlier start of the job is in it.
        again: Whether the launcher has started the job before, with the same store.
    """

    store: Store
    again: bool


def meet(layout: Layout, timeout: float) -> Meeting:
    """Come together.

    Args:
        layout: Of this process.
        timeout: Seconds that the others have to come.

    Raises:
        ConfigError: The processes are on several machines and no meeting point is named.
        TrainingError: Not all came, or the meeting point cannot be reached.
    """
    wait, place = timedelta(seconds=timeout), f"{layout.address or HOST}:{layout.port}"
    try:
        if layout.address is None:
            store = _store_of_this_machine(layout, timeout)
        else:
            # the agent of torchrun keeps the store itself
            keeper = layout.rank == 0 and not layout.agent_store
            assert layout.port is not None
            store = _store(layout.address, layout.port, keeper, wait)
        return _gather(store, layout, timeout)
    except (RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"process {layout.rank} of {layout.ranks} ({layout.launcher}): cannot meet the others at {place} "
            f"({reason}). Can this host and port (MASTER_ADDR, MASTER_PORT) be reached, "
            "and is the port free?"
        ) from error


def _store(host: str, port: int, keeper: bool, wait: timedelta) -> TCPStore:
    """The store at a host and port, 0 for a free one, kept by this process or by another.

    Torch listens on all interfaces; where all processes are on this machine, on the loopback one is enough.
    """
    if not (keeper and is_loopback(host)):
        return TCPStore(host, port, None, keeper, wait, wait_for_workers=False)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    port = listener.getsockname()[1]
    return TCPStore(host, port, None, True, wait, wait_for_workers=False, master_listen_fd=listener.detach())


def _gather(store: Store, layout: Layout, timeout: float) -> Meeting:
    """Wait for all processes of this very start.

    torchrun keeps its store when it starts processes again, with all that the killed ones have written (torch
    2.13); their addresses would be taken for those of the new ones. So each process gives itself a name;
    process 0 proposes a round with the names it sees, again when one changes, until all have agreed.
    """
    name, looks = uuid.uuid4().hex, _looks(timeout)
    store.set(f"hello/{layout.rank}", name)
    missing = lead = None
    if layout.rank == 0:
        lead = _lead(store, layout.ranks)
    for _ in looks:
        agreed, missing = next(lead) if lead is not None else _follow(store, layout.rank, name)
        if agreed:
            again = store.add("starts", 0) > 1
            return Meeting(PrefixStore(agreed, store), again or layout.restarts > 0)
    raise TrainingError(
        f"process {layout.rank} of {layout.ranks} ({layout.launcher}) was there, but {missing} did not come "
        f"within {timeout:g} s (training.distribution.timeout_seconds)"
    )


def _lead(store: Store, ranks: int) -> Iterator[tuple[str, str]]:
    """Propose rounds; the round once all have agreed, and who is missing until then."""
    names: list[str] = []
    while True:
        here = [rank for rank in range(ranks) if store.check([f"hello/{rank}"])]
        missing = [rank for rank in range(ranks) if rank not in here]
        if not missing:
            found = [store.get(f"hello/{rank}").decode() for rank in range(ranks)]
            if found != names:
                names, turn = found, uuid.uuid4().hex
                store.set("proposal", json.dumps([turn, names]))
            missing = [rank for rank in range(1, ranks) if not store.check([f"{turn}/yes/{rank}"])]
            if not missing:
                store.add("starts", 1)
                store.set(f"{turn}/go", "")
                yield turn, ""
        yield "", f"process {', '.join(map(str, missing))}"


def _follow(store: Store, rank: int, name: str) -> tuple[str, str]:
    """Agree to a round that knows this process; the round once process 0 has heard all."""
    if store.check(["proposal"]):
        turn, names = json.loads(store.get("proposal"))
        if rank < len(names) and names[rank] == name:
            store.set(f"{turn}/yes/{rank}", "")
            if store.check([f"{turn}/go"]):
                return turn, ""
            return "", "another process"
    return "", "process 0"


def _looks(timeout: float) -> Iterator[None]:
    """One look after another until the time is over."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        yield
        time.sleep(LOOK)


def _store_of_this_machine(layout: Layout, timeout: float) -> Store:
    """A store for the processes of one mpirun on this machine.

    Process 0 takes a free port and writes it to a file that is named after the job; it is removed once all
    have read it.
    """
    if layout.local_ranks != layout.ranks:
        raise ConfigError(
            f"{layout.launcher} started {layout.ranks} processes on several machines and names no meeting "
            "point. Give the host of process 0 and a free port of it to all of them: mpirun -x "
            "MASTER_ADDR=HOST -x MASTER_PORT=29500 (Open MPI), -genv MASTER_ADDR HOST -genv MASTER_PORT "
            "29500 (MPICH, Intel MPI)"
        )
    wait = timedelta(seconds=timeout)
    path = _folder() / f"{job_of_this_machine()}.json"
    if layout.rank == 0:
        store = _store(HOST, 0, True, wait)
        write_text(path, json.dumps({"port": store.port, "process": os.getpid()}))
    else:
        store = _store(HOST, _port(path, layout, timeout), False, wait)
    if store.add("readers", 1) == layout.ranks:
        path.unlink(missing_ok=True)
    return store


def _folder() -> Path:
    """A folder of this user alone, on this machine."""
    folder = Path(tempfile.gettempdir()) / f"caloforge-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else; set TMPDIR to a folder of yours")
    return folder


def _port(path: Path, layout: Layout, timeout: float) -> int:
    """What process 0 wrote."""
    for _ in _looks(timeout):
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            # a file that a killed job has left
            os.kill(int(written["process"]), 0)
            return int(written["port"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    raise TrainingError(
        f"process {layout.rank} of {layout.ranks}: process 0 did not come within {timeout:g} s. If it runs "
        "elsewhere or was started by a wrapper, set MASTER_ADDR and MASTER_PORT for all processes"
    )
