"""The gate in a live Geant4 run: what it takes, what it gives back, and the energy balance of each event."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caloforge.fastsim.ledger import GIVEN_BACK, ROUTES

pytestmark = pytest.mark.geant4


def fixed(value):
    return {"kind": "fixed", "value": value}


def beam(particle, energy, **changes):
    return {"particle": particle, "energy": fixed(energy), **changes}


def test_electrons_are_taken_before_they_shower(gated):
    block = gated(beam=beam("e-", "20 GeV"), n=3)
    assert block.column("taken").tolist() == [20e3] * 3
    assert block.column("n_taken").tolist() == [1.0] * 3
    np.testing.assert_allclose(block.imbalance(), 0, atol=1e-6)
    event, pdg_id, energy, x, y, z, *_, time, track = block.taken.T
    assert event.tolist() == [0, 1, 2] and set(pdg_id) == {11} and set(energy) == {20e3} and set(track) == {1}
    np.testing.assert_allclose([x, y, z], 0, atol=1e-4)
    # 1 mm at the speed of light
    np.testing.assert_allclose(time, 1 / 299.792458, rtol=1e-3)
    # everything in the file is generated
    sums = block.showers.sum(axis=(1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(sums, block.column("generated") - block.column("leaked"), rtol=1e-5)
    assert len(np.unique(sums)) == 3


@pytest.mark.parametrize(
    ("job", "route"),
    [
        ({"beam": beam("e+", "11 GeV")}, "kind"),
        ({"beam": beam("e-", "11 GeV", theta=fixed("88 deg"))}, "direction"),
        ({"beam": beam("mu-", "5 GeV")}, "tracked"),
    ],
)
def test_what_the_model_does_not_take_is_tracked_in_full(gated, job, route):
    block = gated(n=1, **job)
    assert block.column(f"n_{route}").tolist() == [1.0]
    assert block.column(route) == block.column("primary")
    assert len(block.taken) == 0
    assert block.column("generated") == 0
    assert (block.showers > 0).sum() > 15


def test_photons_of_a_pion_in_front_are_taken_one_by_one_and_overlap(gated, photon_model):
    """Half a metre in front of the face, photons of 30 GeV pions are one cell apart."""
    block = gated(beam=beam("pi0", "60 GeV"), n=3, distance=500.0, model=str(photon_model))
    assert (block.column("n_taken") + block.column("n_energy") == 2).all()
    assert block.column("n_taken").max() == 2
    np.testing.assert_allclose(block.imbalance(), 0, atol=1e-2)
    _, pdg_id, *_, track = block.taken.T
    assert set(pdg_id) == {22} and set(track) <= {2, 3}
    assert (block.column("n_off_centre") == block.column("n_taken")).all()
    # both showers of an event lie in the same mesh, cell by cell added up
    pair = int(np.argmax(block.column("n_taken") == 2))
    visible = block.showers[pair].sum(dtype=np.float64)
    assert visible == pytest.approx(block.column("generated")[pair], rel=0.02)
    assert visible == pytest.approx(60e3 * 0.022, rel=0.15)


@pytest.mark.parametrize("particle", ["e-", "pi0"])
def test_the_balance_of_energy_with_material_in_front(gated, particle):
    """Bremsstrahlung and pairs in 0.9 radiation lengths of tungsten, and what comes back from the face."""
    block = gated(beam=beam(particle, "60 GeV"), n=5, seed=4, distance=300.0, tungsten=3.0)
    np.testing.assert_allclose(block.imbalance(), 0, atol=1e-2)
    assert (block.column("left") > 0).any()
    assert (sum(block.column(route) for route in GIVEN_BACK) > 0).any()
    assert sum(block.column(f"n_{route}").sum() for route in ROUTES) > 2 * len(block.ledger)
    if particle == "e-":
        assert (block.column("n_taken") > 0).any()
        # of less energy than the incident electron
        assert (block.taken[:, 2] < 60e3).all()


def test_volumes_around_the_gate(tmp_path):
    """Overlaps and a gate that is not there are refused, in one line each; what only touches is not."""
    # without the folders of tables that earlier tests of this process have set
    plain = {name: value for name, value in os.environ.items() if not name.startswith("G4")}
    printed = subprocess.run(
        [sys.executable, Path(__file__).with_name("placed_by_users.py")],
        env=plain | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=100,
    ).stdout  # fmt: skip
    # Geant4's own warning is in the message
    assert "GeomVol1002" not in printed
    said = json.loads(printed.splitlines()[-1])
    for case in ("touching", "behind"):
        assert said.pop(case) is None
    for case, what in (
        ("into the face", "wall:0 (G4Box) with its mother volume front (G4Box) protrusion at"),
        ("into the gate", "wall:0 (G4Box) with front:0 (G4Box) overlap at"),
        ("into each other", "inner:0 (G4Box) with wall:0 (G4Box) overlap at"),
        ("out of another", "pin:0 (G4Box) with its mother volume wall (G4Box) protrusion at"),
    ):
        message = said.pop(case)
        name = what.partition(":")[0]
        assert message.startswith(f"the volume {name}, placed around the gate, overlaps: {what}"), case
        assert "\n" not in message
    [message] = said.values()
    assert message.startswith("Replaced: there is no gate in front of the calorimeter")
    assert "call super().Construct()" in message
    # gold, which the detector has not
    assert list(tmp_path.rglob("*79*"))
