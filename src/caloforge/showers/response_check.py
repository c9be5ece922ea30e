"""Plausibility check of the response (deposited over incident energy), which finds wrong units and labels.

Electrons and photons have about the sampling fraction of a minimum-ionising particle
(`mip_sampling_fraction`), times the fraction of the shower inside calorimeter and mesh. After correction for
the sampling fraction their response is about 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.geometry import Detector
from caloforge.geometry.summary import longitudinal_containment, sampling_fraction
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import EnergyMeaning

# electrons, photons and neutral pions; hadrons and muons have no lower limit
ELECTROMAGNETIC = (11, -11, 22, 111)
# limits in units of the expected response; measured are 0.8 (tungsten and silicon) to 1.03 (homogeneous)
LOW, HIGH = 0.25, 1.8
# largest response; above 1 for calibrated energies
MAX_VISIBLE, MAX_CORRECTED = 1.2, 2.0
# factors between units and layouts, and how close to one a response must be for the message to name it
GEV, THREEDGAN = 1000.0, 50.0
NEAR = 2.0


@dataclass(frozen=True)
class ResponseLimits:
    """Limits of the mean response of a detector.

    Attributes:
        low: Smallest plausible response.
        high: Largest plausible response.
        expected: Expected response, or None where the detector's material is not known.
        why: The reason for the expectation, for messages.
    """

    low: float
    high: float
    expected: float | None
    why: str

    def __contains__(self, response: float) -> bool:
        return self.low <= response <= self.high


def response_limits(
    detector: Detector, meaning: EnergyMeaning, pdg_ids: NDArray[Any], energy: float
) -> ResponseLimits:
    """Limits of the response of showers.

    Args:
        detector: Their detector.
        meaning: Meaning of the voxel energies.
        pdg_ids: (N,) PDG numbers of the incident particles.
        energy: Mean incident energy, MeV.
    """
    contained = _contained(detector, energy)
    if meaning == "visible":
        if not detector.layers:
            return ResponseLimits(0.0, MAX_CORRECTED, None, f"the material of {detector.name} is not known")
        fraction = sampling_fraction(detector)
        expected, largest = fraction * contained, MAX_VISIBLE
        why = f"in {detector.name} a minimum-ionising particle leaves {fraction:.2%} in the active material"
    else:
        expected, largest = contained, MAX_CORRECTED
        why = "corrected for the sampling fraction, showers hold about the incident energy"
    electromagnetic = bool(np.isin(pdg_ids, ELECTROMAGNETIC).all())
    high = largest if meaning != "visible" else min(largest, HIGH * max(expected, fraction))
    return ResponseLimits(LOW * expected if electromagnetic else 0.0, high, expected, why)


def _contained(detector: Detector, energy: float) -> float:
    """Approximate fraction of an electron shower inside the calorimeter and its mesh."""
    if not detector.layers:
        return 1.0
    along = longitudinal_containment(detector.radiation_lengths, energy, detector.critical_energy)
    # nine tenths within one Molière radius (PDG review "Passage of particles through matter")
    across = 1 - 0.1 ** (detector.mesh.half_extent() / detector.moliere_radius)
    return float(along * across)


class ResponseCheck:
    """Accumulates deposited and incident energy, and refuses an implausible response."""

    def __init__(self, path: Path, detector: Detector, meaning: EnergyMeaning) -> None:
        """Start without showers; `path` is for messages."""
        self.path, self.detector, self.meaning = path, detector, meaning
        self._deposited = self._incident = 0.0
        self._showers = 0

    @property
    def response(self) -> float:
        """Deposited over incident energy, of all showers so far."""
        return self._deposited / self._incident if self._incident else 0.0

    def add(self, batch: ShowerBatch) -> None:
        """Add showers.

        Raises:
            DataError: The response of all showers so far is outside the limits.
        """
        self._deposited += float(batch.showers.sum(dtype=np.float64))
        self._incident += float(batch.incident_energy.sum(dtype=np.float64))
        self._showers += len(batch)
        mean = self._incident / self._showers
        limits = response_limits(self.detector, self.meaning, batch.pdg_id, mean)
        if self.response not in limits:
            raise DataError(f"{self.path}: {_message(self.response, limits, self.detector, self.meaning)}")


def _message(response: float, limits: ResponseLimits, detector: Detector, meaning: EnergyMeaning) -> str:
    text = (
        f"the showers hold {response:.3g} times the incident energy on the mean, expected {limits.low:.2g} "
        "to "
        f"{limits.high:.2g} ({meaning} energy; {limits.why})"
    )
    hint = _likely_cause(response, limits, detector, meaning)
    return f"{text}; {hint}" if hint else f"{text}; check the units of both"


def _likely_cause(response: float, limits: ResponseLimits, detector: Detector, meaning: EnergyMeaning) -> str:
    """The likely cause of an implausible response, or an empty text."""
    if limits.expected is None or response <= 0:
        return ""
    fraction = sampling_fraction(detector) if detector.layers else 0.033
    causes = {
        1 / GEV: "1000 times too little: the showers are in GeV instead of MeV",
        GEV: "1000 times too much: the incident energies are in GeV, or the showers in keV, instead of MeV",
    }
    if detector.mesh.kind == "cartesian":
        causes |= {
            1 / THREEDGAN: "50 times too little: variable-angle 3DGAN files hold 50 x GeV, "
            "these have no factor",
            THREEDGAN: "50 times too much: 3DGAN files of fixed angle hold GeV, without the factor 50",
        }
    if meaning == "visible":
        causes[1 / fraction] = (
            "this is the response of energies whose sampling fraction is corrected; label them so"
        )
    else:
        causes[fraction] = "this is the response of visible energies; label them so"
    ratio = response / limits.expected
    factor = min(causes, key=lambda factor: abs(math.log(ratio / factor)))
    return causes[factor] if 1 / NEAR < ratio / factor < NEAR else ""
