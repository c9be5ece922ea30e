"""Start points and directions of the incident particles, and checks of a beam against a detector."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import HADRONS, BeamConfig
from caloforge.conditions import Conditions
from caloforge.errors import ConfigError, GeometryError
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, RaggedMesh
from caloforge.units import format_angle, format_length

# distance of the start point from the front face along the track, in vacuum; mm
GUN_DISTANCE = 1.0


def tracks(detector: Detector, conditions: Conditions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start points and directions of the incident particles.

    The track crosses the impact point at the front of the physical layer `axis_layer`; it starts just before
    the front face.

    Args:
        detector: The detector that they enter.
        conditions: N incident particles.

    Returns:
        Positions in mm and unit vectors, both of shape (N, 3).
    """
    theta, phi = conditions.theta.astype(np.float64), conditions.phi.astype(np.float64)
    direction = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], axis=1)
    depth = np.full(len(conditions), detector.layer_fronts()[detector.axis_layer])
    crossing = np.stack([conditions.impact_x, conditions.impact_y, depth], axis=1)
    path = crossing[:, 2] / direction[:, 2] + GUN_DISTANCE
    return crossing - path[:, None] * direction, direction


def check_beam(detector: Detector, beam: BeamConfig) -> None:
    """Check that a beam can be simulated and is read out correctly.

    Raises:
        GeometryError: A detector without material.
        ConfigError: Inclined or displaced incidence on a cylindrical mesh, or a track beside the plates.
    """
    if isinstance(detector.mesh, RaggedMesh) or not detector.layers:
        raise GeometryError(
            f"detector {detector.name}: it describes imported data and has no layers, so it cannot be "
            "simulated; describe its layers and a cartesian or cylindrical mesh"
        )
    if isinstance(detector.mesh, CylindricalMesh):
        _check_cylindrical(beam)
    _check_entry(detector, beam)


def check_physics(beam: BeamConfig, fullsim: FullSimConfig) -> None:
    """Check that hadrons are simulated with a hadronic physics list.

    Raises:
        ConfigError: A hadron with an electromagnetic physics list; names one that can simulate it.
    """
    if beam.particle in HADRONS and not fullsim.is_hadronic:
        raise ConfigError(
            f"fullsim.physics: {fullsim.physics} leaves the strong interaction out, which a beam of "
            f"{beam.particle} "
            "needs; take FTFP_BERT"
        )


def _check_cylindrical(beam: BeamConfig) -> None:
    """Refuse inclined or displaced incidence: the rings are built around the axis of orthogonal incidence."""
    for name, limits, wanted in (("theta", beam.theta_range, math.pi / 2), ("phi", beam.phi_range, 0.0)):
        if max(abs(angle - wanted) for angle in limits) > 1e-6:
            got = " to ".join(dict.fromkeys(format_angle(angle) for angle in limits))
            raise ConfigError(
                f"beam.{name}: got {got}, but a cylindrical mesh lies around the shower axis and is "
                "simulated for orthogonal incidence only (theta: 90 deg, phi: 0 deg); take a cartesian mesh "
                "for others"
            )
    if beam.impact != "centre":
        raise ConfigError(
            f"beam.impact: got {beam.impact!r}, but a cylindrical mesh lies around the shower axis, wherever "
            "it enters; set beam.impact to centre, or take a cartesian mesh"
        )


def _check_entry(detector: Detector, beam: BeamConfig) -> None:
    depth = float(detector.layer_fronts()[detector.axis_layer])
    corners = itertools.product(beam.theta_range, beam.phi_range)
    # both offsets grow with the inclination, so that the corners of the ranges are the worst cases
    worst = max(
        depth * max(abs(math.tan(phi)), abs(1 / (math.tan(theta) * math.cos(phi)))) for theta, phi in corners
    )
    if isinstance(detector.mesh, CartesianMesh) and beam.impact == "cell":
        worst += max(detector.mesh.cell_x, detector.mesh.cell_y) / 2
    if worst > detector.width / 2:
        raise ConfigError(
            f"beam: a track that crosses the mesh at the front of layer {detector.axis_layer} enters up to "
            f"{worst:.4g} mm beside the axis, outside of the plates (width {format_length(detector.width)}); "
            "take a smaller range of angles, or a larger width or smaller axis_layer of the detector"
        )
