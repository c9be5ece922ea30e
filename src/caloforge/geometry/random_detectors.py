"""A family of random sampling calorimeters, numbered: `detector: {random: 7}`.

Absorber, active material, their thicknesses, gap and depth are drawn; cells are an eighth of the Molière
radius, so that showers can be summed into the cells of another detector.
"""

from __future__ import annotations

import math
import random
from typing import Any

from caloforge.errors import ConfigError
from caloforge.geometry.materials import resolve

# materials, weights of the draw, and for active ones the range of thicknesses in mm
ABSORBERS = {"G4_W": 0.4, "G4_Pb": 0.3, "G4_Cu": 0.15, "G4_Fe": 0.15}
ACTIVE = {
    "G4_Si": (0.6, 0.15, 0.6),
    "G4_PLASTIC_SC_VINYLTOLUENE": (0.3, 1.0, 4.0),
    "G4_lAr": (0.1, 1.0, 4.0),
}
# thickness of a layer and depth in radiation lengths, gap in mm, thinnest absorber in mm
LAYER, DEPTH, GAP, LEAST_ABSORBER = (0.35, 1.0), (30.0, 40.0), (0.1, 3.0), 0.3
# cells along either side of the mesh, and along the Molière radius
CELLS, CELLS_PER_RADIUS = 64, 8
LARGEST_NUMBER = 2**63 - 1


def random_detector(number: Any) -> dict[str, Any]:
    """The document of a random detector: the same one for the same number, on every machine.

    Args:
        number: 0 or larger.

    Raises:
        ConfigError: No such number.
    """
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= LARGEST_NUMBER:
        raise ConfigError(f"random: got {number!r}, expected a whole number from 0 to {LARGEST_NUMBER}")
    # of Python's generator, `random()` alone gives the same numbers in all versions
    draw = random.Random(number).random  # noqa: S311
    absorber = _choice(draw(), ABSORBERS)
    active = _choice(draw(), {name: weight for name, (weight, _, _) in ACTIVE.items()})
    _, thinnest, thickest = ACTIVE[active]
    thickness = _log_flat(draw(), thinnest, thickest)
    layer, gap = _log_flat(draw(), *LAYER), GAP[0] + draw() * (GAP[1] - GAP[0])
    depth = DEPTH[0] + draw() * (DEPTH[1] - DEPTH[0])
    lengths = {name: resolve(name, {}).radiation_length for name in (absorber, active)}
    plate = max((layer - thickness / lengths[active]) * lengths[absorber], LEAST_ABSORBER)
    repeat = round(depth / (plate / lengths[absorber] + thickness / lengths[active]))
    radii = {absorber: plate, active: thickness, "G4_AIR": gap}
    inverse = sum(size / resolve(name, {}).moliere_radius for name, size in radii.items())
    cell = f"{sum(radii.values()) / inverse / CELLS_PER_RADIUS:.4g} mm"
    return {
        "name": f"random-{number}",
        "description": f"Random sampling calorimeter, {absorber} and {active}",
        "width": "1 m",
        "layers": [
            {
                "repeat": repeat,
                "slabs": [
                    {"material": absorber, "thickness": f"{plate:.4g} mm"},
                    {"material": active, "thickness": f"{thickness:.4g} mm", "active": True},
                    {"material": "G4_AIR", "thickness": f"{gap:.4g} mm"},
                ],
            }
        ],
        "mesh": {"kind": "cartesian", "nx": CELLS, "ny": CELLS, "cell_x": cell, "cell_y": cell},
    }


def _choice(uniform: float, weights: dict[str, float]) -> str:
    """The name in whose interval a number from 0 to 1 lies."""
    for name, weight in weights.items():
        uniform -= weight
        if uniform < 0:
            return name
    return name


def _log_flat(uniform: float, low: float, high: float) -> float:
    return low * math.exp(uniform * math.log(high / low))
