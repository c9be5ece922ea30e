"""Materials: every NIST material that Geant4 knows, and mixtures composed of them.

Radiation length, critical energy and Molière radius are computed from the elements, so that a detector can
be described and inspected without Geant4.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pydantic import field_validator

from caloforge.config import StrictModel
from caloforge.errors import GeometryError, nearest
from caloforge.geometry.ionisation import minimum_ionisation
from caloforge.units import Density

FINE_STRUCTURE = 1 / 137.035999
# 4 alpha r_e^2 N_A = 1 / 716.408 cm2/mol; PDG review "Passage of particles through matter", eq. 34.25
TSAI_CONSTANT = 716.408
# scale energy sqrt(4 pi / alpha) m_e c^2 of multiple scattering, MeV
SCATTERING_ENERGY = 21.2052
# Tsai's radiation logarithms for the elements where Thomas-Fermi fails: L_rad, L'_rad
_LIGHT_LOGARITHMS = {1: (5.31, 6.144), 2: (4.79, 5.621), 3: (4.74, 5.805), 4: (4.71, 5.924)}

# common names of materials that Geant4 names by symbol, for error messages
_COMMON_NAMES = {
    "tungsten": "G4_W",
    "silicon": "G4_Si",
    "lead": "G4_Pb",
    "iron": "G4_Fe",
    "steel": "G4_STAINLESS-STEEL",
    "copper": "G4_Cu",
    "aluminium": "G4_Al",
    "aluminum": "G4_Al",
    "uranium": "G4_U",
    "argon": "G4_lAr",
    "lar": "G4_lAr",
    "scintillator": "G4_PLASTIC_SC_VINYLTOLUENE",
    "vacuum": "G4_Galactic",
    "pbwo4": "G4_PbWO4",
}


class ComposedMaterial(StrictModel):
    """A mixture: density and mass fractions of elements ("W") or NIST materials ("G4_POLYSTYRENE")."""

    density: Density
    fractions: dict[str, float]

    @field_validator("density")
    @classmethod
    def _positive(cls, value: float) -> float:
        if not 0 < value < 100:
            raise ValueError(f"got {value} g/cm3, expected a density between 0 and 100 g/cm3")
        return value

    @field_validator("fractions")
    @classmethod
    def _known_and_normalised(cls, value: dict[str, float]) -> dict[str, float]:
        for name, fraction in value.items():
            if name not in elements() and name not in nist_names():
                hint = nearest(name, [*elements(), *nist_names()])
                raise ValueError(f"{name!r} is neither an element nor a NIST material. {hint}")
            if not 0 < fraction <= 1:
                raise ValueError(f"{name}: got the mass fraction {fraction}, expected 0 < fraction <= 1")
        total = sum(value.values())
        if abs(total - 1) > 1e-3:
            raise ValueError(f"the mass fractions sum to {total:.6g}, expected 1")
        return value


@dataclass(frozen=True)
class Material:
    """A material resolved to its elements.

    Attributes:
        name: The name used in the detector description.
        density: g/cm3.
        fractions: Element symbol to mass fraction; sums to 1.
        gas: Whether the critical energy of gases applies.
    """

    name: str
    density: float
    fractions: dict[str, float]
    gas: bool = False

    @property
    def radiation_length(self) -> float:
        """X0 in mm: Tsai's formula for each element, Bragg's rule for mixtures (PDG eq. 34.25, 34.26)."""
        inverse = sum(w / element_radiation_length(symbol) for symbol, w in self.fractions.items())
        return 10.0 / (inverse * self.density)

    @property
    def moliere_radius(self) -> float:
        """Molière radius in mm: 1/R_M = (1/E_s) sum_j w_j E_c,j / X_j (PDG eq. 34.38)."""
        inverse = sum(
            w * element_critical_energy(symbol, self.gas) / element_radiation_length(symbol)
            for symbol, w in self.fractions.items()
        )
        return 10.0 * SCATTERING_ENERGY / (inverse * self.density)

    @property
    def critical_energy(self) -> float:
        """Critical energy of electrons in MeV, from R_M = X0 E_s / E_c."""
        return self.radiation_length * SCATTERING_ENERGY / self.moliere_radius

    @property
    def minimum_ionisation(self) -> float:
        """Energy loss of a minimum-ionising muon, MeV/mm.

        The mean excitation energy is that of the elements, joined by Bragg's rule for mixtures; see
        `caloforge.geometry.ionisation`.
        """
        electrons = {s: w * elements()[s][0] / elements()[s][1] for s, w in self.fractions.items()}
        z_over_a = sum(electrons.values())
        logarithm = sum(share * math.log(_table()["excitation"][s]) for s, share in electrons.items())
        excitation = math.exp(logarithm / z_over_a)
        return minimum_ionisation(z_over_a, excitation, self.density, self.gas) * self.density / 10


@functools.cache
def _table() -> dict[str, Any]:
    path = resources.files("caloforge.geometry") / "nist_materials.json"
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def elements() -> dict[str, tuple[int, float]]:
    """Element symbol to (Z, A in g/mol)."""
    return _table()["elements"]  # type: ignore[no-any-return]


def nist_names() -> dict[str, Any]:
    """Every NIST material name that Geant4 11.4 knows; the values are the raw table rows."""
    return _table()["materials"]  # type: ignore[no-any-return]


def resolve(name: str, composed: dict[str, ComposedMaterial] | None = None) -> Material:
    """The material of a name.

    Args:
        name: A NIST name ("G4_W") or a key of `composed`.
        composed: The detector's own mixtures.

    Raises:
        GeometryError: The name is unknown; the message has the nearest valid one.

    Examples:
        >>> round(resolve("G4_W").radiation_length, 2)  # mm
        3.5
    """
    composed = composed or {}
    if name in composed:
        return _compose(name, composed[name])
    row = nist_names().get(name)
    if row is None:
        alias = _COMMON_NAMES.get(name.lower().removeprefix("g4_"))
        hint = f"Did you mean {alias!r}?" if alias else nearest(name, [*composed, *nist_names()])
        raise GeometryError(f"material {name!r} is unknown to Geant4. {hint}")
    return Material(name, row["density"], row["fractions"], row["gas"])


def _compose(name: str, mixture: ComposedMaterial) -> Material:
    total: dict[str, float] = {}
    norm = sum(mixture.fractions.values())
    for part, weight in mixture.fractions.items():
        inner = {part: 1.0} if part in elements() else nist_names()[part]["fractions"]
        for symbol, fraction in inner.items():
            total[symbol] = total.get(symbol, 0.0) + weight / norm * fraction
    return Material(name, mixture.density, total, gas=mixture.density < 0.05)


@functools.cache
def element_radiation_length(symbol: str) -> float:
    """X0 of an element in g/cm2 (Tsai; PDG eq. 34.25-34.26); within 0.5 % of the PDG tables."""
    z, a = elements()[symbol]
    l_rad, l_prime = _LIGHT_LOGARITHMS.get(
        z, (math.log(184.15 * z ** (-1 / 3)), math.log(1194 * z ** (-2 / 3)))
    )
    x = (FINE_STRUCTURE * z) ** 2
    coulomb = x * (1 / (1 + x) + 0.20206 - 0.0369 * x + 0.0083 * x**2 - 0.002 * x**3)
    return TSAI_CONSTANT * a / (z**2 * (l_rad - coulomb) + z * l_prime)


def element_critical_energy(symbol: str, gas: bool) -> float:
    """Critical energy of electrons in an element, MeV (Rossi's definition; PDG fits, fig. 34.14)."""
    z, _ = elements()[symbol]
    return 710 / (z + 0.92) if gas else 610 / (z + 1.24)
