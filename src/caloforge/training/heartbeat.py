"""Who is missing: each process says every second that it lives and how far it is."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import asdict, dataclass

from torch._C._distributed_c10d import Store

BEAT = 1.0
# beats after which a process that said nothing is taken for dead
MISSED = 3


@dataclass
class Sign:
    """What a process says of itself.

    Attributes:
        host: Its machine.
        beat: Rises while it lives.
        talks: Exchanges with the others that it has begun; one that hangs stays behind.
        step: Its training step.
        last_words: Why it stopped.
        waited: Whether it stopped because others did not answer.
    """

    host: str
    beat: int = 0
    talks: int = 0
    step: int = 0
    last_words: str = ""
    waited: bool = False


class Watch:
    """Beats in a thread; `diagnose` says which process the others wait for."""

    def __init__(self, store: Store, rank: int, ranks: int) -> None:
        """Start beating.

        Args:
            store: What all processes are connected to.
            rank: This process.
            ranks: How many there are.
        """
        # a connection of its own: a wait on the other one would stop the beats
        self._store: Store = store.clone()  # type: ignore[attr-defined]
        self._rank, self._ranks = rank, ranks
        self.sign = Sign(socket.gethostname())
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._say()
        self._thread = threading.Thread(target=self._run, name="caloforge-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(BEAT):
            self.sign.beat += 1
            if not self._say():
                return

    def _say(self) -> bool:
        """Publish the sign; False where nobody keeps the store any more."""
        try:
            with self._lock:
                self._store.set(f"caloforge/{self._rank}", json.dumps(asdict(self.sign)))
        except RuntimeError:
            return False
        return True

    def stop(self, last_words: str = "") -> None:
        """End the beats."""
        self.sign.last_words = last_words
        self._end.set()
        self._thread.join()
        self._say()

    def diagnose(self) -> str:
        """Which processes are gone, behind, or stopped first, empty if none; takes a few seconds."""
        self._say()
        first = self._signs()
        time.sleep(MISSED * BEAT)
        second = self._signs()
        if first is None or second is None:
            return "process 0, which keeps the meeting point, is gone or has stopped; it may have said why"
        words: list[str] = []
        waited: list[str] = []
        furthest = max(sign.talks for sign in second.values())
        for rank, sign in second.items():
            who = f"process {rank} on {sign.host}"
            if rank == self._rank:
                continue
            if sign.last_words:
                # what came first is the reason of what came later
                (waited if sign.waited else words).append(f"{who} stopped: {sign.last_words}")
            elif rank not in first or first[rank].beat == sign.beat:
                words.append(
                    f"{who}, last heard of at step {sign.step}, no longer answers (killed, or its machine "
                    "is gone)"
                )
            elif sign.talks < furthest:
                words.append(f"{who} lives but hangs at step {sign.step}")
        missing = [str(rank) for rank in range(self._ranks) if rank not in second]
        if missing:
            words.append(f"process {', '.join(missing)} never came")
        return "; ".join(words or waited)

    def _signs(self) -> dict[int, Sign] | None:
        """Signs by rank; None where nobody keeps the store any more."""
        found = {}
        try:
            with self._lock:
                for rank in range(self._ranks):
                    key = f"caloforge/{rank}"
                    if self._store.check([key]):
                        found[rank] = Sign(**json.loads(self._store.get(key)))
        except RuntimeError:
            return None
        return found
