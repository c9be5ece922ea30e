"""The catalogue: every observable a mesh has, with its name, axis title and unit.

`catalogue` describes, `observe` measures; the keys of one are the names of the other. The validation is
written over the catalogue alone and knows no observable by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, Mesh
from caloforge.observables.correlations import shifts
from caloforge.observables.profiles import radial_edges

Kind = Literal["scalar", "profile", "spectrum"]
Section = Literal["response", "longitudinal", "lateral", "hits", "cells", "angle", "correlations"]

# voxel energies of the spectrum, MeV: twenty bins a decade, narrow enough for the MIP peak, from the 1 keV
# cut of our full simulation to more than any voxel holds
SPECTRUM_EDGES: NDArray[np.float64] = np.geomspace(1e-3, 1e5, 161)


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
    return (
        Observable("response", r"$E_\mathrm{vis} / E_\mathrm{inc}$", "", "response", "scalar"),
        Observable("visible_energy", r"$E_\mathrm{vis}$", "MeV", "response", "scalar"),
        *_longitudinal(detector),
        *_lateral(detector),
        *_counts(detector, threshold),
        *_angles(detector.mesh),
        *_correlations(detector),
    )


def _layer_axis(detector: Detector) -> Axis:
    return Axis("readout layer", "", np.arange(detector.n_layers + 1, dtype=np.float64) - 0.5)


def _longitudinal(detector: Detector) -> Iterator[Observable]:
    scalar = Observable("", "", "", "longitudinal", "scalar")
    profile = replace(scalar, kind="profile", axis=_layer_axis(detector))
    yield replace(profile, name="layer_energy", label="energy in the layer", unit="MeV", log=True)
    yield replace(profile, name="layer_fraction", label="share of the layer in the energy", log=True)
    yield replace(profile, name="layer_contrast", label="layer against its neighbours")
    yield replace(scalar, name="first_layer_fraction", label="share of the first layer in the energy")
    for i, depth in enumerate(("front", "middle", "back"), start=1):
        yield replace(scalar, name=f"r{i}", label=rf"$R_{i}$, share of the {depth} third")
    yield from _moments("z", "layer", "longitudinal")
    if detector.layers:
        yield replace(scalar, name="shower_maximum", label="shower maximum", unit="X0")
    yield replace(scalar, name="hottest_layer", label="layer of the hottest voxel")


def _lateral(detector: Detector) -> Iterator[Observable]:
    mesh = detector.mesh
    scalar = Observable("", "", "", "lateral", "scalar")
    energy = replace(scalar, kind="profile", label="energy", unit="MeV", log=True)
    rings = Axis("distance from the axis", "mm", radial_edges(mesh))
    yield replace(energy, name="radial_profile", axis=rings)
    if isinstance(mesh, CartesianMesh):
        for name, n, size in (("x", mesh.nx, mesh.cell_x), ("y", mesh.ny, mesh.cell_y)):
            edges = (np.arange(n + 1, dtype=np.float64) - n / 2) * size
            yield replace(energy, name=f"{name}_profile", axis=Axis(name, "mm", edges))
    if isinstance(mesh, CylindricalMesh):
        sectors = Axis(r"$\varphi$", "rad", np.linspace(-np.pi, np.pi, mesh.nphi + 1))
        yield replace(energy, name="azimuthal_profile", axis=sectors, log=False)
    yield from _moments("x", "mm", "lateral")
    yield from _moments("y", "mm", "lateral")
    yield replace(scalar, name="core_fraction", label="share of the core in the energy")
    yield replace(scalar, name="tail_fraction", label="share of the tails in the energy")
    if isinstance(mesh, CartesianMesh):
        yield replace(scalar, name="corner_fraction", label="share of the corners in the energy")
    yield replace(scalar, name="r90", label="radius with 90 % of the energy", unit="mm")
    yield replace(scalar, name="width_asymmetry", label=r"$\sigma_x - \sigma_y$", unit="mm", signed=True)
    yield replace(
        scalar, name="quadrant_asymmetry", label="energy at $|x|>|y|$ less that at $|y|>|x|$", signed=True
    )
    yield replace(scalar, name="hottest_x", label="$x$ of the hottest voxel", unit="mm", signed=True)
    yield replace(scalar, name="hottest_y", label="$y$ of the hottest voxel", unit="mm", signed=True)
    layer = replace(scalar, kind="profile", unit="mm", axis=_layer_axis(detector))
    for axis in "xy":
        centre = replace(layer, name=f"layer_centre_{axis}", label=rf"$\langle {axis} \rangle$ in the layer")
        yield replace(centre, signed=True)
        yield replace(layer, name=f"layer_width_{axis}", label=rf"$\sigma_{axis}$ in the layer")
    yield replace(layer, name="layer_centre_r", label=r"$\langle r \rangle$ in the layer")
    yield replace(layer, name="layer_width_r", label=r"$\sigma_r$ in the layer")


def _moments(axis: str, unit: str, section: Section) -> Iterator[Observable]:
    scalar = Observable("", "", "", section, "scalar")
    # a window is symmetric about the axis, a calorimeter is not symmetric in depth
    odd = replace(scalar, signed=axis != "z")
    yield replace(odd, name=f"centre_{axis}", label=rf"$\langle {axis} \rangle$", unit=unit)
    yield replace(scalar, name=f"width_{axis}", label=rf"$\sigma_{axis}$", unit=unit)
    # both cross zero in depth, so that a relative shift means nothing
    yield replace(scalar, name=f"skewness_{axis}", label=f"skewness in ${axis}$", signed=True)
    yield replace(scalar, name=f"kurtosis_{axis}", label=f"excess kurtosis in ${axis}$", signed=axis == "z")


def _counts(detector: Detector, threshold: float) -> Iterator[Observable]:
    above = f"voxels above {threshold:g} MeV"
    yield Observable("hits", above, "", "hits", "scalar")
    yield Observable("sparsity", f"fraction of voxels not above {threshold:g} MeV", "", "hits", "scalar")
    yield Observable("layer_hits", above, "", "hits", "profile", axis=_layer_axis(detector))
    spectrum = Axis("voxel energy", "MeV", SPECTRUM_EDGES, log=True)
    yield Observable("cell_spectrum", "voxels", "", "cells", "spectrum", log=True, axis=spectrum)
    yield Observable("tail_spectrum", "voxels in the tails", "", "cells", "spectrum", log=True, axis=spectrum)
    yield Observable("hottest_energy", "energy of the hottest voxel", "MeV", "cells", "scalar")


def _angles(mesh: Mesh) -> Iterator[Observable]:
    scalar = Observable("", "", "rad", "angle", "scalar")
    if isinstance(mesh, CartesianMesh):
        yield replace(scalar, name="measured_angle", label=r"measured $\theta$")
        yield replace(scalar, name="angle_residual", label=r"measured less incident $\theta$", signed=True)
    if isinstance(mesh, CartesianMesh | CylindricalMesh):
        yield replace(scalar, name="axis_theta", label=r"$\theta$ of the principal axis")
        yield replace(scalar, name="axis_phi", label=r"$\varphi$ of the principal axis", signed=True)


def _correlations(detector: Detector) -> Iterator[Observable]:
    scalar = Observable("", "", "", "correlations", "scalar")
    titles = {"x": "$x$", "y": "$y$", "xy": "the diagonals", "z": "$z$", "r": "$r$", "phi": r"$\varphi$"}
    for axis, count in shifts(detector.mesh, detector.n_layers).items():
        along = f"overlap along {titles[axis]}"
        if count >= 1:
            yield replace(scalar, name=f"neighbour_{axis}", label=f"{along}, 1 voxel apart")
        if axis == "z" and count >= 2:
            yield replace(scalar, name="neighbour_z2", label=f"{along}, 2 voxels apart")
        if count >= 2:
            shift = Axis("shift", "voxels", np.arange(count + 1, dtype=np.float64) + 0.5)
            yield replace(scalar, name=f"two_point_{axis}", label=along, kind="profile", axis=shift)
