"""Numbers of hits and energies of radial bins, and the layer features they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.layered.constants import ROOT_MEAN, ROOT_WIDTH
from caloforge.models.layered.features import EDGE, FeatureLayout

Floats = NDArray[np.float64]


@dataclass
class BinSample:
    """Showers of one detector; F is layers times radial bins.

    Attributes:
        energy: (N,) incident energy, MeV.
        response: (N,) logarithm of visible over incident energy.
        hit_energy: (N, F) logarithm of the mean energy of a hit, MeV.
        hits: (N, F) numbers of hits.
        known: (N, F) false behind the last layer of the detector.
        position: (N, 4) centre and depth covariance.
    """

    energy: Floats
    response: Floats
    hit_energy: Floats
    hits: Floats
    known: NDArray[np.bool_]
    position: Floats

    @property
    def filled(self) -> NDArray[np.bool_]:
        """(N, F) where there is an energy of a hit."""
        return (self.hits > 0) & self.known

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        energy: NDArray[np.floating],
        layout: FeatureLayout,
        threshold: float,
        known: NDArray[np.bool_] | None = None,
    ) -> BinSample:
        """Of layer features (N, size), without the leakage correction; known (layers,) is all by default."""
        rows = torch.from_numpy(features)
        sums, hits = (
            part.flatten(1).numpy().astype(np.float64)
            for part in (layout.bin_energy(rows, threshold), layout.hit_counts(rows))
        )
        hit_energy = np.log(np.maximum(sums, threshold) / np.maximum(hits, 1))
        reached = np.ones(layout.layers, bool) if known is None else known
        columns = np.broadcast_to(np.repeat(reached, layout.radial_bins), hits.shape)
        response, position = (
            features[:, 0].astype(np.float64),
            features[:, layout.position].astype(np.float64),
        )
        return cls(np.asarray(energy, np.float64), response, hit_energy, hits, columns, position)

    @classmethod
    def joined(cls, samples: Sequence[BinSample]) -> BinSample:
        """One sample of several."""
        parts = ([getattr(sample, field.name) for sample in samples] for field in fields(cls))
        return cls(*(np.concatenate(part) for part in parts))

    def scale(self, logarithm: float) -> None:
        """Multiply energies of the showers by exp(logarithm)."""
        self.response = self.response + logarithm
        self.hit_energy = self.hit_energy + logarithm

    def features(
        self, layout: FeatureLayout, median_energy: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """(N, size) layer features; empty bins are filled as in `layer_features`."""
        single = median_energy * rng.normal(ROOT_MEAN, ROOT_WIDTH, self.hits.shape).clip(0.1) ** 3
        sums = np.where(self.hits > 0, np.exp(self.hit_energy) * self.hits, single)
        sums = sums.reshape(len(sums), layout.layers, layout.radial_bins)
        outward = sums[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
        parts = [
            self.response[:, None],
            np.cbrt(outward[:, :, 0]),
            np.log(sums[:, :, :-1] / outward[:, :, 1:]).reshape(len(sums), -1),
            np.sqrt(self.hits + rng.uniform(EDGE, 1 - EDGE, self.hits.shape)),
            self.position,
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)
