"""What a model must know of its training data besides its weights; measured once, stored with the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from caloforge.beam import BeamConfig
from caloforge.config import StrictModel
from caloforge.errors import ConfigError
from caloforge.provenance import digest_file
from caloforge.showers import ShowerFile
from caloforge.showers.file import EnergyMeaning
from caloforge.units import format_angle, format_energy

# showers that the response is fitted to; its mean is then known to a tenth of a percent
FIT_SHOWERS = 20_000
FIT_DEGREE = 4
# a sample drawn from 10 to 500 GeV does not quite reach its limits, which are meant to be usable
RELATIVE_SLACK = 0.01
# what float32 columns and rounded limits may differ by, rad
ANGLE_SLACK = 1e-4
# visible share assumed where there is no data yet (the pre-flight without a file)
ASSUMED_RESPONSE = 0.02


class TrainedRange(StrictModel):
    """Limits of the conditions in the training data: MeV, rad, and PDG numbers."""

    energy: tuple[float, float]
    theta: tuple[float, float]
    phi: tuple[float, float]
    pdg_ids: tuple[int, ...] = Field(min_length=1)

    def check(
        self,
        *,
        energy: NDArray[np.floating],
        theta: NDArray[np.floating],
        phi: NDArray[np.floating],
        pdg_id: NDArray[np.integer],
        extrapolate: bool = False,
    ) -> None:
        """Refuse conditions that the training data did not have.

        Args:
            energy: (N,) MeV.
            theta: (N,) rad.
            phi: (N,) rad.
            pdg_id: (N,) PDG numbers.
            extrapolate: Allow other energies and angles; an unknown particle is never allowed.

        Raises:
            ConfigError: With every quantity that lies outside.
        """
        strange = sorted(set(map(int, np.unique(pdg_id))) - set(self.pdg_ids))
        if strange:
            raise ConfigError(
                f"particle {strange[0]}: the model was trained on {', '.join(map(str, self.pdg_ids))} "
                "(PDG numbers); give one of these"
            )
        if not np.all(energy > 0):
            raise ConfigError(f"energy: got {float(np.min(energy)):g} MeV, expected a positive one")
        outside = [
            *_outside("energy", energy, self.energy, RELATIVE_SLACK * np.array(self.energy), format_energy),
            *_outside("theta", theta, self.theta, np.full(2, ANGLE_SLACK), format_angle),
            *_outside("phi", phi, self.phi, np.full(2, ANGLE_SLACK), format_angle),
        ]
        if outside and not extrapolate:
            raise ConfigError(
                "\n".join(outside) + "\nstay inside the trained range, or give --extrapolate to go beyond it"
            )


def _outside(
    name: str,
    values: NDArray[np.floating],
    limits: tuple[float, float],
    slack: NDArray[np.float64],
    text: Callable[[float], str],
) -> list[str]:
    """A line about values beyond their limits, with a slack at either end; none where all lie inside."""
    low, high = float(np.min(values)), float(np.max(values))
    if low >= limits[0] - slack[0] and high <= limits[1] + slack[1]:
        return []
    # five digits are enough to see what is wrong
    got, trained = (
        " to ".join(dict.fromkeys(text(float(f"{end:.5g}")) for end in span))
        for span in ((low, high), limits)
    )
    return [f"{name}: got {got}, the model was trained on {trained}"]


class DataFacts(StrictModel):
    """What a model keeps of its training data.

    `response_fit` are the coefficients, lowest order first, of the mean visible over incident energy as a
    polynomial in the logarithm of the energy, mapped to [-1, 1] over the trained range. `precisions` are the
    arithmetics that the physics was checked for: `generate --precision auto` takes no other.
    """

    ranges: TrainedRange
    energy_meaning: EnergyMeaning = "visible"
    response_fit: tuple[float, ...]
    precisions: tuple[Literal["fp32", "bf16", "int8"], ...] = ("fp32",)

    def response_argument(self) -> tuple[float, float]:
        """Offset and scale of the polynomial's argument: (log E - offset) * scale."""
        low, high = np.log(self.ranges.energy)
        return float(low + high) / 2, (2.0 / float(high - low) if high > low else 0.0)


def facts_of_file(path: Path) -> DataFacts:
    """Read the ranges and fit the response of a shower file.

    Raises:
        DataError: The file cannot be used.
    """
    with ShowerFile(path) as file:
        energy = file.column("incident_energy").astype(np.float64)
        count = min(len(file), FIT_SHOWERS)
        visible = np.concatenate([batch.visible_energy() for batch in file.iterate(1024, stop=count)])
        ranges = TrainedRange(
            energy=_limits(energy),
            theta=_limits(file.column("incident_theta")),
            phi=_limits(file.column("incident_phi")),
            pdg_ids=tuple(sorted({int(code) for code in file.column("pdg_id")})),
        )
        meaning = file.energy_meaning
    facts = DataFacts(ranges=ranges, energy_meaning=meaning, response_fit=(0.0,))
    offset, scale = facts.response_argument()
    argument = (np.log(energy[:count]) - offset) * scale
    degree = min(FIT_DEGREE, len(np.unique(energy[:count])) - 1, max(count // 20, 0))
    fit = np.polynomial.polynomial.polyfit(argument, visible / energy[:count], degree)
    return facts.model_copy(update={"response_fit": tuple(map(float, np.atleast_1d(fit)))})


def data_record(path: Path, trained: int) -> dict[str, Any]:
    """What a model card says of the showers it was trained on; JSON-compatible.

    Args:
        path: The shower file.
        trained: Its first so many showers were trained on; the others chose the step that was kept.

    Raises:
        DataError: The file cannot be used.
    """
    with ShowerFile(path) as file:
        count, provenance = len(file), file.provenance
    return {
        "file": path.name,
        "sha256": digest_file(path),
        "showers": count,
        "trained_on": trained,
        "provenance": provenance,
    }


def facts_of_beam(beam: BeamConfig) -> DataFacts:
    """The facts that data of this beam would have, with an assumed response; for trials without data."""
    ranges = TrainedRange(
        energy=beam.energy_range, theta=beam.theta_range, phi=beam.phi_range, pdg_ids=(beam.pdg_id,)
    )
    return DataFacts(ranges=ranges, response_fit=(ASSUMED_RESPONSE,))


def _limits(values: NDArray[np.floating] | Sequence[float]) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))
