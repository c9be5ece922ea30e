"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

Kind = Literal["communication", "input", "evaluation", "saving"]
# pairs of device events kept before they are read
PENDING = 1000


@dataclass(frozen=True)
class TimeSplit:
    """Wall time of a run in seconds, by what a process did; a resumed run counts from its own start.

    Attributes:
        compute: Forward and backward passes, updates, augmentation: all that is not below.
        communication: Waiting for other processes; what overlaps with the backward pass is compute.
        input: Waiting for the next batch.
        evaluation: Judging the model on held-out showers, and writing a better one.
        saving: Checkpoints.
    """

    compute: float = 0.0
    communication: float = 0.0
    input: float = 0.0
    evaluation: float = 0.0
    saving: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.compute + self.communication + self.input + self.evaluation + self.saving

    @property
    def waiting(self) -> float:
        """Share of the time of training steps that went by in waiting for showers."""
        steps = self.compute + self.communication + self.input
        return self.input / steps if steps > 0 else 0.0


class Clock:
    """Counts seconds by kind; a kind inside another one counts for the outer."""

    def __init__(self) -> None:
        """Start the time."""
        self._start = time.monotonic()
        self._seconds: dict[Kind, float] = dict.fromkeys(
            ("communication", "input", "evaluation", "saving"), 0.0
        )
        self._busy = False
        self._stalls: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def count(self, kind: Kind) -> Iterator[None]:
        """Count what is done inside."""
        if self._busy:
            yield
            return
        self._busy, start = True, time.monotonic()
        try:
            yield
        finally:
            self._busy = False
            self._seconds[kind] += time.monotonic() - start

    @contextmanager
    def stall(self, device: torch.device) -> Iterator[None]:
        """Count, as communication, how long a wait inside holds up the device.

        On a GPU such a wait returns at once and the stream is what waits.
        """
        if device.type != "cuda":
            with self.count("communication"):
                yield
            return
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()
        yield
        after.record()
        self._stalls.append((before, after))
        if len(self._stalls) >= PENDING:
            self._read_stalls()

    def _read_stalls(self) -> None:
        if self._stalls:
            self._stalls[-1][1].synchronize()
        milliseconds = sum(before.elapsed_time(after) for before, after in self._stalls)
        self._seconds["communication"] += milliseconds / 1000
        self._stalls = []

    def split(self) -> TimeSplit:
        """What was counted so far."""
        self._read_stalls()
        total = time.monotonic() - self._start
        return TimeSplit(compute=max(0.0, total - sum(self._seconds.values())), **self._seconds)
