"""Windows around the axes of showers, and their layer features: frame and expectation together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.geometry import Detector
from caloforge.models.base import Condition
from caloforge.models.layered.axis_expectation import AxisExpectation, Shares
from caloforge.models.layered.cell_density import WindowCondition
from caloforge.models.layered.constants import EMPTY_ROOT, POSITION_FEATURES, SEEN
from caloforge.models.layered.features import FeatureLayout, WindowFacts
from caloforge.models.layered.shower_frame import (
    AxisPosition,
    AxisTerms,
    ShowerFrame,
    growth,
    window_geometry,
)
from caloforge.models.training_metadata import TrainedRange


@dataclass(frozen=True)
class Window:
    """Windows around the axes of N showers.

    Attributes:
        position: Of the axes.
        available: (N, layers, cells) 1 for cells that are in the mesh, else 0.
        shares: Expected shares of the radial bins that are in the mesh.
    """

    position: AxisPosition
    available: Tensor
    shares: Shares

    def facts(self) -> WindowFacts:
        """What `layer_features` needs."""
        # remainders are in half cells
        parts = (self.shares.energy, self.shares.hits, self.position.remainder / 2)
        return WindowFacts(*(part.float().cpu().numpy() for part in parts))


class ShowerWindows(nn.Module):
    """Frame of the showers, cells of a window, and what the axis predicts of the layer features."""

    def __init__(self, detector: Detector, ranges: TrainedRange, radial_bins: tuple[int, ...]) -> None:
        """Nothing is predicted.

        Args:
            detector: With a cartesian mesh.
            ranges: Trained conditions.
            radial_bins: First ring of each radial bin.
        """
        super().__init__()
        self.frame = ShowerFrame(detector, ranges)
        self.geometry, self.images = window_geometry(detector, self.frame.reach, radial_bins)
        self.layout = FeatureLayout(detector.n_layers, len(self.geometry.radial_bin_sizes))
        self.terms = AxisTerms(self.geometry, self.images, inclined=self.frame.inclined)
        self.expectation = AxisExpectation(self.layout, self.geometry, self.frame.inclinations)
        self._counts = torch.zeros(3, self.layout.layers, self.geometry.cells, dtype=torch.float64)

    def window(self, condition: Condition) -> Window:
        """Windows of showers of some conditions."""
        position = self.frame.position(condition)
        available = self.frame.available(position)
        return Window(position, available, self.expectation.shares(available))

    def cut(self, showers: NDArray[np.float32], condition: Condition) -> tuple[NDArray[np.float32], Window]:
        """Windows of showers (N, layers, rows, columns), which are another number of rows and columns."""
        window = self.window(condition)
        cells = self.frame.windows(torch.from_numpy(showers), window.position)
        shape = (len(showers), self.layout.layers, self.geometry.rows, self.geometry.columns)
        return cells.view(shape).numpy(), window

    # ---- fit

    def count(self, showers: NDArray[np.float32], condition: Condition) -> None:
        """Add hits and energies of showers to the sums that shares are made of."""
        cells, window = self.cut(showers, condition)
        flat = torch.from_numpy(cells).flatten(2)
        self._counts += torch.stack([(part).double().sum(0) for part in (flat > 0, flat, window.available)])

    def fit_shares(self) -> None:
        """Set the expected shares from the showers that were counted."""
        self.expectation.fit_shares(*self._counts)
        self._counts.zero_()

    def images_of(self, rest: Tensor) -> list[Tensor]:
        """Features, less what is expected, of the images of showers, (N, size) each.

        A reflection in the plane of the inclination turns the components across it; where there is no
        inclination, a reflection in x those along x as well.
        """
        across = torch.tensor([1.0, -1.0] * (POSITION_FEATURES // 2))
        signs = [torch.ones(POSITION_FEATURES), across]
        if not self.frame.inclined:
            signs += [-across, -torch.ones(POSITION_FEATURES)]
        place = self.layout.position
        return [torch.cat([rest[:, : place.start], rest[:, place] * sign], dim=1) for sign in signs]

    def empty(self, hits: Tensor, window: Window) -> Tensor:
        """Mask, (N, layers, bins), of radial bins that the shower leaves empty, and not the edge of the mesh.

        A bin of a layer with hits that is mostly outside of the mesh may be empty because of that.
        """
        none = hits == 0
        return none & (self._seen(window) | none.all(2, keepdim=True))

    def _seen(self, window: Window) -> Tensor:
        """Mask, (N, layers, bins), of radial bins of which at least the share SEEN is in the mesh."""
        sizes = torch.from_numpy(self.geometry.radial_bin_sizes).to(window.shares.cells)
        return window.shares.cells >= SEEN * sizes

    # ---- use

    def feature_condition(self, condition: Condition, position: AxisPosition) -> Condition:
        """Condition of the layer sampler: the inclination takes the place of theta and phi."""
        return replace(condition, theta=position.inclination, phi=torch.zeros_like(condition.phi))

    def keep_hits(self, features: Tensor, window: Window) -> Tensor:
        """Features (N, size) with a hit or more in bins that are not empty and mostly in the mesh, Eq. 6."""
        counts, least = self.layout.root_counts, self.expectation.least_root
        roots = features[:, counts]
        kept = self._seen(window).flatten(1) & (roots > EMPTY_ROOT / 2)
        roots = torch.where(kept, torch.maximum(roots, least / window.shares.hits.sqrt().flatten(1)), roots)
        return torch.cat([features[:, : counts.start], roots, features[:, counts.stop :]], dim=1)

    def sums(self, features: Tensor, window: Window, threshold: float) -> tuple[Tensor, Tensor]:
        """Energies of the radial bins of whole windows, and hits in the mesh, (N, layers, bins) each, Eq. 7.

        Args:
            features: (N, size).
            window: Of the showers.
            threshold: Least energy of a bin with hits, MeV.
        """
        counts, share = self.layout.root_counts, window.shares.hits.sqrt().flatten(1)
        parts = (features[:, : counts.start], features[:, counts] * share, features[:, counts.stop :])
        own = torch.cat(parts, dim=1)
        hits = torch.minimum(self.layout.hit_counts(own), window.shares.cells)
        return self.layout.bin_energy(own, threshold) * hits.clamp(0, 1), hits

    def cell_window(
        self, window: Window, bin_energy: Tensor, energy_argument: Tensor, median_energy: Tensor
    ) -> WindowCondition:
        """What the cells of windows depend on.

        Args:
            window: Of the showers.
            bin_energy: (N, layers, bins) MeV.
            energy_argument: (N,).
            median_energy: (), of a single particle in a cell, MeV.
        """
        change = growth(bin_energy.sum(2), median_energy)
        terms = self.terms(window.position, change, energy_argument)
        return WindowCondition(terms, window.available, window.shares.cells, window.position)
