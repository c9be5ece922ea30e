"""The scorers in C++ against deposits booked step by step, and the energy of a block that sees everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import load_detector

pytestmark = pytest.mark.geant4


def stepping(detector, beam, n, **fullsim):
    job = {
        "detector": detector.model_dump(mode="json"),
        "beam": build(BeamConfig, beam, "beam").model_dump(mode="json"),
        "fullsim": build(FullSimConfig, fullsim, "fullsim").model_dump(mode="json"),
        "n": n,
    }
    script = Path(__file__).with_name("stepping.py")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("G4", "GEANT4_"))}
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(job),
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(done.stdout)
    for name in ("scored", "stepped"):
        found[name] = np.reshape(found[name], detector.shower_shape)
    return found


def assert_same_voxels(found):
    scored, stepped = found["scored"], found["stepped"]
    assert scored.sum() > 0
    # middles of steps that run along a boundary may fall on either side of it
    np.testing.assert_allclose(scored.sum(), stepped.sum(), rtol=1e-5)
    assert np.abs(scored - stepped).sum() < 1e-4 * scored.sum()
    # and each axis on its own, so that none is turned round or shifted
    for axes in ((1, 2), (0, 2), (0, 1)):
        np.testing.assert_allclose(
            scored.sum(axis=axes), stepped.sum(axis=axes), rtol=1e-3, atol=1e-4 * scored.sum()
        )


def test_cartesian_mesh_with_two_active_slabs_a_composed_material_and_inclined_tracks():
    detector = load_detector(
        {
            "name": "two-slabs",
            "width": "40 cm",
            "axis_layer": 2,
            "materials": {
                "tungsten-copper": {
                    "density": "15 g/cm3",
                    "fractions": {"W": 0.8, "G4_Cu": 0.2},
                }
            },
            "layers": [
                {
                    "repeat": 6,
                    "slabs": [
                        {"material": "tungsten-copper", "thickness": "3 mm"},
                        {"material": "G4_Si", "thickness": "0.5 mm", "active": True},
                        {"material": "G4_AIR", "thickness": "1 mm"},
                        {"material": "G4_POLYSTYRENE", "thickness": "2 mm", "active": True},
                    ],
                }
            ],
            "mesh": {
                "kind": "cartesian",
                "nx": 8,
                "ny": 11,
                "cell_x": "4 mm",
                "cell_y": "6 mm",
                "layers_per_voxel": 2,
            },
        }
    )
    beam = {
        "energy": {"kind": "fixed", "value": "300 MeV"},
        "theta": {"kind": "fixed", "value": "70 deg"},
        "phi": {"kind": "fixed", "value": "-25 deg"},
        "impact": "cell",
    }
    found = stepping(detector, beam, 12)
    assert found["scored"].shape == (3, 11, 8)
    assert_same_voxels(found)
    # the track, as the frame says it: theta from the y axis
    position, direction = np.array(found["position"]), np.array(found["direction"])
    theta, phi = np.deg2rad([70, -25])
    expected = [np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)]
    np.testing.assert_allclose(direction, expected, atol=1e-6)
    assert -1.1 < position[2] < 0
    at_layer_2 = position + direction * (13 - position[2]) / direction[2]
    assert abs(at_layer_2[0]) <= 2
    assert abs(at_layer_2[1]) <= 3
    assert np.abs(at_layer_2[:2]).max() > 0.01


def test_cylindrical_mesh():
    found = stepping(load_detector("par04-siw"), {"energy": {"kind": "fixed", "value": "2 GeV"}}, 2)
    assert found["scored"].shape == (45, 16, 9)
    assert_same_voxels(found)
    assert (found["scored"].sum(axis=(0, 2)) > 0).all()


def test_cylindrical_meshes_of_one_sector_and_of_many_rings():
    sizes = {"cell_r": "2 mm", "layers_per_voxel": 9}
    beam = {"energy": {"kind": "fixed", "value": "1 GeV"}}
    for nr, nphi in ((25, 1), (1, 2), (1, 1)):
        mesh = {"kind": "cylindrical", "nr": nr, "nphi": nphi, **sizes}
        detector = load_detector({"preset": "par04-siw", "mesh": mesh})
        found = stepping(detector, beam, 2)
        assert found["scored"].shape == (10, nphi, nr)
        assert_same_voxels(found)


def homogeneous(mesh):
    slab = {"material": "G4_PbWO4", "thickness": "1 cm", "active": True}
    return load_detector(
        {"name": "crystals", "width": "30 cm", "layers": [{"repeat": 20, "slabs": [slab]}], "mesh": mesh}
    )


def test_a_homogeneous_detector_costs_the_same_in_either_mesh():
    beam = {"energy": {"kind": "fixed", "value": "500 MeV"}}
    cylinder = homogeneous({"kind": "cylindrical", "nr": 9, "nphi": 16, "cell_r": "5 mm"})
    cube = homogeneous({"kind": "cartesian", "nx": 16, "ny": 16, "cell_x": "5 mm", "cell_y": "5 mm"})
    found, other = stepping(cylinder, beam, 6), stepping(cube, beam, 6)
    assert_same_voxels(found)
    # steps and no seconds; replicas of rings inside replicas of sectors take three times as many
    assert found["steps"] < 1.8 * other["steps"]
    assert found["all"] == pytest.approx(other["all"], rel=0.02)


@pytest.mark.parametrize("particle", ["e-", "e+", "gamma"])
def test_energy_is_conserved(particle):
    # a block of lead tungstate that reads everything: what is not seen has left the world
    detector = load_detector(
        {
            "name": "block",
            "width": "60 cm",
            "layers": [
                {"repeat": 30, "slabs": [{"material": "G4_PbWO4", "thickness": "1 cm", "active": True}]}
            ],
            "mesh": {"kind": "cartesian", "nx": 3, "ny": 3, "cell_x": "20 cm", "cell_y": "20 cm"},
        }
    )
    beam = {"particle": particle, "energy": {"kind": "fixed", "value": "500 MeV"}}
    found = stepping(detector, beam, 4, cell_threshold="0 eV")
    np.testing.assert_allclose(found["scored"].sum(), found["all"], rtol=1e-5)
    # a positron brings its mass and that of the electron it ends with
    incident = found["incident"] + (4 * 2 * 0.511 if particle == "e+" else 0)
    assert (found["all"] + found["escaped"]) / incident == pytest.approx(1, abs=0.0005)
    assert found["escaped"] < 0.03 * incident
