"""Failure detection: heartbeats of each process, so that an error can name the process that is missing."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import asdict, dataclass

from torch._C._distributed_c10d import Store

# seconds between two heartbeats
INTERVAL = 1.0
# a process without a new heartbeat for this many intervals counts as dead
MISSED_BEATS = 3


@dataclass
class ProcessStatus:
    """What a process publishes with each heartbeat.

    Attributes:
        host: Host name of its machine.
        beat: Counter of heartbeats; rises while the process lives.
        collectives: Collective operations entered; a process that hangs falls behind the others.
        step: Its training step.
        stop_reason: Why it stopped; empty while it runs.
        peers_missing: Whether it stopped because other processes did not answer.
    """

    host: str
    beat: int = 0
    collectives: int = 0
    step: int = 0
    stop_reason: str = ""
    peers_missing: bool = False


class HeartbeatMonitor:
    """Publishes the heartbeat of this process from a thread, and reads those of the others."""

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        """Start the heartbeat thread.

        Args:
            store: The key-value store that all processes are connected to.
            rank: Rank of this process.
            world_size: Number of processes.
        """
        # a connection of its own: a blocking wait on the shared one would delay the heartbeats
        self._store: Store = store.clone()  # type: ignore[attr-defined]
        self._rank, self._world_size = rank, world_size
        self.status = ProcessStatus(socket.gethostname())
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._publish()
        self._thread = threading.Thread(target=self._run, name="caloforge-heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(INTERVAL):
            self.status.beat += 1
            if not self._publish():
                return

    def _publish(self) -> bool:
        """Write the status to the store; False if the store is gone."""
        try:
            with self._lock:
                self._store.set(f"caloforge/{self._rank}", json.dumps(asdict(self.status)))
        except RuntimeError:
            return False
        return True

    def stop(self, stop_reason: str = "") -> None:
        """Stop the thread and publish the reason, empty for a regular end."""
        self.status.stop_reason = stop_reason
        self._end.set()
        self._thread.join()
        self._publish()

    def diagnose(self) -> str:
        """Describe the processes that are dead, behind or have failed; empty if none.

        Compares two readings and so takes `MISSED_BEATS` intervals. Processes that stopped only because they
        missed others are named only if no other reason is found.
        """
        self._publish()
        before = self._read_all()
        time.sleep(MISSED_BEATS * INTERVAL)
        after = self._read_all()
        if before is None or after is None:
            return "process 0, which hosts the rendezvous, has stopped or is gone; see its error output"
        causes: list[str] = []
        consequences: list[str] = []
        furthest = max(status.collectives for status in after.values())
        for rank, status in after.items():
            name = f"process {rank} on {status.host}"
            if rank == self._rank:
                continue
            if status.stop_reason:
                found = consequences if status.peers_missing else causes
                found.append(f"{name} stopped: {status.stop_reason}")
            elif rank not in before or before[rank].beat == status.beat:
                causes.append(
                    f"{name}, last heard of at step {status.step}, no longer answers (killed, or its machine "
                    "is gone)"
                )
            elif status.collectives < furthest:
                causes.append(f"{name} lives but hangs at step {status.step}")
        missing = [str(rank) for rank in range(self._world_size) if rank not in after]
        if missing:
            causes.append(f"process {', '.join(missing)} never started")
        return "; ".join(causes or consequences)

    def _read_all(self) -> dict[int, ProcessStatus] | None:
        """Read the published statuses by rank; None if the store is gone."""
        found = {}
        try:
            with self._lock:
                for rank in range(self._world_size):
                    key = f"caloforge/{rank}"
                    if self._store.check([key]):
                        found[rank] = ProcessStatus(**json.loads(self._store.get(key)))
        except RuntimeError:
            return None
        return found
