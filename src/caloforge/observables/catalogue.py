"""The catalogue: every observable a mesh has, with its name, axis title and unit.

`catalogue` describes, `observe` measures; the keys of one are the names of the other. The validation is
written over the catalogue alone and knows no observable by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.observables import energy, hits, moments, profiles
from caloforge.showers import ShowerBatch

Kind = Literal["scalar", "profile", "spectrum"]
Section = Literal["response", "longitudinal", "lateral", "hits", "cells", "angle", "correlations"]

# voxel energies of the spectrum, MeV: ten bins a decade from the 1 keV cut of our full simulation
SPECTRUM_EDGES = np.geomspace(1e-3, 1e6, 91)


@dataclass(frozen=True)
class Axis:
    """The axis of a profile or spectrum.

    Attributes:
        label: Axis title without unit.
        unit: Unit of the edges.
        edges: (k + 1,) rising bin edges.
        log: Draw it logarithmically.
    """

    label: str
    unit: str
    edges: NDArray[np.float64]
    log: bool = False


@dataclass(frozen=True)
class Observable:
    """What one entry of `observe` means.

    Attributes:
        name: Key in `observe` and in metrics.json.
        label: Axis title, mathtext allowed, without unit.
        unit: Unit of the values; empty for none.
        section: Chapter of the report.
        kind: "scalar" (N,), "profile" (N, k) one value a bin, or "spectrum" (N, k) voxels a bin.
        log: Draw the value axis logarithmically.
        axis: Bins of a profile or spectrum.
        signed: The mean is zero by symmetry, so that shifts are measured in spreads of the truth.
    """

    name: str
    label: str
    unit: str
    section: Section
    kind: Kind
    log: bool = False
    axis: Axis | None = None
    signed: bool = False


def catalogue(detector: Detector, *, threshold: float) -> tuple[Observable, ...]:
    """The observables that showers of a detector have.

    Args:
        detector: Detector of the showers.
        threshold: Voxels above it are hits, MeV.
    """
    mesh, nz = detector.mesh, detector.n_layers
    layer = Axis("readout layer", "", np.arange(nz + 1, dtype=np.float64) - 0.5)
    above = f"above {threshold:g} MeV"
    entries = [
        Observable("response", r"$E_\mathrm{vis} / E_\mathrm{inc}$", "", "response", "scalar"),
        Observable("visible_energy", r"$E_\mathrm{vis}$", "MeV", "response", "scalar"),
        Observable("layer_energy", "energy in the layer", "MeV", "longitudinal", "profile", True, layer),
        *(Observable(f"r{i}", f"$R_{i}$", "", "longitudinal", "scalar") for i in (1, 2, 3)),
        Observable("centre_z", r"$\langle z \rangle$", "layer", "longitudinal", "scalar"),
        Observable("width_z", r"$\sigma_z$", "layer", "longitudinal", "scalar"),
    ]
    for axis in "xy":
        entries += [
            Observable(
                f"centre_{axis}", rf"$\langle {axis} \rangle$", "mm", "lateral", "scalar", signed=True
            ),
            Observable(f"width_{axis}", rf"$\sigma_{axis}$", "mm", "lateral", "scalar"),
        ]
    rings = Axis("distance from the axis", "mm", profiles.radial_edges(mesh))
    entries.append(
        Observable("radial_profile", "energy in the ring", "MeV", "lateral", "profile", True, rings)
    )
    if isinstance(mesh, CartesianMesh):
        for name, n, size in (("x", mesh.nx, mesh.cell_x), ("y", mesh.ny, mesh.cell_y)):
            axis_of = Axis(name, "mm", (np.arange(n + 1, dtype=np.float64) - n / 2) * size)
            entries.append(
                Observable(f"{name}_profile", "energy", "MeV", "lateral", "profile", True, axis_of)
            )
        entries.append(Observable("measured_angle", r"$\theta$ measured", "rad", "angle", "scalar"))
    if isinstance(mesh, CylindricalMesh):
        sectors = Axis(r"$\varphi$", "rad", np.linspace(-np.pi, np.pi, mesh.nphi + 1))
        entries.append(Observable("azimuthal_profile", "energy", "MeV", "lateral", "profile", False, sectors))
    entries += [
        Observable("hits", f"voxels {above}", "", "hits", "scalar"),
        Observable("layer_hits", f"voxels {above}", "", "hits", "profile", False, layer),
        Observable(
            "cell_spectrum", "voxels", "", "cells", "spectrum", True,
            Axis("voxel energy", "MeV", SPECTRUM_EDGES, log=True),
        ),
    ]  # fmt: skip
    return tuple(entries)


def observe(batch: ShowerBatch, detector: Detector, *, threshold: float) -> dict[str, NDArray[np.float32]]:
    """Every observable of the catalogue for some showers.

    Args:
        batch: N showers.
        detector: Their detector.
        threshold: Voxels above it are hits, MeV.

    Returns:
        By name: (N,) for scalars, (N, k) for profiles and spectra.
    """
    showers, mesh = batch.showers, detector.mesh
    layers = energy.layer_energies(showers, mesh)
    regions = energy.depth_regions(layers)
    values: dict[str, NDArray[Any]] = {
        "response": energy.response(showers, batch.incident_energy),
        "visible_energy": energy.visible_energy(showers),
        "layer_energy": layers,
        "r1": regions[:, 0],
        "r2": regions[:, 1],
        "r3": regions[:, 2],
        **moments.moments(showers, mesh),
        "radial_profile": profiles.radial_profile(showers, mesh),
        "hits": hits.hits(showers, threshold),
        "layer_hits": hits.layer_hits(showers, mesh, threshold),
        "cell_spectrum": hits.cell_spectrum(showers, SPECTRUM_EDGES),
    }
    if isinstance(mesh, CartesianMesh):
        values["x_profile"] = profiles.x_profile(showers)
        values["y_profile"] = profiles.y_profile(showers)
        values["measured_angle"] = moments.measured_angle(
            showers, mesh.x_centres(), mesh.y_centres(), detector.active_depths()
        )
    if isinstance(mesh, CylindricalMesh):
        values["azimuthal_profile"] = profiles.azimuthal_profile(showers)
    return {name: value.astype(np.float32) for name, value in values.items()}


def high_level_features(
    values: Mapping[str, NDArray[Any]], incident_energy: NDArray[Any]
) -> NDArray[np.float32]:
    """A table of numbers per shower for classifiers and Fréchet distances.

    Args:
        values: Result of `observe`.
        incident_energy: (N,) MeV.

    Returns:
        (N, k): log10 of the incident energy, every scalar, and the fraction of the energy in each layer.
    """
    scalars = [value[:, None] for value in values.values() if value.ndim == 1]
    fractions = energy.fractions(values["layer_energy"])
    columns = [np.log10(incident_energy)[:, None], *scalars, fractions]
    return np.concatenate(columns, axis=1).astype(np.float32)
