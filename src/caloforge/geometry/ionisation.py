"""Energy loss of a minimum-ionising particle: Bethe's formula with the density-effect correction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# K = 4 pi N_A r_e^2 m_e c^2, MeV cm2/mol
BETHE_CONSTANT = 0.307075
ELECTRON_MASS = 0.51099895e6
MUON_MASS = 105.6583755e6
# hbar omega_p / sqrt(density in g/cm3 * Z/A), eV
PLASMA_ENERGY = 28.816
# the minimum lies near beta gamma = 3.5 in light materials and 3 in heavy ones
_BETA_GAMMA = np.geomspace(1.5, 8.0, 200)


def minimum_ionisation(z_over_a: float, excitation: float, density: float, gas: bool) -> float:
    """Smallest mass stopping power of a muon, MeV cm2/g.

    Bethe's formula (PDG review "Passage of particles through matter", eq. 34.5) without shell corrections.
    The density effect is the general one of Sternheimer and Peierls, Phys. Rev. B 3 (1971) 3681, which is 0
    at the minimum in gases. Within 2.5 % of the PDG's tables of materials.

    Args:
        z_over_a: Mean Z/A, mol/g.
        excitation: Mean excitation energy, eV.
        density: g/cm3.
        gas: Whether the material is a gas.

    Examples:
        >>> round(minimum_ionisation(14 / 28.0855, 173.0, 2.329, gas=False), 2)  # silicon
        1.66
    """
    beta_gamma = _BETA_GAMMA
    gamma = np.sqrt(1 + beta_gamma**2)
    beta2 = beta_gamma**2 / gamma**2
    ratio = ELECTRON_MASS / MUON_MASS
    largest = 2 * ELECTRON_MASS * beta_gamma**2 / (1 + 2 * gamma * ratio + ratio**2)
    logarithm = 0.5 * np.log(2 * ELECTRON_MASS * beta_gamma**2 * largest / excitation**2)
    delta = 0.0 if gas else _density_effect(z_over_a, excitation, density)
    loss = BETHE_CONSTANT * z_over_a / beta2 * (logarithm - beta2 - delta / 2)
    return float(loss.min())


def _density_effect(z_over_a: float, excitation: float, density: float) -> NDArray[np.float64]:
    """Delta of solids and liquids at `_BETA_GAMMA` (Sternheimer and Peierls)."""
    x = np.log10(_BETA_GAMMA)
    c = 1 + 2 * math.log(excitation / (PLASMA_ENERGY * math.sqrt(density * z_over_a)))
    limit, offset, x1 = (3.681, 1.0, 2.0) if excitation < 100 else (5.215, 1.5, 3.0)
    x0 = 0.2 if c < limit else 0.326 * c - offset
    a = (c - 2 * math.log(10) * x0) / (x1 - x0) ** 3
    above: NDArray[np.float64] = 2 * math.log(10) * x - c + a * np.maximum(x1 - x, 0) ** 3
    return np.where(x > x0, above, 0.0)
