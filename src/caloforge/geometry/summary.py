"""Derived quantities of a detector: depth, sampling fraction, mesh and shower containment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry.detector import Detector, Layer
from caloforge.geometry.mesh import CartesianMesh, CylindricalMesh, RaggedMesh
from caloforge.units import format_length

# scale of the longitudinal profile; PDG review "Passage of particles through matter", section 34.5
PROFILE_B = 0.5
# energies at which the containment is computed, MeV
CONTAINMENT_ENERGIES = (1e4, 1e5, 5e5)
# radius in Molière radii to the fraction of a shower inside it (PDG review, section 34.5)
LATERAL_CONTAINMENT = {1.0: 0.90, 2.0: 0.95, 3.5: 0.99}


def describe_detector(detector: Detector) -> dict[str, Any]:
    """Summary of a detector, JSON-compatible; lengths in mm, densities in g/cm3, energies in MeV.

    A detector without layers (imported showers) has only its name, mesh and shower shape.

    Args:
        detector: Any detector.
    """
    facts: dict[str, Any] = {"name": detector.name, "description": detector.description}
    if detector.layers:
        facts |= {
            "layers": {
                "physical": detector.n_physical_layers,
                "readout": detector.n_layers,
                "front_to_back": [f"{layer.repeat} x ({layer_text(layer)})" for layer in detector.layers],
            },
            "materials": _materials(detector),
            "width_mm": detector.width,
            "depth_mm": round(detector.depth, 6),
            "depth_radiation_lengths": detector.radiation_lengths,
            "effective_radiation_length_mm": detector.effective_radiation_length,
            "moliere_radius_mm": detector.moliere_radius,
            "critical_energy_mev": detector.critical_energy,
            "sampling": _sampling(detector),
        }
    facts["mesh"] = _mesh(detector)
    facts["shower_shape"] = list(detector.shower_shape)
    facts["voxels"] = math.prod(detector.shower_shape)
    if detector.layers:
        facts["containment"] = _containment(detector)
    return facts


def layer_text(layer: Layer) -> str:
    """The slabs of a layer, front to back: "G4_W 2.4 mm, G4_Si 0.5 mm active"."""
    return ", ".join(
        f"{slab.material} {format_length(slab.thickness)}{' active' if slab.active else ''}"
        for slab in layer.slabs
    )


def mean_profile(depth: NDArray[np.float64], energy: float, critical_energy: float) -> NDArray[np.float64]:
    """Mean longitudinal profile (1/E) dE/dt of an electron shower: a Gamma distribution in the depth.

    PDG review "Passage of particles through matter", section 34.5, with b = 0.5 and the maximum of electrons
    at ln(E / E_c) - 0.5.

    Args:
        depth: Depth t in radiation lengths, any shape.
        energy: Incident energy E, MeV, above the critical energy.
        critical_energy: Effective critical energy E_c, MeV.

    Returns:
        Fraction of the energy per radiation length, shaped as `depth`.
    """
    a = _profile_a(energy, critical_energy)
    logarithm = (a - 1) * np.log(np.maximum(PROFILE_B * depth, 1e-12)) - PROFILE_B * depth - math.lgamma(a)
    profile: NDArray[np.float64] = PROFILE_B * np.exp(logarithm)
    return profile


def longitudinal_containment(depth: float, energy: float, critical_energy: float) -> float:
    """Fraction of an electron shower's energy before a depth: the integral of `mean_profile` from 0.

    Args:
        depth: Radiation lengths.
        energy: Incident energy, MeV.
        critical_energy: Effective critical energy, MeV.
    """
    # imported here, to keep the start of the command line fast
    from scipy.special import gammainc

    return float(gammainc(_profile_a(energy, critical_energy), PROFILE_B * depth))


def _profile_a(energy: float, critical_energy: float) -> float:
    return 1 + PROFILE_B * max(math.log(energy / critical_energy) - 0.5, 0.0)


def _materials(detector: Detector) -> dict[str, dict[str, float]]:
    return {
        name: {
            "density_g_cm3": material.density,
            "radiation_length_mm": material.radiation_length,
            "moliere_radius_mm": material.moliere_radius,
            "critical_energy_mev": material.critical_energy,
            "minimum_ionisation_mev_mm": material.minimum_ionisation,
        }
        for name, material in detector.material_map().items()
    }


def sampling_fraction(detector: Detector) -> float:
    """Sampling fraction of a minimum-ionising particle: its energy loss in active over that in all material.

    The particle crosses every layer. That of electron showers is smaller in absorbers of high atomic number.
    """
    lengths = detector.material_map()
    slabs = [(layer.repeat, slab) for layer in detector.layers for slab in layer.slabs]
    loss = sum(n * slab.thickness * lengths[slab.material].minimum_ionisation for n, slab in slabs)
    active_loss = sum(
        n * slab.thickness * lengths[slab.material].minimum_ionisation for n, slab in slabs if slab.active
    )
    return active_loss / loss


def _sampling(detector: Detector) -> dict[str, Any]:
    lengths = detector.material_map()
    slabs = [(layer.repeat, slab) for layer in detector.layers for slab in layer.slabs]
    active = sum(n * slab.thickness for n, slab in slabs if slab.active)
    per_layer = [
        sum(slab.thickness / lengths[slab.material].radiation_length for slab in layer.slabs)
        for layer in detector.layers
    ]
    return {
        "active_share_of_depth": active / detector.depth,
        "mip_sampling_fraction": sampling_fraction(detector),
        "radiation_lengths_per_layer": {"min": min(per_layer), "max": max(per_layer)},
    }


def _mesh(detector: Detector) -> dict[str, Any]:
    mesh = detector.mesh
    facts: dict[str, Any] = {"kind": mesh.kind}
    if isinstance(mesh, CartesianMesh):
        cells = f"{mesh.ny} y x {mesh.nx} x, {format_length(mesh.cell_y)} x {format_length(mesh.cell_x)} each"
    elif isinstance(mesh, CylindricalMesh):
        sector = 360 / mesh.nphi
        cells = f"{mesh.nphi} phi x {mesh.nr} r, {sector:g} deg x {format_length(mesh.cell_r)} each"
    else:
        cells = ", ".join(f"{part.nphi} phi x {len(part.r_edges) - 1} r" for part in mesh.layers)
    facts["cells_of_a_layer"] = cells
    facts["half_extent_mm"] = mesh.half_extent()
    if not isinstance(mesh, RaggedMesh):
        facts["layers_per_voxel"] = mesh.layers_per_voxel
        facts["half_extent_moliere_radii"] = mesh.half_extent() / detector.moliere_radius
    return facts


def _containment(detector: Detector) -> dict[str, Any]:
    depth, critical = detector.radiation_lengths, detector.critical_energy
    along = {
        f"{energy / 1e3:g} GeV": longitudinal_containment(depth, energy, critical)
        for energy in CONTAINMENT_ENERGIES
    }
    width = detector.mesh.half_extent() / detector.moliere_radius
    across = [fraction for radius, fraction in LATERAL_CONTAINMENT.items() if width >= radius]
    return {
        "longitudinal_mean_electron": along,
        "lateral": f"more than {max(across):.0%}" if across else "less than 90%",
    }
