"""Layer features of the showers of a library, as a new detector would have them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.conditions import Condition
from caloforge.errors import TrainingError
from caloforge.geometry import Detector
from caloforge.models.layered.constants import POSITION_FEATURES
from caloforge.models.layered.features import FeatureLayout, layer_features
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.layered.shower_library.bin_sample import BinSample
from caloforge.models.layered.shower_library.detector_family import DetectorFamily
from caloforge.models.layered.shower_library.hits import DetectorHits
from caloforge.models.layered.shower_library.mesh_change import summed_into
from caloforge.models.layered.shower_library.store import ShowerLibrary
from caloforge.models.layered.shower_library.suitability import LEAST_SHOWERS
from caloforge.models.layered.shower_library.transport import transported

# a shower of the new detector counts as much as so many of the library
WEIGHT = 4
# showers of a detector that are decoded at once
CHUNK = 64


@dataclass(frozen=True)
class FeaturePlace:
    """What layer features of a detector are made of.

    Attributes:
        detector: The detector.
        geometry: Cells of a layer.
        layout: Of the features.
        median_energy: Median energy of a single particle in a cell, MeV.
        threshold: Least energy of a cell, MeV.
    """

    detector: Detector
    geometry: LayerGeometry
    layout: FeatureLayout
    median_energy: float
    threshold: float

    @property
    def cells(self) -> NDArray[np.float64]:
        """(F,) cells of the radial bins of all layers."""
        return np.tile(self.geometry.radial_bin_sizes.astype(float), self.layout.layers)


def add_library(
    library: ShowerLibrary,
    place: FeaturePlace,
    own: tuple[list[NDArray[np.float32]], list[Condition], list[Tensor]],
    images: int,
    rng: np.random.Generator,
) -> None:
    """Add showers of a library to the rows that a layer sampler is fitted to; the others get more weight.

    Args:
        library: The library.
        place: Of the new detector.
        own: Rows of features, in parts, each with `images` of the same showers one after the other; their
            conditions, of one particle and direction, and indices of their showers, a part for each image.
        images: Number of images of a shower.
        rng: Random numbers.

    Raises:
        TrainingError: Fewer than LEAST_SHOWERS showers.
        ModelError: The files of the library are damaged.
    """
    rows, conditions, numbers = own
    features = np.concatenate([part[: len(part) // images] for part in rows])
    energy = torch.cat([condition.energy for condition in conditions[::images]]).numpy()
    made, energies = library_features(library, place, features, energy, rng)
    # as few rows of a shower as possible, which would all be neighbours of another one; copies keep the index
    # of their shower, so that they are not spliced with each other
    copies = math.ceil(WEIGHT / images)
    rows *= copies
    conditions *= copies
    numbers *= copies
    others = max(1, images * copies // WEIGHT)
    rows.append(np.concatenate([made, *(rotated(made, rng) for _ in range(others - 1))]))
    like = conditions[0][torch.zeros(len(made), dtype=torch.int64)]
    conditions += [replace(like, energy=torch.from_numpy(energies))] * others
    numbers += [len(features) + torch.arange(len(made))] * others


def library_features(
    library: ShowerLibrary,
    place: FeaturePlace,
    features: NDArray[np.float32],
    energy: NDArray[np.floating],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Layer features (M, size) of a library's showers in a new detector, and their energies (M,) in MeV.

    Args:
        library: The library.
        place: Of the new detector.
        features: (N, size) of its showers, without the leakage correction.
        energy: (N,) their incident energies, MeV.
        rng: Random numbers.

    Raises:
        TrainingError: Fewer than LEAST_SHOWERS showers.
        ModelError: The files of the library are damaged.
    """
    if len(features) < LEAST_SHOWERS:
        raise TrainingError(
            f"{library.card.name}: {len(features)} showers to fit to, expected at least {LEAST_SHOWERS}, "
            "which tell how the detector differs from those of the library; simulate more"
        )
    samples = [box_sample(hits, place, rng) for hits in library.read()]
    for sample in samples:
        sample.scale(-float(np.median(sample.response)))
    own = BinSample.of(features, energy, place.layout, place.threshold)
    unit = float(np.median(own.response))
    own.scale(-unit)
    found = transported(DetectorFamily(samples, place.layout, place.cells), own, rng)
    found.scale(unit)
    return found.features(place.layout, place.median_energy, rng), found.energy.astype(np.float32)


def box_sample(hits: DetectorHits, place: FeaturePlace, rng: np.random.Generator) -> BinSample:
    """Showers of one detector of a library in the cells of a place."""
    parts, showers = [], hits.showers
    for start in range(0, len(hits.energy), CHUNK):
        part = slice(start, start + CHUNK)
        energy = hits.energy[part]
        found, known = summed_into(place.detector, hits.detector, showers(part), rng)
        found = np.where(found < place.threshold, np.float32(0), found)
        rows = layer_features(found, energy.astype(np.float32), place.geometry, place.median_energy, rng)
        parts.append(BinSample.of(rows, energy, place.layout, place.threshold, known))
    return BinSample.joined(parts)


def rotated(features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Features (N, size) of showers that are rotated around the axis and mirrored at random."""
    angle, flip = rng.uniform(0, 2 * np.pi, len(features)), rng.choice([-1, 1], len(features))
    rotation = np.array([[np.cos(angle), -flip * np.sin(angle)], [np.sin(angle), flip * np.cos(angle)]])
    pairs = features[:, -POSITION_FEATURES:].reshape(-1, 2, 2)
    images = features.copy()
    images[:, -POSITION_FEATURES:] = np.einsum("ijn,nkj->nki", rotation, pairs).reshape(len(features), -1)
    return images
