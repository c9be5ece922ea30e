"""Every observable of the catalogue in a few passes over the voxels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, RaggedMesh
from caloforge.observables import regions
from caloforge.observables.angle import EMPTY_ANGLE, measured_angle_of, principal_axis
from caloforge.observables.catalogue import SPECTRUM_EDGES
from caloforge.observables.correlations import two_point
from caloforge.observables.energy import depth_regions, fractions
from caloforge.observables.fingerprint import fingerprint
from caloforge.observables.hits import layer_hits, split_spectrum
from caloforge.observables.layers import TransverseSums, layer_centres, layer_contrast, transverse_sums
from caloforge.observables.longitudinal import gamma_fit
from caloforge.observables.moments import moments_of
from caloforge.observables.profiles import lateral_image, ring_sums, transverse_positions
from caloforge.showers import ShowerBatch

Array = NDArray[np.float64]
Values = dict[str, NDArray[Any]]

# voxels worked on at once, 64 showers of 25 x 25 x 25: some 50 MB, and larger blocks are not faster
BLOCK_VOXELS = 1_000_000


def observe(batch: ShowerBatch, detector: Detector, *, threshold: float) -> dict[str, NDArray[np.float32]]:
    """Measure some showers.

    Memory beyond the result does not grow with the number of showers.

    Args:
        batch: N showers.
        detector: Their detector.
        threshold: Voxels above it are hits, MeV. Energies are sums over all voxels.

    Returns:
        Every observable of `catalogue` by name, (N,) for scalars and (N, k) for profiles and spectra, and
        `fingerprint` (N, 8) for `distinct_showers`.

    Raises:
        ValueError: No showers, or a voxel that is not finite.
    """
    if len(batch) == 0:
        raise ValueError("got no showers, expected at least one")
    measure = _Measurement(detector, threshold)
    size = max(1, BLOCK_VOXELS // int(np.prod(detector.shower_shape)))
    result: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(batch), size):
        for name, value in measure(batch[start : start + size]).items():
            if start == 0:
                result[name] = np.empty((len(batch), *value.shape[1:]), np.float32)
            result[name][start : start + len(value)] = value
    return result


def high_level_features(
    values: Mapping[str, NDArray[Any]], incident_energy: NDArray[Any]
) -> NDArray[np.float32]:
    """A table of numbers per shower for classifiers and Fréchet distances.

    Args:
        values: Result of `observe`.
        incident_energy: (N,) MeV.

    Returns:
        (N, k): log10 of the incident energy in MeV, every scalar, and the share of each layer in the energy
        and in the hits. Energies are given as log10(1 + E / MeV).
    """
    scalars = {name: value for name, value in values.items() if value.ndim == 1}
    for name in ("visible_energy", "hottest_energy"):
        scalars[name] = np.log10(1 + scalars[name])
    columns = [
        np.log10(incident_energy.astype(np.float64))[:, None],
        *(value[:, None] for value in scalars.values()),
        values["layer_fraction"],
        fractions(values["layer_hits"]),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


class _Measurement:
    """What does not change from block to block, and the measurement of one block."""

    def __init__(self, detector: Detector, threshold: float) -> None:
        self.detector, self.mesh, self.threshold = detector, detector.mesh, threshold
        self.x, self.y = transverse_positions(self.mesh)
        self.core, self.tail = regions.core_region(self.mesh), regions.tail_region(self.mesh)
        self.quadrants = regions.quadrant_signs(self.mesh)
        if isinstance(self.mesh, RaggedMesh):
            sizes = [layer.n_voxels for layer in self.mesh.layers]
            self.layer_of = np.repeat(np.arange(len(sizes)), sizes)
        else:
            self.layer_of = np.repeat(np.arange(detector.n_layers), len(self.x))

    def __call__(self, batch: ShowerBatch) -> Values:
        showers = batch.showers
        sums = transverse_sums(showers, self.mesh)
        if not np.isfinite(sums.energy).all():
            raise ValueError("got showers with NaN or infinite voxels, expected finite energies")
        image = lateral_image(showers, self.mesh)
        values = self._energies(sums.energy, batch.incident_energy)
        values |= moments_of(sums.energy, image, self.x, self.y)
        values |= layer_centres(sums)
        values |= self._lateral(image)
        values["width_asymmetry"] = values["width_x"] - values["width_y"]
        values |= self._voxels(showers)
        values |= self._angles(sums, batch.incident_theta)
        values |= self._correlations(showers)
        values["fingerprint"] = fingerprint(showers)
        return values

    def _energies(self, layer: Array, incident_energy: NDArray[Any]) -> Values:
        total, share = layer.sum(axis=1), fractions(layer)
        thirds = depth_regions(layer)
        values: Values = {
            "response": total / incident_energy,
            "visible_energy": total,
            "layer_energy": layer,
            "layer_fraction": share,
            "layer_contrast": layer_contrast(layer),
            "first_layer_fraction": share[:, 0],
            **{f"r{i + 1}": thirds[:, i] for i in range(3)},
        }
        if self.detector.layers:
            depths = self.detector.active_depths_x0()
            values["shower_maximum"] = gamma_fit(layer, depths).maximum
        return values

    def _lateral(self, image: Array) -> Values:
        total = image.sum(axis=1)
        per_energy = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        values: Values = {
            "radial_profile": ring_sums(image, self.mesh),
            "r90": regions.containment_radius(*regions.fine_rings(image, self.mesh)),
            "core_fraction": (image @ self.core) * per_energy,
            "tail_fraction": (image @ self.tail) * per_energy,
            "quadrant_asymmetry": (image @ self.quadrants) * per_energy,
        }
        if isinstance(self.mesh, CartesianMesh):
            values["corner_fraction"] = (image @ regions.corner_region(self.mesh)) * per_energy
            square = image.reshape(len(image), self.mesh.ny, self.mesh.nx)
            values["x_profile"], values["y_profile"] = square.sum(axis=1), square.sum(axis=2)
        if isinstance(self.mesh, CylindricalMesh):
            values["azimuthal_profile"] = image.reshape(len(image), self.mesh.nphi, -1).sum(axis=2)
        return values

    def _voxels(self, showers: NDArray[Any]) -> Values:
        flat = showers.reshape(len(showers), -1)
        per_layer = layer_hits(showers, self.mesh, self.threshold)
        count = per_layer.sum(axis=1)
        spectra = split_spectrum(showers, SPECTRUM_EDGES, self.tail)
        hottest = np.argmax(flat, axis=1)
        position = hottest % len(self.x)
        return {
            "hits": count,
            "sparsity": 1 - count / flat.shape[1],
            "layer_hits": per_layer,
            "cell_spectrum": spectra.sum(axis=1),
            "tail_spectrum": spectra[:, 1],
            "hottest_energy": flat[np.arange(len(flat)), hottest],
            "hottest_layer": self.layer_of[hottest],
            "hottest_x": self.x[position],
            "hottest_y": self.y[position],
        }

    def _angles(self, sums: TransverseSums, incident_theta: NDArray[Any]) -> Values:
        if isinstance(self.mesh, RaggedMesh):
            return {}
        depths = self.detector.active_depths()
        values: Values = {}
        values["axis_theta"], values["axis_phi"] = principal_axis(sums, depths)
        if isinstance(self.mesh, CartesianMesh):
            measured = measured_angle_of(sums.energy, sums.x, sums.y, depths)
            # a shower without energy says nothing about its direction; 100 rad would rule every mean
            measured = np.where(measured == EMPTY_ANGLE, incident_theta, measured)
            values |= {"measured_angle": measured, "angle_residual": measured - incident_theta}
        return values

    def _correlations(self, showers: NDArray[Any]) -> Values:
        values: Values = {}
        for axis, overlap in two_point(showers, self.mesh).items():
            if overlap.shape[1] >= 1:
                values[f"neighbour_{axis}"] = overlap[:, 0]
            if overlap.shape[1] >= 2:
                values[f"two_point_{axis}"] = overlap
                if axis == "z":
                    values["neighbour_z2"] = overlap[:, 1]
        return values
