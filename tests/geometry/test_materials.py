"""Materials against the Particle Data Group, and the shipped table against the live Geant4."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge.config import build
from caloforge.errors import ConfigError, GeometryError
from caloforge.geometry import materials
from caloforge.geometry.materials import ComposedMaterial, resolve

ROOT = Path(__file__).parents[2]

# PDG, Atomic and nuclear properties of materials (2024): density g/cm3, X0 g/cm2, Molière radius g/cm2,
# minimum ionisation MeV cm2/g
PDG = {
    "G4_W": (19.30, 6.76, 18.00, 1.145),
    "G4_Si": (2.329, 21.82, 11.51, 1.664),
    "G4_Pb": (11.35, 6.37, 18.18, 1.122),
    "G4_Fe": (7.874, 13.84, 13.53, 1.451),
    "G4_Cu": (8.960, 12.86, 14.05, 1.403),
    "G4_POLYSTYRENE": (1.060, 43.79, 9.97, 1.936),
    "G4_PbWO4": (8.300, 7.39, 16.26, 1.229),
    "G4_lAr": (1.396, 19.55, 12.62, 1.508),
    "G4_AIR": (1.205e-3, 36.62, 8.83, 1.815),
}


@pytest.mark.parametrize("name", PDG)
def test_density_and_radiation_length(name):
    density, x0, _, _ = PDG[name]
    assert resolve(name).density == pytest.approx(density, rel=0.004)
    assert resolve(name).radiation_length * resolve(name).density / 10 == pytest.approx(x0, rel=0.006)


@pytest.mark.parametrize("name", PDG)
def test_moliere_radius_and_critical_energy(name):
    # we use the PDG's fit to the critical energy, 610 / (Z + 1.24) MeV for solids, which leaves the PDG's
    # table by up to 4 % (iron, copper, argon)
    density, x0, radius, _ = PDG[name]
    material = resolve(name)
    tolerance = 0.02 if name in ("G4_W", "G4_Si", "G4_Pb", "G4_POLYSTYRENE") else 0.04
    assert material.moliere_radius * density / 10 == pytest.approx(radius, rel=tolerance)
    assert material.critical_energy == pytest.approx(21.2052 * x0 / radius, rel=tolerance)


@pytest.mark.parametrize("name", PDG)
def test_minimum_ionisation(name):
    material = resolve(name)
    assert material.minimum_ionisation * 10 / material.density == pytest.approx(PDG[name][3], rel=0.025)


def test_a_mixture_of_one_material_is_that_material():
    mixture = ComposedMaterial(density="19.3 g/cm3", fractions={"W": 1.0})
    mixed, pure = resolve("mine", {"mine": mixture}), resolve("G4_W")
    for name in ("radiation_length", "moliere_radius", "critical_energy", "minimum_ionisation"):
        assert getattr(mixed, name) == pytest.approx(getattr(pure, name))


def test_a_mixture_of_materials_is_the_mixture_of_their_elements():
    # water and 3 % salt, by elements and by NIST materials
    water = materials.nist_names()["G4_WATER"]["fractions"]
    by_element = {"H": 0.97 * water["H"], "O": 0.97 * water["O"], "Na": 0.03 * 0.3934, "Cl": 0.03 * 0.6066}
    first = ComposedMaterial(density="1.02 g/cm3", fractions=by_element)
    second = ComposedMaterial(
        density="1.02 g/cm3", fractions={"G4_WATER": 0.97, "Na": 0.03 * 0.3934, "Cl": 0.03 * 0.6066}
    )
    a, b = resolve("a", {"a": first}), resolve("b", {"b": second})
    assert a.radiation_length == pytest.approx(b.radiation_length, rel=1e-6)
    # PDG: water 36.08 g/cm2; salt makes it a little shorter
    assert 35 < a.radiation_length * 1.02 / 10 < 36.08


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("G4_w", "'G4_W'"),
        ("tungsten", "'G4_W'"),
        ("Silicon", "'G4_Si'"),
        ("steel", "'G4_STAINLESS-STEEL'"),
        ("G4_POLYSTYREN", "'G4_POLYSTYRENE'"),
        ("absorbr", "'absorber'"),
    ],
)
def test_an_unknown_material_names_the_nearest(name, hint):
    mixture = ComposedMaterial(density="7 g/cm3", fractions={"Fe": 1.0})
    with pytest.raises(GeometryError, match=f"unknown to Geant4. Did you mean {hint}"):
        resolve(name, {"absorber": mixture})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 19.3}, "without a unit"),
        ({"density": "0 g/cm3"}, "between 0 and 100"),
        ({"density": "-1 g/cm3"}, "between 0 and 100"),
        ({"density": "19300 g/cm3"}, "between 0 and 100"),
        ({"fractions": {"W": 0.5, "Cu": 0.4}}, "sum to 0.9"),
        ({"fractions": {"W": 1.5, "Cu": -0.5}}, "expected 0 < fraction <= 1"),
        ({"fractions": {"Ww": 1.0}}, "'Ww' is neither an element nor a NIST material"),
        ({"fractions": {}}, "sum to 0"),
        ({"fractions": {"W": float("nan")}}, "finite|expected"),
        ({"fraction": {"W": 1.0}}, "Did you mean 'fractions'"),
    ],
)
def test_mixtures_that_cannot_exist(changes, message):
    document = {"density": "17 g/cm3", "fractions": {"W": 0.9, "Cu": 0.1}, **changes}
    with pytest.raises(ConfigError, match=message):
        build(ComposedMaterial, document, "alloy")


def test_every_material_has_finite_numbers():
    for name in materials.nist_names():
        material = resolve(name)
        numbers = [material.radiation_length, material.moliere_radius, material.minimum_ionisation]
        assert all(0 < value < 1e30 for value in numbers), name
        assert sum(material.fractions.values()) == pytest.approx(1, abs=1e-5), name


@pytest.mark.geant4
def test_the_table_is_what_geant4_knows():
    script = ROOT / "scripts/write_nist_materials.py"
    code = (
        "import json, runpy, sys\n"
        "from caloforge.fullsim.geant4_import import stdout_discarded\n"
        f"read_table = runpy.run_path({str(script)!r})['read_table']\n"
        "with stdout_discarded():\n"
        "    table = read_table()\n"
        "sys.stdout.write(json.dumps(table))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    live = json.loads(done.stdout)
    shipped = json.loads((ROOT / "src/caloforge/geometry/nist_materials.json").read_text(encoding="utf-8"))
    assert live == shipped
