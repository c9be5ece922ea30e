"""Pure functions from voxels to numbers: one value, or one short vector, per shower.

Every function takes N showers at once, sums in float64 and leaves its input alone. None applies a threshold
on its own: cut the voxels first where a comparison needs it.
"""

from caloforge.observables.catalogue import Axis, Observable, catalogue, high_level_features, observe
from caloforge.observables.energy import depth_regions, layer_energies, response, visible_energy
from caloforge.observables.hits import cell_spectrum, hits, layer_hits
from caloforge.observables.moments import EMPTY_ANGLE, measured_angle, moments
from caloforge.observables.profiles import (
    azimuthal_profile,
    lateral_image,
    radial_edges,
    radial_profile,
    ring_areas,
    transverse_positions,
    x_profile,
    y_profile,
)

__all__ = [
    "EMPTY_ANGLE",
    "Axis",
    "Observable",
    "azimuthal_profile",
    "catalogue",
    "cell_spectrum",
    "depth_regions",
    "high_level_features",
    "hits",
    "lateral_image",
    "layer_energies",
    "layer_hits",
    "measured_angle",
    "moments",
    "observe",
    "radial_edges",
    "radial_profile",
    "response",
    "ring_areas",
    "transverse_positions",
    "visible_energy",
    "x_profile",
    "y_profile",
]
