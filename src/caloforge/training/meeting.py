"""How processes find each other where the launcher names no meeting point: mpirun on one machine."""

from __future__ import annotations

import json
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import TCPStore

from caloforge.errors import ConfigError, TrainingError
from caloforge.files import write_text
from caloforge.training.environment import Layout, job_of_this_machine

HOST = "127.0.0.1"
# seconds between two looks for the file of process 0
LOOK = 0.05


def meet(layout: Layout, timeout: float) -> TCPStore:
    """The store through which the processes of one machine connect.

    Process 0 takes a free port and writes it to a file that is named after the job; it is removed once all
    have read it.

    Args:
        layout: Of this process, without an address.
        timeout: Seconds that process 0 has to come.

    Raises:
        ConfigError: The processes are on several machines, or it is not known that they are not.
        TrainingError: Process 0 did not come.
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
        store = TCPStore(HOST, 0, layout.ranks, True, wait, wait_for_workers=False)
        write_text(path, json.dumps({"port": store.port, "process": os.getpid()}))
    else:
        store = TCPStore(HOST, _port(path, layout, timeout), layout.ranks, False, wait)
    if store.add("met", 1) == layout.ranks:
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
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            # a file that a killed job has left
            os.kill(int(written["process"]), 0)
            return int(written["port"])
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(LOOK)
    raise TrainingError(
        f"process {layout.rank} of {layout.ranks}: process 0 did not come within {timeout:.0f} s. If it runs "
        "elsewhere or was started by a wrapper, set MASTER_ADDR and MASTER_PORT for all processes"
    )
