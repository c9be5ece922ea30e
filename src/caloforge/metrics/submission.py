"""The metrics of the CaloChallenge for generated showers, as one row of its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.calochallenge import (
    THRESHOLDS,
    dataset_of,
    feature_vector,
    layer_features,
    separation_powers,
)
from caloforge.metrics.distributions import spectrum_separation
from caloforge.metrics.fpd import frechet_physics_distance
from caloforge.metrics.kpd import kernel_physics_distance
from caloforge.metrics.prdc import prdc
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.observables.hits import cell_spectrum
from caloforge.showers import ShowerFile
from caloforge.showers.converters.binning import known_sampling_fraction

Floats = NDArray[np.float32]
Network = Literal["low", "high", "cnn", "low-normed"]
Progress = Callable[[int, int], object]

# batches of FPD and KPD, where JetNet's defaults are 20 000 and 5 000
BATCH = 10_000
CELL_BINS = 49
READ = 1024
# voxels of the showers used for precision, recall, density and coverage; bounds memory and time
PRDC_VOXELS = 30_000_000
# value of an empty voxel in these features, before the logarithm
EMPTY_VOXEL = 0.1


@dataclass(frozen=True)
class Submission:
    """Results in the metrics of the challenge.

    Attributes:
        dataset: "1-photons", "1-pions", "2" or "3".
        metrics: By the names of `calochallenge.published`: `fpd_1e3`, `kpd_1e3`, `precision`, `recall`,
            `density`, `coverage`, `separation_...`, and `auc_...`, `jsd_...` of the networks asked for.
        histograms: Separation power of every single histogram; see `calochallenge.separation_powers`.
    """

    dataset: str
    metrics: dict[str, Metric]
    histograms: dict[str, Metric]

    def row(self, name: str) -> dict[str, Any]:
        """The row in the format of `calochallenge.published`, under a given name."""
        numbers = {key: metric.value for key, metric in self.metrics.items()}
        errors = {
            f"{key}_error": metric.uncertainty
            for key, metric in self.metrics.items()
            if key.startswith(("fpd", "kpd", "auc"))
        }
        return {"name": name, "type": "yours"} | numbers | errors


def submission(
    truth: Path,
    generated: Path,
    *,
    networks: Sequence[Network] = (),
    repeats: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Submission:
    """Compare generated showers with the truth by the metrics of the CaloChallenge.

    Both files are read in blocks; what stays in memory is 1.5 kB a shower, and the voxels of all showers,
    sparsely, for the networks "low", "low-normed" and "cnn".

    Args:
        truth: Shower file of the full simulation, on the mesh of a data set. Visible energies of the Par04
            stack are divided by its sampling fraction, as the challenge did.
        generated: Shower file of the same detector.
        networks: Classifiers to train; hours for large samples without a GPU.
        repeats: Trainings of each network; the challenge takes 10.
        seed: Seed of everything.
        progress: Called with training steps done and all, for each network anew.

    Raises:
        DataError: Not the mesh of a data set, or two detectors.
    """
    with ShowerFile(truth) as first, ShowerFile(generated) as second:
        dataset = dataset_of(first.detector)
        if dataset is None:
            raise DataError(
                f"{truth}: the mesh of {first.detector.name} is none of the CaloChallenge; expected that of "
                "data set 1 (photons or pions), 2 or 3"
            )
        if dataset_of(second.detector) != dataset:
            raise DataError(f"{generated}: the detector {second.detector.name} is not that of {truth}")
        largest = max(float(showers.max()) for showers, _ in _blocks(first, dataset))
        one, other = (_Sample(file, dataset, largest, seed) for file in (first, second))
        metrics = _distances(one, other, seed)
        histograms = separation_powers(
            dataset, (one.features, one.energy), (other.features, other.energy), seed=seed
        )
        metrics |= {f"separation_{n}": m for n, m in histograms.items() if "/" not in n}
        resampler = Resampler(len(one.energy), len(other.energy), seed=seed)
        metrics["separation_cell_energy"] = spectrum_separation(one.cells, other.cells, resampler)
        for network in networks:
            metrics |= _classify(network, (first, second), (one, other), dataset, repeats, seed, progress)
    return Submission(dataset, metrics, histograms)


def _blocks(file: ShowerFile, dataset: str) -> Iterator[tuple[Floats, Floats]]:
    """Showers with the sampling fraction and thresholds of the challenge applied, and incident energies."""
    fraction = known_sampling_fraction(file.detector) if file.energy_meaning == "visible" else None
    for batch in file.iterate(READ):
        showers = batch.showers if fraction is None else batch.showers / np.float32(fraction)
        yield np.where(showers < THRESHOLDS[dataset], np.float32(0), showers), batch.incident_energy


class _Sample:
    """Result of one pass over a file: features, histograms of voxel energies, voxels of some showers."""

    def __init__(self, file: ShowerFile, dataset: str, largest: float, seed: int) -> None:
        # the largest voxel of the truth is in the last bin; above it is one bin more, dropped afterwards
        edges = np.append(np.geomspace(THRESHOLDS[dataset], largest, CELL_BINS + 1), np.inf)
        edges[-2] = np.nextafter(np.float32(largest), np.float32(np.inf))
        size = int(np.prod(file.detector.shower_shape))
        kept = np.zeros(len(file), bool)
        kept[np.random.default_rng(seed).permutation(len(file))[: max(1, PRDC_VOXELS // size)]] = True
        features, energies, cells, voxels, start = [], [], [], [], 0
        for showers, energy in _blocks(file, dataset):
            features.append(layer_features(showers, file.detector.mesh))
            energies.append(energy)
            cells.append(cell_spectrum(showers, edges)[:, :-1].astype(np.int32))
            chosen = showers[kept[start : start + len(showers)]].reshape(-1, size)
            voxels.append(np.log10(np.where(chosen > 0, chosen, np.float32(EMPTY_VOXEL))))
            start += len(showers)
        self.features = {name: np.concatenate([f[name] for f in features]) for name in features[0]}
        self.energy: Floats = np.concatenate(energies)
        self.cells = np.concatenate(cells)
        self.voxels: Floats = np.concatenate(voxels)
        self.vector = feature_vector(self.features, self.energy)


def _distances(one: _Sample, other: _Sample, seed: int) -> dict[str, Metric]:
    """FPD and KPD of the high-level features; precision, recall, density and coverage of the voxels."""
    per_mille = {
        "fpd_1e3": frechet_physics_distance(one.vector, other.vector, seed=seed, min_samples=BATCH),
        "kpd_1e3": kernel_physics_distance(one.vector, other.vector, seed=seed, batch=BATCH),
    }
    result = {
        name: Metric(1e3 * m.value, 1e3 * m.uncertainty, 1e3 * m.floor) for name, m in per_mille.items()
    }
    reach = prdc(one.voxels, other.voxels, seed=seed, standardise=False)
    return result | {name: getattr(reach, name) for name in ("precision", "recall", "density", "coverage")}


def _classify(
    network: Network,
    files: tuple[ShowerFile, ShowerFile],
    samples: tuple[_Sample, _Sample],
    dataset: str,
    repeats: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, Metric]:
    """Train one kind of network, all epochs."""
    from caloforge.metrics.feature_table import DenseRows, Rows, low_level, low_level_normed
    from caloforge.metrics.neural_networks import neural_classifier

    def rows(file: ShowerFile, sample: _Sample) -> Rows:
        if network == "high":
            return DenseRows(sample.vector)
        if network == "low-normed":
            return low_level_normed(_blocks(file, dataset), file.detector.mesh)
        return low_level(_blocks(file, dataset))

    shape = files[0].detector.shower_shape
    if network == "cnn" and len(shape) != 3:
        raise DataError(
            f"{files[0].path}: data set {dataset} has layers of different binning, no image for a CNN"
        )
    one, other = (rows(file, sample) for file, sample in zip(files, samples, strict=True))
    got = neural_classifier(
        one,
        other,
        voxels=(shape[0], shape[1], shape[2]) if network == "cnn" else None,
        repeats=repeats,
        seed=seed,
        progress=progress,
    )
    key = network.replace("-", "_")
    return {f"auc_{key}": got.auc, f"jsd_{key}": got.jsd}
