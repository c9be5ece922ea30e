"""Where tracks start, and beams that are refused."""

import numpy as np
import pytest

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.config import build
from caloforge.errors import ConfigError, GeometryError
from caloforge.fullsim.beam_placement import GUN_DISTANCE, check_beam, tracks
from caloforge.geometry import load_detector

CLIC, CYLINDER = load_detector("clic-ecal-25"), load_detector("par04-siw")


def beam(**changes):
    return build(BeamConfig, {"energy": {"kind": "fixed", "value": "10 GeV"}} | changes, "beam")


def angles(low, high):
    return {"kind": "flat", "min": low, "max": high}


def test_tracks_cross_the_mesh_at_the_axis_layer():
    conditions = sample_conditions(
        beam(theta=angles("60 deg", "120 deg"), phi=angles("-30 deg", "30 deg"), impact="cell"),
        CLIC.mesh,
        1,
        0,
        500,
    )
    # cells of 5 mm
    assert 2.4 < np.abs(conditions.impact_x).max() <= 2.5
    positions, directions = tracks(CLIC, conditions)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(np.arccos(directions[:, 1]), conditions.theta, rtol=1e-6)
    np.testing.assert_allclose(np.arctan2(directions[:, 0], directions[:, 2]), conditions.phi, atol=1e-6)
    # ten layers of 2.4 + 0.5 + 2.65 mm lie before the crossing
    crossing = positions + directions * ((55.5 - positions[:, 2]) / directions[:, 2])[:, None]
    np.testing.assert_allclose(crossing[:, 0], conditions.impact_x, atol=1e-6)
    np.testing.assert_allclose(crossing[:, 1], conditions.impact_y, atol=1e-6)
    face = positions + directions * GUN_DISTANCE
    np.testing.assert_allclose(face[:, 2], 0, atol=1e-9)


def test_orthogonal_track_through_the_centre():
    positions, directions = tracks(CLIC, sample_conditions(beam(), CLIC.mesh, 0, 0, 1))
    np.testing.assert_allclose(positions, [[0, 0, -GUN_DISTANCE]], atol=1e-5)
    np.testing.assert_allclose(directions, [[0, 0, 1]], atol=1e-7)


def test_cylindrical_mesh_takes_orthogonal_incidence_only():
    check_beam(CYLINDER, beam())
    with pytest.raises(ConfigError, match=r"beam.theta: got 60 deg, .* orthogonal incidence only"):
        check_beam(CYLINDER, beam(theta={"kind": "fixed", "value": "60 deg"}))
    with pytest.raises(ConfigError, match=r"beam.phi: got -5 deg to 5 deg"):
        check_beam(CYLINDER, beam(phi=angles("-5 deg", "5 deg")))
    with pytest.raises(ConfigError, match=r"beam.impact: got 'cell'"):
        check_beam(CYLINDER, beam(impact="cell"))


def test_tracks_beside_the_plates():
    check_beam(CLIC, beam(theta=angles("20 deg", "90 deg")))
    # 55.5 mm cot(6 deg) = 528 mm, the plates end at 500 mm
    with pytest.raises(ConfigError, match=r"up to 528 mm beside the axis, outside of the plates \(width 1 m"):
        check_beam(CLIC, beam(theta=angles("6 deg", "90 deg")))
    with pytest.raises(ConfigError, match="front of layer 10"):
        check_beam(CLIC, beam(phi=angles("0 deg", "89 deg")))


def test_detector_without_layers():
    imported = load_detector(
        {
            "name": "imported",
            "mesh": {"kind": "ragged", "layers": [{"id": 0, "r_edges": ["0 mm", "5 mm"], "nphi": 1}]},
        }
    )
    with pytest.raises(GeometryError, match="imported: it describes imported data"):
        check_beam(imported, beam())
