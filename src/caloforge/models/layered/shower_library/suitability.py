"""For which detectors and particles a library of showers is of use, said in the words of its description."""

from __future__ import annotations

import math

from caloforge.beam import ANGLE_SLACK
from caloforge.errors import ModelError
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.layered.shower_library.hits import box_mesh
from caloforge.models.layered.shower_library.store import LibraryCard
from caloforge.models.training_metadata import DataFacts
from caloforge.units import format_angle, format_energy

# energies and quantities of the detector so little beyond the library's count as within, and this is too far
SLACK, FAR = 1.1, 2.0
# fewer showers do not tell the means of a detector; with more than this a library was of no use
LEAST_SHOWERS, ENOUGH_SHOWERS = 50, 800


def check_suitable(card: LibraryCard, facts: DataFacts, detector: Detector) -> list[str]:
    """Refuse a run that the showers of a library cannot help; returns notes for the user.

    Raises:
        ModelError: Another particle, meaning or range of the energy or angle, a detector without layers, or
            one far outside of the family.
    """
    ranges = facts.ranges
    if facts.energy_meaning != card.energy_meaning:
        raise ModelError(
            f"the energies of its cells are {card.energy_meaning}, those of the showers "
            f"{facts.energy_meaning}; leave --from out"
        )
    if tuple(ranges.pdg_ids) != (card.pdg_id,):
        raise ModelError(
            f"its showers are those of the particle {card.pdg_id} (PDG), those of the run of "
            f"{list(ranges.pdg_ids)}; leave --from out"
        )
    if any(abs(theta - math.pi / 2) > ANGLE_SLACK for theta in ranges.theta) or ranges.off_axis:
        angles = " to ".join(dict.fromkeys(format_angle(theta) for theta in ranges.theta))
        raise ModelError(
            f"its showers enter at 90 deg at the centre of the mesh, those of the run at {angles}"
            f"{' or beside it' if ranges.off_axis else ''}; leave --from out"
        )
    low, high = card.energy
    if ranges.energy[0] < low / SLACK or ranges.energy[1] > high * SLACK:
        got, own = (
            " to ".join(format_energy(float(f"{end:.3g}")) for end in span)
            for span in (ranges.energy, card.energy)
        )
        raise ModelError(f"its showers have {own}, those of the run {got}; give showers within")
    if not detector.layers or not isinstance(detector.mesh, CartesianMesh | CylindricalMesh):
        raise ModelError(
            f"{detector.name} has no layers or a ragged mesh, so that its cells cannot be filled by depth "
            "and distance from the axis; describe its layers in YAML"
        )
    return _distances(card, detector)


def _distances(card: LibraryCard, detector: Detector) -> list[str]:
    """Notes of what is outside of the range of the library's detectors.

    Raises:
        ModelError: Something is outside by more than a factor of FAR.
    """
    notes = []
    for name, (limits, value) in quantities(card, detector).items():
        low, high = limits
        factor = max(low / value, value / high)
        said = f"{name} of {detector.name}: {value:.3g}, those of its detectors {_span(low, high)}"
        if factor > FAR:
            raise ModelError(
                f"{said}, {factor:.1f} times beyond, expected at most {FAR:g} times; leave --from out"
            )
        if factor > SLACK:
            notes.append(f"{said}, {factor:.1f} times beyond; validate the model")
    return notes


def quantities(card: LibraryCard, detector: Detector) -> dict[str, tuple[tuple[float, float], float]]:
    """Range in a library and value of the numbers that decide how showers look in a detector."""
    boxes = card.detectors
    layers, active = ([of(box) for box in boxes] for of in (_layer, _active_share))
    cells = [_cell(box) for box in boxes]
    return {
        "radiation lengths of a layer": ((min(layers), max(layers)), _layer(detector)),
        "share of the active material in the radiation lengths": (
            (min(active), max(active)),
            _active_share(detector),
        ),
        "size of a cell in Molière radii": ((min(cells), math.inf), _cell(detector)),
        "radiation lengths of all layers": (
            (1.0, max(box.radiation_lengths for box in boxes)),
            detector.radiation_lengths,
        ),
    }


def _layer(detector: Detector) -> float:
    return detector.radiation_lengths / detector.n_layers


def _active_share(detector: Detector) -> float:
    """Radiation lengths of active material over all."""
    lengths = detector.material_map()
    active = sum(
        layer.repeat * slab.thickness / lengths[slab.material].radiation_length
        for layer in detector.layers
        for slab in layer.slabs
        if slab.active
    )
    return active / detector.radiation_lengths


def _cell(detector: Detector) -> float:
    """Smallest size of a cell in Molière radii; that of a cylindrical mesh is the width of a ring."""
    mesh = detector.mesh
    if isinstance(mesh, CylindricalMesh):
        return mesh.cell_r / detector.moliere_radius
    mesh = box_mesh(detector)
    return min(mesh.cell_x, mesh.cell_y) / detector.moliere_radius


def _span(low: float, high: float) -> str:
    return f"from {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"
