"""Showers of one detector as hits, three bytes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, Detector

# energies of hits are LEAST_ENERGY * exp(LEVEL_STEP * level), MeV; a level of 0 is no hit
LEAST_ENERGY, LEVEL_STEP = 1e-3, 0.06
LEVELS = np.iinfo(np.uint8).max
# cells between a hit and the one before it; larger gaps are bridged by entries without energy
LARGEST_GAP = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class DetectorHits:
    """Showers of one detector with a cartesian mesh.

    Attributes:
        detector: The detector.
        energy: (N,) incident energy, MeV.
        entries: (N,) number of entries of each shower.
        gap: (entries,) uint16 cells between the hit and the one before it, in the order of the flat cells.
        level: (entries,) uint8 logarithm of the energy of the hit.
    """

    detector: Detector
    energy: NDArray[np.float64]
    entries: NDArray[np.int64]
    gap: NDArray[np.uint16]
    level: NDArray[np.uint8]

    def showers(self, part: slice = slice(None)) -> NDArray[np.float32]:
        """Some of the showers, (n, layers, rows, columns), MeV."""
        cells = int(np.prod(self.detector.shower_shape))
        ends = np.cumsum(self.entries)
        starts, ends = (ends - self.entries)[part], ends[part]
        found = np.zeros((len(ends), cells), np.float32)
        for row, (start, stop) in enumerate(zip(starts, ends, strict=True)):
            place = np.cumsum(self.gap[start:stop], dtype=np.int64) - 1
            level = self.level[start:stop].astype(np.float64)
            hit = level > 0
            found[row, place[hit]] = LEAST_ENERGY * np.exp(LEVEL_STEP * level[hit])
        return found.reshape(len(found), *self.detector.shower_shape)

    def check(self) -> None:
        """Refuse hits outside of the cells.

        Raises:
            ValueError: There are some.
        """
        cells, places = int(np.prod(self.detector.shower_shape)), np.zeros(len(self.gap) + 1, np.int64)
        np.cumsum(self.gap, out=places[1:])
        ends = np.cumsum(self.entries)
        starts, some = ends - self.entries, self.entries > 0
        last = (places[ends] - places[starts])[some] - 1
        if (self.gap[starts[some]] == 0).any() or (last >= cells).any():
            raise ValueError(f"hits outside the {cells} cells of {self.detector.name}")

    @classmethod
    def of(
        cls, detector: Detector, energy: NDArray[np.floating], showers: NDArray[np.floating]
    ) -> DetectorHits:
        """Hits of showers (N, layers, rows, columns) in MeV, without those below half of LEAST_ENERGY."""
        gaps, levels, entries = [], [], []
        for shower in showers.reshape(len(showers), -1):
            place = np.flatnonzero(shower >= LEAST_ENERGY / 2)
            level = np.rint(np.log(shower[place].astype(np.float64) / LEAST_ENERGY) / LEVEL_STEP)
            gap, level = _bridged(np.diff(place, prepend=-1), level.clip(1, LEVELS).astype(np.uint8))
            gaps.append(gap)
            levels.append(level)
            entries.append(len(gap))
        return cls(
            detector,
            np.asarray(energy, np.float64),
            np.array(entries, np.int64),
            np.concatenate(gaps),
            np.concatenate(levels),
        )

    @classmethod
    def joined(cls, parts: Sequence[DetectorHits]) -> DetectorHits:
        """Showers of one detector from several files."""
        arrays = [[getattr(part, name) for part in parts] for name in ("energy", "entries", "gap", "level")]
        return cls(parts[0].detector, *(np.concatenate(array) for array in arrays))


def _bridged(
    gap: NDArray[np.integer], level: NDArray[np.uint8]
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Gaps with entries without energy in those that are too large."""
    extra = (gap - 1) // LARGEST_GAP
    last = np.cumsum(extra + 1) - 1
    steps = np.full(int((extra + 1).sum()), LARGEST_GAP, np.uint16)
    levels = np.zeros(len(steps), np.uint8)
    steps[last], levels[last] = gap - extra * LARGEST_GAP, level
    return steps, levels


def box_mesh(detector: Detector) -> CartesianMesh:
    """The mesh of a detector of a library.

    Raises:
        ValueError: It is not cartesian.
    """
    if not isinstance(detector.mesh, CartesianMesh):
        raise ValueError(f"{detector.name} has a {detector.mesh.kind} mesh, expected a cartesian one")
    return detector.mesh
