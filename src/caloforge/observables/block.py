"""A block of showers and what several observables need of it, each computed once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector, RaggedMesh
from caloforge.observables import regions
from caloforge.observables.angle import EMPTY_ANGLE, measured_angle_of, principal_axis
from caloforge.observables.correlations import two_point
from caloforge.observables.energy import depth_regions, fractions
from caloforge.observables.hits import SPECTRUM_EDGES, layer_hits, split_spectrum
from caloforge.observables.layers import TransverseSums, layer_centres, transverse_sums
from caloforge.observables.moments import moments_of
from caloforge.observables.profiles import lateral_image, transverse_positions
from caloforge.showers import ShowerBatch

Array = NDArray[np.float64]


class Layout:
    """Positions and regions of the voxels of a detector; the same for all blocks."""

    def __init__(self, detector: Detector) -> None:
        mesh = detector.mesh
        self.detector, self.mesh = detector, mesh
        self.x, self.y = transverse_positions(mesh)
        self.core, self.tail = regions.core_region(mesh), regions.tail_region(mesh)
        self.quadrants = regions.quadrant_signs(mesh)
        if isinstance(mesh, RaggedMesh):
            sizes = [layer.n_voxels for layer in mesh.layers]
            self.layer_of = np.repeat(np.arange(len(sizes)), sizes)
        else:
            self.layer_of = np.repeat(np.arange(detector.n_layers), len(self.x))


class Block:
    """n showers; sums and positions are computed when the first observable asks for them."""

    def __init__(self, batch: ShowerBatch, layout: Layout, threshold: float) -> None:
        """Check the voxels.

        Args:
            batch: n showers.
            layout: Of their detector.
            threshold: Voxels above it are hits, MeV.

        Raises:
            ValueError: A voxel that is not finite.
        """
        self.showers, self.incident_energy = batch.showers, batch.incident_energy
        self.incident_theta, self.incident_phi = batch.incident_theta, batch.incident_phi
        self.impact_x, self.impact_y = batch.impact_x, batch.impact_y
        self.layout, self.mesh, self.threshold = layout, layout.mesh, threshold
        if not np.isfinite(self.layer_energy).all():
            raise ValueError("got showers with NaN or infinite voxels, expected finite energies")

    @cached_property
    def sums(self) -> TransverseSums:
        """Energies and energy-weighted positions of the layers."""
        return transverse_sums(self.showers, self.mesh)

    @property
    def layer_energy(self) -> Array:
        """(n, nz) MeV."""
        return self.sums.energy

    @cached_property
    def visible_energy(self) -> Array:
        """(n,) MeV."""
        total: Array = self.layer_energy.sum(axis=1)
        return total

    @cached_property
    def layer_fraction(self) -> Array:
        """(n, nz) fraction of the visible energy."""
        return fractions(self.layer_energy)

    @cached_property
    def thirds(self) -> Array:
        """(n, 3) fractions of the energy in front, middle and back."""
        return depth_regions(self.layer_energy)

    @cached_property
    def image(self) -> Array:
        """(n, p) energy summed over the depth, MeV; see `lateral_image`."""
        return lateral_image(self.showers, self.mesh)

    @cached_property
    def moments(self) -> dict[str, Array]:
        """Moments 1 to 4 along each axis, (n,) each; see `moments`."""
        return moments_of(self.layer_energy, self.image, self.layout.x, self.layout.y)

    @cached_property
    def layer_centres(self) -> dict[str, Array]:
        """Centres and widths of the layers, (n, nz) each, mm; see `layer_centres`."""
        return layer_centres(self.sums)

    def image_fraction(self, weights: NDArray[Any]) -> Array:
        """(n,) sum of the image over weights (p,), over the energy of the image; 0 for an empty shower."""
        fraction: Array = (self.image @ weights) * self._per_energy
        return fraction

    @cached_property
    def _per_energy(self) -> Array:
        total = self.image.sum(axis=1)
        inverse: Array = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        return inverse

    @cached_property
    def layer_hits(self) -> NDArray[np.int64]:
        """(n, nz) voxels above the threshold."""
        return layer_hits(self.showers, self.mesh, self.threshold)

    @cached_property
    def spectra(self) -> NDArray[np.int64]:
        """(n, 2, k) voxels in each bin of `SPECTRUM_EDGES`, outside and inside the tails."""
        return split_spectrum(self.showers, SPECTRUM_EDGES, self.layout.tail)

    @property
    def flat(self) -> NDArray[Any]:
        """(n, voxels) MeV."""
        return self.showers.reshape(len(self.showers), -1)

    @cached_property
    def hottest(self) -> NDArray[np.intp]:
        """(n,) index of the voxel with the most energy."""
        index: NDArray[np.intp] = np.argmax(self.flat, axis=1)
        return index

    @cached_property
    def hottest_position(self) -> NDArray[np.intp]:
        """(n,) its index among the transverse positions."""
        position: NDArray[np.intp] = self.hottest % len(self.layout.x)
        return position

    @cached_property
    def axis(self) -> tuple[Array, Array]:
        """Theta and phi of the principal axis, (n,) rad each."""
        return principal_axis(self.sums, self.layout.detector.active_depths())

    @cached_property
    def measured_angle(self) -> Array:
        """(n,) rad; the incident angle for a shower without energy, which would dominate every mean."""
        depths = self.layout.detector.active_depths()
        measured = measured_angle_of(self.sums.energy, self.sums.x, self.sums.y, depths)
        return np.where(measured == EMPTY_ANGLE, self.incident_theta, measured)

    @cached_property
    def impact_residuals(self) -> tuple[Array, Array]:
        """Centre of gravity less the track at its depth in x and y, (n,) mm each; 0 for an empty shower."""
        theta, phi = (angle.astype(np.float64) for angle in (self.incident_theta, self.incident_phi))
        detector = self.layout.detector
        total = np.where(self.visible_energy > 0, self.visible_energy, 1.0)
        depth = np.zeros(len(total))
        if detector.layers:
            plane = detector.layer_fronts()[detector.axis_layer]
            depth = self.layer_energy @ (detector.active_depths() - plane) / total
        slopes = np.tan(phi), 1 / (np.tan(theta) * np.cos(phi))
        impacts = self.impact_x.astype(np.float64), self.impact_y.astype(np.float64)
        x, y = (
            np.where(self.visible_energy > 0, self.moments[f"centre_{axis}"] - impact - slope * depth, 0.0)
            for axis, impact, slope in zip("xy", impacts, slopes, strict=True)
        )
        return x, y

    @cached_property
    def overlaps(self) -> dict[str, Array]:
        """Two-point function along each axis, (n, shifts) each; see `two_point`."""
        return two_point(self.showers, self.mesh)
