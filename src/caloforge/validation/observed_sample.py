"""Observables of one shower file, measured in one pass; of the voxels only sums and some showers are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.errors import DataError
from caloforge.geometry import Detector
from caloforge.metrics.samples import KEPT_SHOWERS
from caloforge.observables import observe
from caloforge.showers import ShowerFile
from caloforge.validation.conditions import Bin

BATCH = 256
# voxels of the showers kept whole, at most
KEPT_VOXELS = 10_000_000


@dataclass(frozen=True)
class NegativeCells:
    """Voxels of negative energy, which is unphysical.

    Attributes:
        voxels: Their number.
        showers: Number of showers with any.
        energy: Absolute value of their sum over the visible energy of the sample.
        lowest: The most negative voxel, MeV.
    """

    voxels: int = 0
    showers: int = 0
    energy: float = 0.0
    lowest: float = 0.0


def kept_whole(count: int, detector: Detector) -> NDArray[np.int64]:
    """Indices of the showers whose voxels are kept: a few hundred, evenly spaced over the sample."""
    voxels = int(np.prod(detector.shower_shape))
    number = max(2, min(count, KEPT_SHOWERS, KEPT_VOXELS // voxels))
    return np.unique(np.linspace(0, count - 1, number).astype(np.int64))


@dataclass(frozen=True)
class Sample:
    """Observables and metadata of one shower file; about 3 kB per shower.

    Attributes:
        name: Its name in the report.
        path: The shower file.
        detector: Its detector.
        provenance: Provenance recorded in the file.
        index: (N,) indices of the selected showers in the file.
        conditions: Their incident conditions.
        values: By observable, (N,) or (N, k) float32.
        mean_showers: By bin key, the mean shower, float64, MeV.
        kept: Indices of the selected showers whose voxels are kept.
        kept_showers: Their voxels, MeV.
        negative: Energy below zero.
        empty: Number of showers without energy.
        seconds: Median wall time of a shower, or None.
    """

    name: str
    path: Path
    detector: Detector
    provenance: dict[str, Any]
    index: NDArray[np.int64]
    conditions: Conditions
    values: dict[str, NDArray[np.float32]]
    mean_showers: dict[str, NDArray[np.float64]]
    kept: NDArray[np.int64]
    kept_showers: NDArray[np.float32]
    negative: NegativeCells
    empty: int
    seconds: float | None

    def __len__(self) -> int:
        return len(self.conditions)


def read_sample(
    path: Path,
    name: str,
    bins: Sequence[Bin],
    *,
    threshold: float,
    impacts: bool = False,
    keep: NDArray[np.bool_] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Sample:
    """Measure the observables of a shower file in one pass, with constant memory for the voxels.

    Args:
        path: The shower file.
        name: Its name in the report.
        bins: Mean showers are kept for each.
        threshold: Voxels above it are hits, MeV.
        impacts: Whether impact points lie off the axis, see `catalogue`.
        keep: (N,) mask of the showers to select; all by default.
        progress: Called with the number of showers after each piece.

    Raises:
        DataError: A damaged file, or values that are not finite.
    """
    with ShowerFile(path) as file:
        conditions = Conditions.of(file).double()
        keep = np.ones(len(file), bool) if keep is None else keep
        seconds = float(np.median(file.column("seconds"))) if file.has_seconds else None
        members = np.stack([b.select(conditions) & keep for b in bins]).astype(np.float32)
        sums = np.zeros((len(bins), int(np.prod(file.detector.shower_shape))))
        pieces: list[dict[str, NDArray[np.float32]]] = []
        index = np.flatnonzero(keep)
        kept = kept_whole(len(index), file.detector)
        whole: list[NDArray[np.float32]] = []
        negative = _NegativeCount()
        start = 0
        for batch in file.iterate(BATCH):
            stop = start + len(batch)
            flat = batch.showers.reshape(len(batch), -1)
            sums += members[:, start:stop] @ flat
            taken = batch if keep[start:stop].all() else batch[keep[start:stop]]
            if len(taken):
                negative.add(taken.showers.reshape(len(taken), -1))
                pieces.append(observe(taken, file.detector, threshold=threshold, impacts=impacts))
            wanted = index[kept]
            whole.append(batch.showers[wanted[(wanted >= start) & (wanted < stop)] - start])
            if progress is not None:
                progress(len(batch))
            start = stop
        count = np.maximum(members.sum(axis=1), 1)
        shape = file.detector.shower_shape
        values = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
        return Sample(
            name=name,
            path=path,
            detector=file.detector,
            provenance=file.provenance,
            index=index,
            conditions=conditions[keep],
            values=values,
            mean_showers={b.key: (sums[i] / count[i]).reshape(shape) for i, b in enumerate(bins)},
            kept=kept,
            kept_showers=np.concatenate(whole),
            negative=negative.result(float(values["visible_energy"].sum(dtype=np.float64))),
            empty=int((values["visible_energy"] <= 0).sum()),
            seconds=seconds,
        )


def joined(samples: Sequence[Sample]) -> Sample:
    """Several samples of one detector as one; name, file and mean showers are those of the first."""
    first = samples[0]
    starts = np.cumsum([0, *(len(sample) for sample in samples)])
    return replace(
        first,
        conditions=Conditions.joined([sample.conditions for sample in samples]),
        values={name: np.concatenate([s.values[name] for s in samples]) for name in first.values},
        kept=np.concatenate([s.kept + start for s, start in zip(samples, starts, strict=False)]),
        kept_showers=np.concatenate([s.kept_showers for s in samples]),
    )


def check_unseen(truth: Sample, training: Sample) -> None:
    """Refuse a truth with showers of the training: their distance to it is zero, and so is the floor.

    Raises:
        DataError: With the number of such showers.
    """
    seen = set(_keys(training))
    common = sum(key in seen for key in _keys(truth))
    if common:
        raise DataError(
            f"{truth.path}: {common} of its {len(truth)} showers are in the training file {training.path}; "
            "expected full simulation that was not trained on"
        )


def _keys(sample: Sample) -> Iterator[bytes]:
    """A key for each shower, equal for equal showers: incident energy and histogram of the voxel energies."""
    spectra = sample.values["cell_spectrum"].astype(np.float64)
    table = np.column_stack([sample.conditions.energy, spectra])
    return (row.tobytes() for row in table)


class _NegativeCount:
    """Running count of negative voxels."""

    def __init__(self) -> None:
        self.voxels = self.showers = 0
        self.energy = self.lowest = 0.0

    def add(self, flat: NDArray[np.float32]) -> None:
        lowest = flat.min(axis=1)
        bad = lowest < 0
        if bad.any():
            below = np.minimum(flat[bad], 0)
            self.voxels += int(np.count_nonzero(below))
            self.showers += int(bad.sum())
            self.energy -= float(below.sum(dtype=np.float64))
            self.lowest = min(self.lowest, float(lowest.min()))

    def result(self, visible: float) -> NegativeCells:
        share = self.energy / visible if visible > 0 else float(self.energy > 0)
        return NegativeCells(self.voxels, self.showers, share, self.lowest)
