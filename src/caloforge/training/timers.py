"""Wall time of a training, split into computation, communication, input, evaluation and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

Kind = Literal["communication", "input", "evaluation", "saving"]
# pairs of CUDA events collected before they are read
PENDING = 1000


@dataclass(frozen=True)
class TimeSplit:
    """Wall time of a run in seconds, by activity; a resumed run counts from its own start.

    Attributes:
        compute: Forward and backward passes, updates, augmentation: everything not listed below.
        communication: Waiting for other processes; communication that overlaps with the backward pass counts
            as compute.
        input: Waiting for the next batch.
        evaluation: Evaluating the model on held-out showers, and writing it if it is the best so far.
        saving: Writing checkpoints.
    """

    compute: float = 0.0
    communication: float = 0.0
    input: float = 0.0
    evaluation: float = 0.0
    saving: float = 0.0

    @property
    def total(self) -> float:
        """Sum of all activities."""
        return self.compute + self.communication + self.input + self.evaluation + self.saving

    @property
    def input_fraction(self) -> float:
        """Fraction of the time of training steps spent waiting for the next batch."""
        steps = self.compute + self.communication + self.input
        return self.input / steps if steps > 0 else 0.0


class Clock:
    """Measures seconds by activity; a nested activity counts as the outer one."""

    def __init__(self) -> None:
        """Start the clock."""
        self._start = time.monotonic()
        self._seconds: dict[Kind, float] = dict.fromkeys(
            ("communication", "input", "evaluation", "saving"), 0.0
        )
        self._busy = False
        self._device_waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def count(self, kind: Kind) -> Iterator[None]:
        """Count the time inside the context."""
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
    def device_wait(self, device: torch.device) -> Iterator[None]:
        """Count, as communication, how long a wait inside the context blocks the device.

        On a GPU the call returns at once and the CUDA stream waits, so the time is taken from CUDA events.
        """
        if device.type != "cuda":
            with self.count("communication"):
                yield
            return
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()
        yield
        after.record()
        self._device_waits.append((before, after))
        if len(self._device_waits) >= PENDING:
            self._read_device_waits()

    def _read_device_waits(self) -> None:
        if self._device_waits:
            self._device_waits[-1][1].synchronize()
        milliseconds = sum(before.elapsed_time(after) for before, after in self._device_waits)
        self._seconds["communication"] += milliseconds / 1000
        self._device_waits = []

    def split(self) -> TimeSplit:
        """Times up to now."""
        self._read_device_waits()
        total = time.monotonic() - self._start
        return TimeSplit(compute=max(0.0, total - sum(self._seconds.values())), **self._seconds)
