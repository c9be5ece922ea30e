"""The list of observables: name, axis title, unit, and how each is measured.

`catalogue` lists those that showers of a detector have, `observe` measures them. The validation iterates over
the list and has no observable by name. The order is that of the columns of `high_level_features`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, RaggedMesh
from caloforge.observables import regions
from caloforge.observables.block import Block
from caloforge.observables.correlations import shifts
from caloforge.observables.hits import SPECTRUM_EDGES
from caloforge.observables.layers import layer_contrast
from caloforge.observables.longitudinal import gamma_fit
from caloforge.observables.profiles import radial_edges, ring_sums

Kind = Literal["scalar", "profile", "spectrum"]
Section = Literal["response", "longitudinal", "lateral", "hits", "cells", "angle", "correlations"]
Measure = Callable[[Block], NDArray[Any]]


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
    """One observable: how it is called, drawn and measured.

    Attributes:
        name: Key in `observe` and in metrics.json.
        label: Axis title, mathtext allowed, without unit.
        unit: Unit of the values; empty for none.
        section: Section of the report.
        kind: "scalar" (N,), "profile" (N, k) one value per bin, or "spectrum" (N, k) voxels per bin.
        log: Draw the value axis logarithmically.
        axis: Bins of a profile or spectrum.
        signed: The mean is zero by symmetry: shifts are measured in standard deviations of the truth.
        measure: Values of a block of n showers, (n,) or (n, k); None for one that follows from others.
    """

    name: str
    label: str
    unit: str
    section: Section
    kind: Kind
    log: bool = False
    axis: Axis | None = None
    signed: bool = False
    measure: Measure | None = field(default=None, repr=False, compare=False)


def catalogue(detector: Detector, *, threshold: float, impacts: bool = False) -> tuple[Observable, ...]:
    """The observables that showers of a detector have.

    Args:
        detector: Detector of the showers.
        threshold: Voxels above it are hits, MeV.
        impacts: Whether their impact points lie off the axis; adds the position less the impact point.

    Examples:
        >>> from caloforge.geometry import load_detector
        >>> entries = catalogue(load_detector("clic-ecal-25"), threshold=0.3)
        >>> entries[0].name, entries[0].kind
        ('response', 'scalar')
    """
    return (
        *_energies(detector),
        *_moments(),
        *_layer_centres(detector),
        *_lateral(detector),
        *_voxels(detector, threshold),
        *_angles(detector),
        *_correlations(detector),
        *(_impact_residuals() if impacts else ()),
    )


def _scalar(
    section: Section, name: str, label: str, measure: Measure, unit: str = "", *, signed: bool = False
) -> Observable:
    return Observable(name, label, unit, section, "scalar", signed=signed, measure=measure)


def _profile(
    section: Section,
    name: str,
    label: str,
    axis: Axis,
    measure: Measure,
    unit: str = "",
    *,
    log: bool = False,
    signed: bool = False,
) -> Observable:
    return Observable(name, label, unit, section, "profile", log, axis, signed, measure)


def _layer_axis(detector: Detector) -> Axis:
    return Axis("readout layer", "", np.arange(detector.n_layers + 1, dtype=np.float64) - 0.5)


def _energies(detector: Detector) -> Iterator[Observable]:
    """Visible energy, and its distribution over the layers."""
    layers = _layer_axis(detector)
    along: Section = "longitudinal"
    yield _scalar(
        "response",
        "response",
        r"$E_\mathrm{vis} / E_\mathrm{inc}$",
        lambda b: b.visible_energy / b.incident_energy,
    )
    yield _scalar("response", "visible_energy", r"$E_\mathrm{vis}$", lambda b: b.visible_energy, "MeV")
    yield _profile(
        along, "layer_energy", "energy in the layer", layers, lambda b: b.layer_energy, "MeV", log=True
    )
    yield _profile(
        along, "layer_fraction", "fraction of the energy in the layer", layers, lambda b: b.layer_fraction,
        log=True,
    )  # fmt: skip
    yield _profile(
        along,
        "layer_contrast",
        "layer against its neighbours",
        layers,
        lambda b: layer_contrast(b.layer_energy),
    )
    yield _scalar(
        along,
        "first_layer_fraction",
        "fraction of the energy in the first layer",
        lambda b: b.layer_fraction[:, 0],
    )
    for i, depth in enumerate(("front", "middle", "back")):
        label = rf"$R_{i + 1}$, fraction of the energy in the {depth} third"
        yield _scalar(along, f"r{i + 1}", label, _third(i))
    if detector.layers:
        depths = detector.active_depths_x0()
        yield _scalar(
            along,
            "shower_maximum",
            "shower maximum",
            lambda b: gamma_fit(b.layer_energy, depths).maximum,
            "X0",
        )


def _third(number: int) -> Measure:
    return lambda b: b.thirds[:, number]


def _moments() -> Iterator[Observable]:
    """Energy-weighted moments along each axis."""
    sections: tuple[tuple[str, str, Section], ...] = (
        ("x", "mm", "lateral"),
        ("y", "mm", "lateral"),
        ("z", "layer", "longitudinal"),
    )
    for axis, unit, section in sections:
        # the window is symmetric about the axis in x and y; skewness and kurtosis in z cross zero with depth
        lateral = axis != "z"
        for name, label, dimension, signed in (
            (f"centre_{axis}", rf"$\langle {axis} \rangle$", unit, lateral),
            (f"width_{axis}", rf"$\sigma_{axis}$", unit, False),
            (f"skewness_{axis}", f"skewness in ${axis}$", "", True),
            (f"kurtosis_{axis}", f"excess kurtosis in ${axis}$", "", not lateral),
        ):
            yield _scalar(section, name, label, _moment(name), dimension, signed=signed)


def _moment(name: str) -> Measure:
    return lambda b: b.moments[name]


def _layer_centres(detector: Detector) -> Iterator[Observable]:
    """Centre of energy and width of each layer."""
    for axis in "xyr":
        centre, width = f"layer_centre_{axis}", f"layer_width_{axis}"
        for name, label, signed in (
            (centre, rf"$\langle {axis} \rangle$ in the layer", axis != "r"),
            (width, rf"$\sigma_{axis}$ in the layer", False),
        ):
            layers = _layer_axis(detector)
            yield _profile("lateral", name, label, layers, _layer_centre(name), "mm", signed=signed)


def _layer_centre(name: str) -> Measure:
    return lambda b: b.layer_centres[name]


def _lateral(detector: Detector) -> Iterator[Observable]:
    """Transverse profiles, regions and asymmetries."""
    mesh = detector.mesh
    section: Section = "lateral"
    rings = Axis("distance from the axis", "mm", radial_edges(mesh))
    yield _profile(
        section, "radial_profile", "energy", rings, lambda b: ring_sums(b.image, b.mesh), "MeV", log=True
    )
    yield _scalar(
        section,
        "r90",
        "radius with 90 % of the energy",
        lambda b: regions.containment_radius(*regions.fine_rings(b.image, b.mesh)),
        "mm",
    )
    yield _scalar(
        section, "core_fraction", "fraction of the energy in the core",
        lambda b: b.image_fraction(b.layout.core),
    )  # fmt: skip
    yield _scalar(
        section, "tail_fraction", "fraction of the energy in the tails",
        lambda b: b.image_fraction(b.layout.tail),
    )  # fmt: skip
    yield _scalar(
        section,
        "quadrant_asymmetry",
        "energy at $|x|>|y|$ less that at $|y|>|x|$",
        lambda b: b.image_fraction(b.layout.quadrants),
        signed=True,
    )
    if isinstance(mesh, CartesianMesh):
        corner = regions.corner_region(mesh)
        yield _scalar(
            section,
            "corner_fraction",
            "fraction of the energy in the corners",
            lambda b: b.image_fraction(corner),
        )
        for name, n, size, axis in (("x", mesh.nx, mesh.cell_x, 1), ("y", mesh.ny, mesh.cell_y, 2)):
            edges = (np.arange(n + 1, dtype=np.float64) - n / 2) * size
            yield _profile(
                section, f"{name}_profile", "energy", Axis(name, "mm", edges), _image_sum(mesh.ny, axis),
                "MeV", log=True,
            )  # fmt: skip
    if isinstance(mesh, CylindricalMesh):
        sectors = Axis(r"$\varphi$", "rad", np.linspace(-np.pi, np.pi, mesh.nphi + 1))
        yield _profile(section, "azimuthal_profile", "energy", sectors, _image_sum(mesh.nphi, 2), "MeV")
    yield _scalar(
        section,
        "width_asymmetry",
        r"$\sigma_x - \sigma_y$",
        lambda b: b.moments["width_x"] - b.moments["width_y"],
        "mm",
        signed=True,
    )


def _image_sum(rows: int, axis: int) -> Measure:
    """Sum of the lateral image (n, rows, columns) over an axis."""
    return lambda b: b.image.reshape(len(b.image), rows, -1).sum(axis=axis)


def _impact_residuals() -> Iterator[Observable]:
    """The measured position of the particle; its width is the position resolution."""
    for index, axis in enumerate("xy"):
        yield _scalar(
            "lateral",
            f"impact_residual_{axis}",
            rf"$\langle {axis} \rangle$ less the track",
            _impact_residual(index),
            "mm",
            signed=True,
        )


def _impact_residual(index: int) -> Measure:
    return lambda b: b.impact_residuals[index]


def _voxels(detector: Detector, threshold: float) -> Iterator[Observable]:
    """Hits, spectra of the voxel energies, and the voxel with the most energy."""
    above = f"voxels above {threshold:g} MeV"
    yield _scalar("hits", "hits", above, lambda b: b.layer_hits.sum(axis=1))
    yield _scalar(
        "hits",
        "sparsity",
        f"fraction of voxels not above {threshold:g} MeV",
        lambda b: 1 - b.layer_hits.sum(axis=1) / b.flat.shape[1],
    )
    yield _profile("hits", "layer_hits", above, _layer_axis(detector), lambda b: b.layer_hits)
    axis = Axis("voxel energy", "MeV", SPECTRUM_EDGES, log=True)
    yield Observable(
        "cell_spectrum", "voxels", "", "cells", "spectrum", log=True, axis=axis,
        measure=lambda b: b.spectra.sum(axis=1),
    )  # fmt: skip
    yield Observable(
        "tail_spectrum", "voxels in the tails", "", "cells", "spectrum", log=True, axis=axis,
        measure=lambda b: b.spectra[:, 1],
    )  # fmt: skip
    yield _scalar(
        "cells",
        "hottest_energy",
        "energy of the hottest voxel",
        lambda b: b.flat[np.arange(len(b.flat)), b.hottest],
        "MeV",
    )
    yield _scalar(
        "longitudinal", "hottest_layer", "layer of the hottest voxel",
        lambda b: b.layout.layer_of[b.hottest],
    )  # fmt: skip
    yield _scalar(
        "lateral", "hottest_x", "$x$ of the hottest voxel", lambda b: b.layout.x[b.hottest_position],
        "mm", signed=True,
    )  # fmt: skip
    yield _scalar(
        "lateral", "hottest_y", "$y$ of the hottest voxel", lambda b: b.layout.y[b.hottest_position],
        "mm", signed=True,
    )  # fmt: skip


def _angles(detector: Detector) -> Iterator[Observable]:
    """The direction of the shower."""
    if isinstance(detector.mesh, RaggedMesh):
        return
    yield _scalar("angle", "axis_theta", r"$\theta$ of the principal axis", lambda b: b.axis[0], "rad")
    yield _scalar(
        "angle", "axis_phi", r"$\varphi$ of the principal axis", lambda b: b.axis[1], "rad", signed=True
    )
    if isinstance(detector.mesh, CartesianMesh):
        yield _scalar("angle", "measured_angle", r"measured $\theta$", lambda b: b.measured_angle, "rad")
        yield _scalar(
            "angle",
            "angle_residual",
            r"measured less incident $\theta$",
            lambda b: b.measured_angle - b.incident_theta,
            "rad",
            signed=True,
        )


def _correlations(detector: Detector) -> Iterator[Observable]:
    """The two-point function along each axis, and its first values."""
    titles = {"x": "$x$", "y": "$y$", "xy": "the diagonals", "z": "$z$", "r": "$r$", "phi": r"$\varphi$"}
    section: Section = "correlations"
    for axis, count in shifts(detector.mesh, detector.n_layers).items():
        along = f"overlap along {titles[axis]}"
        if count >= 1:
            yield _scalar(section, f"neighbour_{axis}", f"{along}, 1 voxel apart", _overlap(axis, 0))
        if count >= 2:
            shift = Axis("shift", "voxels", np.arange(count + 1, dtype=np.float64) + 0.5)
            yield _profile(section, f"two_point_{axis}", along, shift, _overlaps(axis))
            if axis == "z":
                yield _scalar(section, "neighbour_z2", f"{along}, 2 voxels apart", _overlap(axis, 1))


def _overlaps(axis: str) -> Measure:
    return lambda b: b.overlaps[axis]


def _overlap(axis: str, shift: int) -> Measure:
    return lambda b: b.overlaps[axis][:, shift]
