"""Observables of showers: one number or one short vector per shower, and fits over many showers.

The functions take N showers at once, sum in float64 and do not change their input. None applies a threshold
of its own: cut the voxels first where a comparison needs it. `observe` measures all of `catalogue` at once.
"""

from caloforge.observables.angle import EMPTY_ANGLE, measured_angle, principal_axis
from caloforge.observables.catalogue import Axis, Observable, catalogue
from caloforge.observables.copy_fingerprint import distinct_showers, fingerprint
from caloforge.observables.correlations import CORRELATION_SET, Correlations, correlations, two_point
from caloforge.observables.energy import depth_regions, layer_energies, response, visible_energy
from caloforge.observables.hits import (
    SPECTRUM_EDGES,
    Peak,
    cell_spectrum,
    default_threshold,
    hits,
    layer_hits,
    mip_peak,
    split_spectrum,
)
from caloforge.observables.layers import TransverseSums, layer_centres, layer_contrast, transverse_sums
from caloforge.observables.longitudinal import GammaFit, gamma_fit
from caloforge.observables.measurement import high_level_features, observe
from caloforge.observables.moments import moments
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
from caloforge.observables.regions import (
    containment_radius,
    core_region,
    corner_region,
    fine_rings,
    quadrant_signs,
    tail_region,
)
from caloforge.observables.resolution import (
    LinearityFit,
    ResolutionFit,
    ResponseCurve,
    fit_linearity,
    fit_resolution,
    response_curve,
)

__all__ = [
    "CORRELATION_SET",
    "EMPTY_ANGLE",
    "SPECTRUM_EDGES",
    "Axis",
    "Correlations",
    "GammaFit",
    "LinearityFit",
    "Observable",
    "Peak",
    "ResolutionFit",
    "ResponseCurve",
    "TransverseSums",
    "azimuthal_profile",
    "catalogue",
    "cell_spectrum",
    "containment_radius",
    "core_region",
    "corner_region",
    "correlations",
    "default_threshold",
    "depth_regions",
    "distinct_showers",
    "fine_rings",
    "fingerprint",
    "fit_linearity",
    "fit_resolution",
    "gamma_fit",
    "high_level_features",
    "hits",
    "lateral_image",
    "layer_centres",
    "layer_contrast",
    "layer_energies",
    "layer_hits",
    "measured_angle",
    "mip_peak",
    "moments",
    "observe",
    "principal_axis",
    "quadrant_signs",
    "radial_edges",
    "radial_profile",
    "response",
    "response_curve",
    "ring_areas",
    "split_spectrum",
    "tail_region",
    "transverse_positions",
    "transverse_sums",
    "two_point",
    "visible_energy",
    "x_profile",
    "y_profile",
]
