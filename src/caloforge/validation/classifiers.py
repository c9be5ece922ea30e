"""Neural classifier tests of a validation, and the input tables of the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError
from caloforge.geometry import CylindricalMesh, Detector, RaggedMesh, impact_limits
from caloforge.metrics.feature_table import DenseRows, Rows, low_level, low_level_normed, voxel_table
from caloforge.metrics.resampling import Metric
from caloforge.models.symmetries import symmetries
from caloforge.models.training_metadata import TrainedRange
from caloforge.observables import high_level_features
from caloforge.showers import ShowerFile
from caloforge.validation.observed_sample import Sample

if TYPE_CHECKING:
    from caloforge.metrics.cnn_network import Images

STRONG = "strong"
# the networks of the CaloChallenge, and the CNN of `metrics.cnn_classifier`
NETWORKS = ("low", "low-normed", "high", "cnn", STRONG)
READ = 1024


def classify(
    truth: Sample,
    generated: Sample,
    names: Sequence[str],
    *,
    repeats: int,
    seed: int,
    measure_floor: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, tuple[Metric, Metric]]:
    """Train classifiers between full simulation and a generated sample.

    Args:
        truth: Full simulation.
        generated: The sample to judge.
        names: By the protocol of the CaloChallenge "low" (voxels), "low-normed" (voxels over the energy of
            their layer), "high" (observables), "cnn" (3D ResNet); "strong" is `strong_classifier`.
        repeats: Trainings of each.
        seed: Seed of splits and weights.
        measure_floor: Whether "strong" is trained once more, between halves of the truth.
        progress: Called with thousandths done and 1000 x the number of networks.

    Returns:
        By network, area under the ROC curve and Jensen-Shannon divergence.

    Raises:
        ConfigError: "cnn" or "strong" on a mesh without images.
    """
    # torch is imported only where a network is trained
    from caloforge.metrics.cnn_classifier import strong_classifier
    from caloforge.metrics.neural_networks import neural_classifier

    results = {}
    for number, name in enumerate(names):

        def tell(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(1000 * number + 1000 * done // total, 1000 * len(names))

        first, second = _rows(truth, truth, name), _rows(truth, generated, name)
        if name == STRONG:
            found = strong_classifier(
                first,
                second,
                images=images(truth.detector, truth.conditions),
                repeats=repeats,
                seed=seed,
                measure_floor=measure_floor,
                progress=tell,
            )
        else:
            shape = _image_shape(truth.detector) if name == "cnn" else None
            found = neural_classifier(first, second, voxels=shape, repeats=repeats, seed=seed, progress=tell)
        results[name] = (found.auc, found.jsd)
    return results


def _rows(truth: Sample, sample: Sample, name: str) -> Rows:
    """The input table of a network."""
    if name == "high":
        return DenseRows(high_level_features(sample.values, sample.conditions.energy))
    if name == "low-normed":
        return low_level_normed(_blocks(sample), sample.detector.mesh)
    if name == STRONG:
        return voxel_table(_blocks(sample))
    return low_level(_blocks(sample), response=_response(truth))


def _image_shape(detector: Detector) -> tuple[int, int, int]:
    """Layers, rows and columns of a shower as an image.

    Raises:
        ConfigError: A ragged mesh, whose layers are no images of one size.
    """
    if isinstance(detector.mesh, RaggedMesh):
        raise ConfigError(f"{detector.name} has layers of different binning, no images; take low or high")
    layers, rows, columns = detector.shower_shape
    return layers, rows, columns


def images(detector: Detector, conditions: Conditions) -> Images:
    """Shape of a shower as an image, and its symmetry operations.

    Args:
        detector: Of both samples.
        conditions: Of the truth; their range decides which operations are symmetries.
    """
    from caloforge.metrics.cnn_network import Images

    shape = _image_shape(detector)

    def limits(values: NDArray[np.floating]) -> tuple[float, float]:
        return float(values.min()), float(values.max())

    # a sample does not quite reach the ends of the cell, which is symmetric about the axis
    impact_x, impact_y = (
        (0.0 - half, half) if conditions.off_axis else (0.0, 0.0) for half in impact_limits(detector.mesh)
    )
    ranges = TrainedRange(
        energy=limits(conditions.energy),
        theta=limits(conditions.theta),
        phi=limits(conditions.phi),
        pdg_ids=tuple(map(int, np.unique(conditions.pdg_id))),
        impact_x=impact_x,
        impact_y=impact_y,
    )
    group = symmetries(detector, ranges)
    return Images(
        shape,
        periodic=isinstance(detector.mesh, CylindricalMesh) and len(group) > 1,
        flip_rows=any(operation.flip_y for operation in group),
        flip_columns=any(operation.flip_x for operation in group),
        swap=any(operation.swap for operation in group),
    )


def _response(truth: Sample) -> float:
    """Mean visible over incident energy, 1 where energies are corrected for the sampling fraction."""
    with ShowerFile(truth.path) as file:
        visible = file.energy_meaning == "visible"
    return float(np.mean(truth.values["response"])) if visible else 1.0


def _blocks(sample: Sample) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Voxels and incident energies of the selected showers, in blocks."""
    kept = np.zeros(int(sample.index[-1]) + 1, bool)
    kept[sample.index] = True
    with ShowerFile(sample.path) as file:
        start = 0
        for batch in file.iterate(READ, stop=len(kept)):
            chosen = kept[start : start + len(batch)]
            start += len(batch)
            yield batch.showers[chosen], batch.incident_energy[chosen]
