"""The particles of an event, with the names and units of EDM4hep: GeV, mm, ns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# mm/ns
SPEED_OF_LIGHT = 299.792458
# generatorStatus of a particle that the generator leaves to the simulation
FINAL = 1
# bits of simulatorStatus, EDM4hep 1.1
CREATED_IN_SIMULATION, HANDLED_BY_FAST_SIMULATION = 1 << 30, 1 << 22

# columns of one number for each particle, and their types
COLUMNS: dict[str, type] = {
    "PDG": np.int32,
    "generatorStatus": np.int32,
    "simulatorStatus": np.int32,
    "charge": np.float32,
    "time": np.float32,
    "mass": np.float64,
    **{f"{point}.{axis}": np.float64 for point in ("vertex", "endpoint", "momentum") for axis in "xyz"},
}


@dataclass(frozen=True)
class Relations:
    """For each of N particles, the indices of its parents or daughters.

    Attributes:
        ends: One past the last index of each, shape (N,).
        index: The indices, particle after particle.
    """

    ends: NDArray[np.int64]
    index: NDArray[np.int64]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> Relations:
        """From a list for each particle."""
        flat = [index for part in lists for index in part]
        return cls(np.cumsum([len(part) for part in lists], dtype=np.int64), np.array(flat, np.int64))

    def lists(self) -> list[list[int]]:
        """A list for each particle."""
        starts = np.concatenate([[0], self.ends[:-1]]) if len(self.ends) else self.ends
        return [self.index[a:b].tolist() for a, b in zip(starts, self.ends, strict=True)]


@dataclass(frozen=True)
class Event:
    """The particles of one event.

    Attributes:
        number: Its number in the file.
        columns: One array of N for each of `COLUMNS`.
        parents: Parents of each particle.
        daughters: Daughters of each particle.
    """

    number: int
    columns: dict[str, NDArray[Any]]
    parents: Relations
    daughters: Relations

    def __len__(self) -> int:
        return len(self.columns["PDG"])

    def vectors(self, name: str) -> NDArray[np.float64]:
        """The column `name` of vectors, such as "momentum", shape (N, 3)."""
        return np.stack([self.columns[f"{name}.{axis}"] for axis in "xyz"], axis=1)
