"""Features and separation powers as the CaloChallenge defines them, and its published results.

Reference: the challenge's `evaluate.py` and arXiv:2410.21611. Positions are eta = r cos(alpha) and
phi = r sin(alpha), mm; energies are corrected for the sampling fraction, voxels below the threshold of the
data set are 0.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector, Mesh, RaggedMesh
from caloforge.metrics.distributions import separation
from caloforge.metrics.resampling import Array, Metric, half_scale
from caloforge.observables.hits import layer_hits
from caloforge.observables.layers import layer_centres, transverse_sums
from caloforge.showers.converters.binning import DATASETS, dataset_detector

Floats = NDArray[np.float32]
Features = Mapping[str, Floats]

# MeV; of sets 2 and 3 half a keV in silicon over the sampling fraction
THRESHOLDS = {"1-photons": 1.0, "1-pions": 1.0, "2": 0.5e-3 / 0.033, "3": 0.5e-3 / 0.033}
# added to energies before the logarithm
OFFSET = 1e-8
# features of every layer, and those of layers with more than one sector, in the order of the feature vector
LAYER_FEATURES = ("layer_energy", "sparsity", "centre_r", "width_r")
SECTOR_FEATURES = ("centre_eta", "centre_phi", "width_eta", "width_phi")
# mm: histogram limits of sets 2 and 3, of set 1, and of the layers 12 and 13 of set 1
LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "centre_eta": ((-30, 30), (-100, 100), (-500, 500)),
    "centre_phi": ((-30, 30), (-100, 100), (-500, 500)),
    "width_eta": ((0, 30), (0, 100), (0, 400)),
    "width_phi": ((0, 30), (0, 100), (0, 400)),
    "centre_r": ((0, 42), (0, 500), (0, 1500)),
    "width_r": ((0, 20), (0, 500), (0, 1500)),
}
HADRONIC_LAYERS = (12, 13)
TOTAL_EDGES = np.linspace(0.5, 1.5, 101)
REPLICAS = 200


def dataset_of(detector: Detector) -> str | None:
    """The data set whose mesh a detector has, "1-photons", "1-pions", "2" or "3", or None."""
    for dataset in DATASETS:
        known, _ = dataset_detector(dataset)
        if (known.mesh, known.n_layers) == (detector.mesh, detector.n_layers):
            return dataset
    return None


def published(dataset: str) -> list[dict[str, Any]]:
    """Published results of the submissions to a data set, Geant4 against Geant4 first.

    Returns:
        One row per submission: `name`, `type`, and what was published of `fpd_1e3`,
        `kpd_1e3`, `auc_low`, `auc_high`, `auc_cnn` and their `_error`, `precision`, `recall`, `density`,
        `coverage`, `log_posterior`, `separation_...`, times in ms a shower, `parameters`.
    """
    rows: list[dict[str, Any]] = _results()["datasets"][f"ds{dataset.replace('-', '_')}"]
    return [dict(row) for row in rows]


def published_source() -> str:
    """Reference of the published results."""
    return str(_results()["source"])


@functools.cache
def _results() -> dict[str, Any]:
    text = (resources.files("caloforge.metrics") / "data" / "calochallenge_results.json").read_text("utf-8")
    results: dict[str, Any] = json.loads(text)
    return results


def layer_features(showers: NDArray[Any], mesh: Mesh) -> dict[str, Floats]:
    """The high-level features: energies, centres of energy, widths and sparsity of the layers.

    Args:
        showers: (N, ...) energy per voxel, MeV, below threshold 0.
        mesh: Their mesh; on a cartesian mesh x and y stand for eta and phi.

    Returns:
        `total_energy` (N, 1); `LAYER_FEATURES` (N, layers); `SECTOR_FEATURES` (N, layers with more than one
        sector). Layers without energy have 0 in centres and widths.
    """
    sums = transverse_sums(showers, mesh)
    centres = layer_centres(sums)
    empty = 1 - layer_hits(showers, mesh, 0.0) / _layer_sizes(mesh)
    sectors = _with_sectors(mesh)
    features = {
        "total_energy": sums.energy.sum(axis=1, keepdims=True),
        "layer_energy": sums.energy,
        "sparsity": empty,
        "centre_r": centres["layer_centre_r"],
        "width_r": centres["layer_width_r"],
        "centre_eta": centres["layer_centre_x"][:, sectors],
        "centre_phi": centres["layer_centre_y"][:, sectors],
        "width_eta": centres["layer_width_x"][:, sectors],
        "width_phi": centres["layer_width_y"][:, sectors],
    }
    return {name: values.astype(np.float32) for name, values in features.items()}


def _layer_sizes(mesh: Mesh) -> Any:
    """Voxels of each layer."""
    if isinstance(mesh, RaggedMesh):
        return np.array([layer.n_voxels for layer in mesh.layers])
    return int(np.prod(mesh.layer_shape()))


def _with_sectors(mesh: Mesh) -> Any:
    """Index of the layers that are binned in alpha."""
    if isinstance(mesh, RaggedMesh):
        return np.flatnonzero([layer.nphi > 1 for layer in mesh.layers])
    return slice(None)


def feature_vector(features: Features, incident_energy: NDArray[Any]) -> Floats:
    """The table for the high-level classifier, FPD and KPD.

    Args:
        features: Of `layer_features`.
        incident_energy: (N,) MeV.

    Returns:
        (N, k): log10 E_inc, log10 E_layer, centres eta and phi, widths eta and phi (all / 100 mm), log10
        E_tot, sparsity, centre r and width r (/ 100 mm); k = 30, 46 and 362 for sets 1 (photons), 1 (pions)
        and 2, 3.
    """
    return np.concatenate(
        [
            np.log10(incident_energy)[:, None],
            np.log10(features["layer_energy"] + OFFSET),
            *(features[name] / 100 for name in SECTOR_FEATURES),
            np.log10(features["total_energy"] + OFFSET),
            features["sparsity"],
            features["centre_r"] / 100,
            features["width_r"] / 100,
        ],
        axis=1,
    ).astype(np.float32)


def separation_powers(
    dataset: str,
    truth: tuple[Features, NDArray[Any]],
    generated: tuple[Features, NDArray[Any]],
    *,
    seed: int = 0,
) -> dict[str, Metric]:
    """Separation power of every histogram of the high-level features, with the bins of the challenge.

    Values outside the bins are left out of both histograms, as in the challenge.

    Args:
        dataset: "1-photons", "1-pions", "2" or "3".
        truth: Features of the truth, and incident energies, MeV.
        generated: The same of the generated showers.
        seed: Seed of the uncertainties and floors.

    Returns:
        "total_energy" (over the incident energy); in set 1 "total_energy/256" and so on for the incident
        energies, MeV; "layer_energy/0", "centre_eta/0" and so on for layers; "layer_energy" and so on for the
        mean over the layers, whose uncertainty and floor are the means over the layers too.
    """
    rng = np.random.default_rng(seed)
    sizes = len(truth[1]), len(generated[1])

    def measure(one: NDArray[Any], other: NDArray[Any], edges: Array) -> Metric:
        h, g = (np.histogram(values.astype(np.float64), edges)[0] for values in (one, other))
        return counts_separation(h, g, sizes, rng)

    first, second = (features["total_energy"][:, 0] / energy for features, energy in (truth, generated))
    result = {"total_energy": measure(first, second, TOTAL_EDGES)}
    if dataset.startswith("1-"):
        for low, edges in _listed_energies(dataset):
            one, other = (
                ratio[(energy >= low) & (energy < 2 * low)]
                for ratio, energy in ((first, truth[1]), (second, generated[1]))
            )
            if min(len(one), len(other)) > 0:
                result[f"total_energy/{low:g}"] = measure(one, other, edges)
    for name in (*LAYER_FEATURES, *SECTOR_FEATURES):
        layers = {}
        for column, layer in enumerate(_layer_ids(dataset, name)):
            one, other = truth[0][name][:, column], generated[0][name][:, column]
            bins = _edges(dataset, name, layer, float(one.max()))
            if bins is not None:
                layers[f"{name}/{layer}"] = measure(one, other, bins)
        result |= layers
        rows = [(m.value, m.uncertainty, m.floor) for m in layers.values()]
        result[name] = Metric(*map(float, np.mean(rows, axis=0)))
    return result


def counts_separation(
    truth: NDArray[np.integer],
    generated: NDArray[np.integer],
    sizes: tuple[int, int],
    rng: np.random.Generator,
) -> Metric:
    """Separation power of two histograms of one entry per shower.

    The bootstrap over showers of unit weight gives Poisson counts in each bin, a random split of the truth
    binomial ones, so that the histograms are sufficient.

    Args:
        truth: (k,) showers in each bin.
        generated: (k,) the same of the generated showers.
        sizes: Number of showers of both samples, binned or not.
        rng: Source of the replicas.
    """
    value = separation(truth, generated)
    shape = (REPLICAS, len(truth))
    drawn = separation(rng.poisson(truth, shape), rng.poisson(generated, shape))
    half = rng.binomial(truth, 0.5, shape)
    floor = separation(half, truth - half).mean() * half_scale(*sizes)
    return Metric(float(value), float(np.std(drawn, ddof=1)), float(floor))


def _listed_energies(dataset: str) -> list[tuple[float, Array]]:
    """Incident energies of set 1, MeV, and bins of their total energy, fine from 4 GeV photons on."""
    wide, narrow = np.linspace(0.4, 1.4, 21), np.linspace(0.9, 1.1, 21)
    return [(2.0**i, narrow if i > 11 and dataset == "1-photons" else wide) for i in range(8, 23)]


@functools.cache
def _layer_ids(dataset: str, name: str) -> tuple[int, ...]:
    """Numbers of the layers that have a feature, in the order of its columns."""
    detector, _ = dataset_detector(dataset)
    mesh = detector.mesh
    if not isinstance(mesh, RaggedMesh):
        return tuple(range(detector.n_layers))
    return tuple(layer.id for layer in mesh.layers if name in LAYER_FEATURES or layer.nphi > 1)


def _edges(dataset: str, name: str, layer: int, largest: float) -> Array | None:
    """Bins of a feature of a layer; None for the energy of a layer that is always empty."""
    if name == "layer_energy":
        low = THRESHOLDS[dataset]
        return np.geomspace(low, largest, 40) if largest > low else None
    if name == "sparsity":
        return np.linspace(0, 1, 21)
    kind = 0 if dataset in ("2", "3") else 2 if layer in HADRONIC_LAYERS else 1
    return np.linspace(*LIMITS[name][kind], 101)
