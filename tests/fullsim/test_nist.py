"""Geant4 with caloforge's tables against the published numbers of NIST and the Particle Data Group."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.geant4

# Hubbell and Seltzer, NISTIR 5632 (XCOM), total with coherent scattering, cm2/g
NIST_ATTENUATION = {
    ("G4_W", "0.1"): 4.438,
    ("G4_W", "0.5"): 0.1378,
    ("G4_W", "1.0"): 0.06618,
    ("G4_W", "10.0"): 0.04747,
    ("G4_Si", "0.1"): 0.1835,
    ("G4_Si", "0.5"): 0.08748,
    ("G4_Si", "1.0"): 0.06361,
    ("G4_Si", "10.0"): 0.02462,
    ("G4_Pb", "0.1"): 5.549,
    ("G4_Pb", "0.5"): 0.1614,
    ("G4_Pb", "1.0"): 0.07102,
    ("G4_Pb", "10.0"): 0.04972,
}
# PDG, Atomic and nuclear properties of materials: X0 in mm, critical energy of electrons in MeV (Rossi: the
# ionisation loss in one X0 equals the energy), minimum ionisation in MeV cm2/g
PDG = {"G4_W": (3.504, 7.97, 1.145), "G4_Si": (93.7, 40.19, 1.664), "G4_Pb": (5.612, 7.43, 1.122)}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    script = Path(__file__).with_name("geant4_numbers.py")
    # fresh tables of our own, also on a machine that has the data sets
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("G4", "GEANT4_"))}
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**clean, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # the banner was kept away: what is left is the one document
    return json.loads(done.stdout)


@pytest.mark.parametrize(("material", "energy"), NIST_ATTENUATION)
def test_attenuation(numbers, material, energy):
    expected = NIST_ATTENUATION[material, energy]
    assert numbers[material]["attenuation"][energy] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("material", PDG)
def test_radiation_length(numbers, material):
    assert numbers[material]["x0"] == pytest.approx(PDG[material][0], rel=0.002)


@pytest.mark.parametrize("material", PDG)
def test_critical_energy(numbers, material):
    assert numbers[material]["critical_energy"] == pytest.approx(PDG[material][1], rel=0.03)


@pytest.mark.parametrize("material", PDG)
def test_minimum_ionisation(numbers, material):
    assert numbers[material]["muon_minimum"] == pytest.approx(PDG[material][2], rel=0.01)


@pytest.mark.parametrize("material", PDG)
def test_radiative_loss_at_100_gev(numbers, material):
    # PDG, passage of particles through matter: dE/dx = E / X0 where radiation dominates
    assert numbers[material]["radiative_loss_in_x0"] == pytest.approx(1, rel=0.03)


def test_bindings_of_the_photoelectrons(numbers):
    # photons of 100 keV on tungsten; edges K 69.525 keV, L1 12.100 keV (Bearden and Burr 1967), and the K
    # shell takes 1 - 1/5.099 (Elam, Ravel and Sieber 2002). Cross sections do not see a shell that is wrong
    energies = numbers["photoelectrons"]
    from_k, from_l = (sum(abs(e - (0.1 - edge)) < 1e-6 for e in energies) for edge in (0.069525, 0.0121))
    assert from_k + from_l > 3000
    share = from_k / (from_k + from_l)
    assert share == pytest.approx(0.804, abs=4 * (0.804 * 0.196 / 3000) ** 0.5)
