"""What share of the incident energy showers may hold: wrong units and wrong labels show at once.

Electrons and photons leave about the share of a minimum-ionising particle in the active material
(`mip_sampling_fraction`), times what the calorimeter and its window contain; after the correction for the
sampling fraction, about all of their energy.
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

# electrons, photons and what decays into them; hadrons and muons may leave as little as they like
ELECTROMAGNETIC = (11, -11, 22, 111)
# limits in units of the usual response: measured 0.8 (tungsten and silicon) to 1.03 (homogeneous), and
# margins
LOW, HIGH = 0.25, 1.8
# nobody sees more energy than came in, but calibrations overshoot
MOST_VISIBLE, MOST_CORRECTED = 1.2, 2.0
# factors that units and layouts differ by, and how near a response must come to one to be told so
GEV, THREEDGAN = 1000.0, 50.0
NEAR = 2.0


@dataclass(frozen=True)
class ResponseLimits:
    """Share of the incident energy that showers of a detector hold, on the mean.

    Attributes:
        low: Smallest share that is believed.
        high: Largest.
        usual: About what is expected, or None where the detector's material is not known.
        why: Where this comes from, for messages.
    """

    low: float
    high: float
    usual: float | None
    why: str

    def __contains__(self, response: float) -> bool:
        return self.low <= response <= self.high


def response_limits(
    detector: Detector, meaning: EnergyMeaning, pdg_ids: NDArray[Any], energy: float
) -> ResponseLimits:
    """The limits for some showers.

    Args:
        detector: Their detector.
        meaning: What their energies mean.
        pdg_ids: (N,) their incident particles.
        energy: Their mean incident energy, MeV.
    """
    contained = _contained(detector, energy)
    if meaning == "visible":
        if not detector.layers:
            return ResponseLimits(0.0, MOST_CORRECTED, None, f"the material of {detector.name} is not known")
        fraction = sampling_fraction(detector)
        usual, most = fraction * contained, MOST_VISIBLE
        why = f"in {detector.name} a minimum-ionising particle leaves {fraction:.2%} in the active material"
    else:
        usual, most = contained, MOST_CORRECTED
        why = "corrected for the sampling fraction, showers hold about the incident energy"
    electromagnetic = bool(np.isin(pdg_ids, ELECTROMAGNETIC).all())
    high = most if meaning != "visible" else min(most, HIGH * max(usual, fraction))
    return ResponseLimits(LOW * usual if electromagnetic else 0.0, high, usual, why)


def _contained(detector: Detector, energy: float) -> float:
    """Share of an electron's shower inside the calorimeter and its window, roughly."""
    if not detector.layers:
        return 1.0
    along = longitudinal_containment(detector.radiation_lengths, energy, detector.critical_energy)
    # nine tenths within one Molière radius (PDG review "Passage of particles through matter")
    across = 1 - 0.1 ** (detector.mesh.half_extent() / detector.moliere_radius)
    return float(along * across)


class ResponseCheck:
    """Adds up what showers hold and what came in, and refuses a sum that cannot be."""

    def __init__(self, path: Path, detector: Detector, meaning: EnergyMeaning) -> None:
        """Begin with no showers; `path` is for messages."""
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
            DataError: Those so far hold too little or too much of their incident energy.
        """
        self._deposited += float(batch.showers.sum(dtype=np.float64))
        self._incident += float(batch.incident_energy.sum(dtype=np.float64))
        self._showers += len(batch)
        mean = self._incident / self._showers
        limits = response_limits(self.detector, self.meaning, batch.pdg_id, mean)
        if self.response not in limits:
            raise DataError(f"{self.path}: {_complaint(self.response, limits, self.detector, self.meaning)}")


def _complaint(response: float, limits: ResponseLimits, detector: Detector, meaning: EnergyMeaning) -> str:
    text = (
        f"the showers hold {response:.3g} times the incident energy on the mean, expected {limits.low:.2g} "
        "to "
        f"{limits.high:.2g} ({meaning} energy; {limits.why})"
    )
    hint = _hint(response, limits, detector, meaning)
    return f"{text}; {hint}" if hint else f"{text}; check the units of both"


def _hint(response: float, limits: ResponseLimits, detector: Detector, meaning: EnergyMeaning) -> str:
    """What most likely went wrong, if the response says so."""
    if limits.usual is None or response <= 0:
        return ""
    fraction = sampling_fraction(detector) if detector.layers else 0.033
    words = {
        1 / GEV: "1000 times too little: the showers are in GeV where MeV belong",
        GEV: "1000 times too much: the incident energies are in GeV, or the showers in keV, where MeV belong",
    }
    if detector.mesh.kind == "cartesian":
        words |= {
            1 / THREEDGAN: "50 times too little: variable-angle 3DGAN files hold 50 x GeV, "
            "these have no factor",
            THREEDGAN: "50 times too much: 3DGAN files of fixed angle hold GeV, without the factor 50",
        }
    if meaning == "visible":
        words[1 / fraction] = "that is what showers hold whose sampling fraction is corrected; label them so"
    else:
        words[fraction] = "that is what visible energies are; label them so"
    ratio = response / limits.usual
    factor = min(words, key=lambda factor: abs(math.log(ratio / factor)))
    return words[factor] if 1 / NEAR < ratio / factor < NEAR else ""
