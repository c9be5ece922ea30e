"""The beam: particle, energy, direction and impact point of the showers, and their reproducible sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, field_validator, model_validator

from caloforge.conditions import Conditions
from caloforge.config import StrictModel, build
from caloforge.errors import ConfigError, nearest
from caloforge.geometry import Mesh, impact_limits
from caloforge.units import Angle, Energy, format_angle, format_energy, parse_angle, parse_energy

# Monte Carlo numbers of the Particle Data Group (Phys. Rev. D 110, 030001, section 45)
PARTICLES = {"e-": 11, "e+": -11, "gamma": 22, "pi0": 111, "mu-": 13, "pi+": 211, "pi-": -211}
# particles that need a hadronic physics list; a neutral pion decays to photons first
HADRONS = ("pi+", "pi-")

# second word of the Philox key: the first is the seed, which other random streams use as well
STREAM = 0xBEA4
# a shower takes two Philox counters of four 64-bit words each; a change would change the showers of a seed
COUNTERS_PER_SHOWER = 2
WORDS_PER_SHOWER = 4 * COUNTERS_PER_SHOWER
# tolerance of angles, for float32 columns and rounded limits, rad
ANGLE_SLACK = 1e-4
# halvings of an interval, until it is as small as the precision of a double
BISECTIONS = 60

# the models of Geant4 hold for electrons and photons in these limits, MeV
LOWEST_ENERGY, HIGHEST_ENERGY = 1e-3, 1e8


def _check_energy_range(energy: float) -> float:
    if not LOWEST_ENERGY <= energy <= HIGHEST_ENERGY:
        raise ValueError(
            f"got {energy:.6g} MeV, expected {LOWEST_ENERGY * 1e3:g} keV to {HIGHEST_ENERGY / 1e6:g} TeV, "
            "the range of Geant4's models"
        )
    return energy


BeamEnergy = Annotated[Energy, Field(gt=0), AfterValidator(_check_energy_range)]


class _FixedEnergy(StrictModel):
    """One energy for every shower."""

    kind: Literal["fixed"] = "fixed"
    value: BeamEnergy

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy, MeV."""
        return self.value, self.value

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies in MeV for uniform numbers in [0, 1)."""
        return np.full_like(u, self.value)


class EnergyInterval(StrictModel):
    """Kinetic energies from `min` to `max`."""

    min: BeamEnergy
    max: BeamEnergy

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.min, self.max, format_energy)
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy, MeV."""
        return self.min, self.max


class _FlatEnergy(EnergyInterval):
    """Energies uniform between `min` and `max`."""

    kind: Literal["flat"] = "flat"

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies in MeV for uniform numbers in [0, 1)."""
        return self.min + u * (self.max - self.min)


class _LogFlatEnergy(EnergyInterval):
    """Energies whose logarithm is uniform between those of `min` and `max`."""

    kind: Literal["log-flat"] = "log-flat"

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies in MeV for uniform numbers in [0, 1)."""
        return np.asarray(self.min * (self.max / self.min) ** u)


class _MixedEnergy(EnergyInterval):
    """A fraction `log_fraction` of the energies uniform in the logarithm, the others uniform, `min` to `max`.

    A flat spectrum has hardly any low energies, a log-flat one hardly any high ones; a mixture has both.
    """

    kind: Literal["mixed"] = "mixed"
    log_fraction: float = Field(default=0.5, gt=0, lt=1)

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies in MeV for uniform numbers in [0, 1)."""
        # bisection of the distribution function, which has no simple inverse
        low, high = np.full_like(u, math.log(self.min)), np.full_like(u, math.log(self.max))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = self._probability(middle) <= u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.exp((low + high) / 2)

    def _probability(self, logarithm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of an energy below exp(logarithm) MeV."""
        log_flat = (logarithm - math.log(self.min)) / math.log(self.max / self.min)
        flat = (np.exp(logarithm) - self.min) / (self.max - self.min)
        total: NDArray[np.float64] = self.log_fraction * log_flat + (1 - self.log_fraction) * flat
        return total


class _ListedEnergy(StrictModel):
    """Energies drawn from a list, each equally likely."""

    kind: Literal["list"] = "list"
    values: tuple[BeamEnergy, ...] = Field(min_length=1)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy, MeV."""
        return min(self.values), max(self.values)

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies in MeV for uniform numbers in [0, 1)."""
        return np.asarray(self.values, np.float64)[(u * len(self.values)).astype(np.intp)]


class _FixedAngle(StrictModel):
    """One angle for every shower."""

    kind: Literal["fixed"] = "fixed"
    value: Angle

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest angle, rad."""
        return self.value, self.value

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Angles in rad for uniform numbers in [0, 1)."""
        return np.full_like(u, self.value)


class AngleInterval(StrictModel):
    """Angles from `min` to `max`."""

    min: Angle
    max: Angle

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.min, self.max, format_angle)
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest angle, rad."""
        return self.min, self.max


class _FlatAngle(AngleInterval):
    """Angles uniform between `min` and `max`."""

    kind: Literal["flat"] = "flat"

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Angles in rad for uniform numbers in [0, 1)."""
        return self.min + u * (self.max - self.min)


@dataclass(frozen=True)
class ImpactChoice:
    """Impact points along one axis, uniform over a readout cell or all on the axis of the mesh.

    Attributes:
        half: Half of the width, mm; 0 for the axis.
    """

    half: float

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest impact point, mm."""
        return 0.0 - self.half, self.half

    def quantile(self, u: NDArray[np.float64]) -> NDArray[np.float32]:
        """Impact points in mm for uniform numbers in [0, 1)."""
        # float32 first: other roundings would give other showers for a seed
        return (u - 0.5).astype(np.float32) * np.float32(2 * self.half)


def _check_order(low: float, high: float, text: Callable[[float], str]) -> None:
    if not low < high:
        raise ValueError(
            f"got min {text(low)} and max {text(high)}, expected min below max; for one value use kind: fixed"
        )


EnergyChoice = Annotated[
    _FixedEnergy | _FlatEnergy | _LogFlatEnergy | _MixedEnergy | _ListedEnergy, Field(discriminator="kind")
]
AngleChoice = Annotated[_FixedAngle | _FlatAngle, Field(discriminator="kind")]


class ClaimedRange(StrictModel):
    """Energies and angles that a model is made for: a part of those of the showers it is trained on.

    Showers beyond the ends of this range give those at its ends neighbours on both sides. What is left out is
    as in the training showers.
    """

    energy: EnergyInterval | None = None
    theta: AngleInterval | None = None
    phi: AngleInterval | None = None


class BeamConfig(StrictModel):
    """The beam: one kind of particle with distributions of energy, direction and impact point.

    `theta` is the polar angle from the y axis and `phi` the azimuth: 90 deg and 0 deg are orthogonal
    incidence. `impact` is where the track crosses the front of the layer `axis_layer`: on the axis of the
    mesh, its "centre", or anywhere in one readout "cell" around it, uniformly.
    """

    particle: str = "e-"
    energy: EnergyChoice
    theta: AngleChoice = _FixedAngle.model_validate({"value": "90 deg"})
    phi: AngleChoice = _FixedAngle.model_validate({"value": "0 deg"})
    impact: Literal["centre", "cell"] = "centre"

    @field_validator("particle")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PARTICLES:
            raise ValueError(f"got the particle {value!r}. {nearest(value, PARTICLES)}")
        return value

    @field_validator("theta")
    @classmethod
    def _inside(cls, value: _FixedAngle | _FlatAngle) -> _FixedAngle | _FlatAngle:
        low, high = value.limits
        if not (low > 0 and high < math.pi):
            raise ValueError(
                _angles("theta", low, high) + ", expected between 0 deg and 180 deg, ends excluded"
            )
        return value

    @field_validator("phi")
    @classmethod
    def _forwards(cls, value: _FixedAngle | _FlatAngle) -> _FixedAngle | _FlatAngle:
        low, high = value.limits
        if not (low > -math.pi / 2 and high < math.pi / 2):
            raise ValueError(
                _angles("phi", low, high) + ", expected between -90 deg and 90 deg, ends excluded: "
                "beyond them the particle flies away from the front face"
            )
        return value

    def impacts(self, mesh: Mesh) -> tuple[ImpactChoice, ImpactChoice]:
        """Distributions of the impact points along x and y, for the cells of a mesh."""
        halves = impact_limits(mesh) if self.impact == "cell" else (0.0, 0.0)
        return ImpactChoice(halves[0]), ImpactChoice(halves[1])

    @property
    def pdg_id(self) -> int:
        """Particle number of the Particle Data Group."""
        return PARTICLES[self.particle]

    @property
    def energy_range(self) -> tuple[float, float]:
        """Lowest and highest kinetic energy, MeV."""
        return self.energy.limits

    @property
    def theta_range(self) -> tuple[float, float]:
        """Lowest and highest polar angle, rad."""
        return self.theta.limits

    @property
    def phi_range(self) -> tuple[float, float]:
        """Lowest and highest azimuth, rad."""
        return self.phi.limits


def _angles(name: str, low: float, high: float) -> str:
    span = format_angle(low) if low == high else f"{format_angle(low)} to {format_angle(high)}"
    return f"got a {name} of {span}"


def sample_conditions(beam: BeamConfig, mesh: Mesh, seed: int, start: int, stop: int) -> Conditions:
    """Draw the incident conditions of the showers [start, stop) of a campaign.

    Shower i depends only on (beam, mesh, seed, i): the counter of the Philox generator (Salmon et al., SC11,
    doi:10.1145/2063384.2063405) is set to its index, so that any split of a campaign gives the same showers.

    Args:
        beam: The distributions to draw from.
        mesh: Mesh of the detector; the size of its cells is that of the impact points.
        seed: 0 to 2^64 - 1.
        start: First shower.
        stop: One past the last shower.

    Raises:
        ConfigError: A seed or a range of showers that cannot be used.
    """
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed: got {seed}, expected 0 to 2^64 - 1")
    if not 0 <= start <= stop:
        raise ConfigError(f"showers: got {start} to {stop}, expected 0 <= start <= stop")
    key = np.array([seed, STREAM], np.uint64)
    counter = np.array([COUNTERS_PER_SHOWER * start, 0, 0, 0], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(WORDS_PER_SHOWER * (stop - start))
    # the upper 53 bits fill the mantissa of a double in [0, 1)
    u = (words.reshape(-1, WORDS_PER_SHOWER) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    impact_x, impact_y = beam.impacts(mesh)
    return Conditions(
        energy=beam.energy.quantile(u[:, 0]).astype(np.float32),
        theta=beam.theta.quantile(u[:, 1]).astype(np.float32),
        phi=beam.phi.quantile(u[:, 2]).astype(np.float32),
        pdg_id=np.full(len(u), beam.pdg_id, np.int32),
        impact_x=impact_x.quantile(u[:, 3]),
        impact_y=impact_y.quantile(u[:, 4]),
    )


class TrainedRanges(Protocol):
    """The range of conditions that a model was trained on: limits in MeV, rad and mm, and PDG numbers."""

    @property
    def energy(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def theta(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def phi(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def impact_x(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def impact_y(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def pdg_ids(self) -> tuple[int, ...]: ...  # noqa: D102


def beam_from_text(
    ranges: TrainedRanges,
    *,
    energy: str | None = None,
    theta: str | None = None,
    phi: str | None = None,
    particle: str | None = None,
    impact: str | None = None,
) -> BeamConfig:
    """The beam given by command-line options: one value ("100 GeV") or a flat range ("10 GeV:500 GeV").

    Args:
        ranges: The trained range; the default of what is not given.
        energy: Kinetic energy.
        theta: Polar angle; the default is 90 deg if the model was trained on it.
        phi: Azimuth; the default is 0 deg if the model was trained on it.
        particle: A name of `PARTICLES`.
        impact: "centre" or "cell".

    Raises:
        ConfigError: Text that is no quantity, a value out of range, an unknown particle, or none given
            where the model was trained on several.
    """
    document = {
        "particle": _trained_particle(ranges.pdg_ids) if particle is None else particle,
        "energy": _flat_or_fixed(ranges.energy, format_energy)
        if energy is None
        else _parse_range(energy, "--energy", parse_energy),
        "theta": _default_angle(ranges.theta, math.pi / 2)
        if theta is None
        else _parse_range(theta, "--theta", parse_angle),
        "phi": _default_angle(ranges.phi, 0.0) if phi is None else _parse_range(phi, "--phi", parse_angle),
        "impact": impact or ("cell" if any((*ranges.impact_x, *ranges.impact_y)) else "centre"),
    }
    return build(BeamConfig, document, "beam")


def _trained_particle(pdg_ids: tuple[int, ...]) -> str:
    names = [name for name, pdg_id in PARTICLES.items() if pdg_id in pdg_ids]
    if len(names) != 1:
        known = ", ".join(names) or f"PDG numbers {', '.join(map(str, pdg_ids))}"
        raise ConfigError(
            f"no --particle is given and the model was trained on {known}; give --particle NAME"
        )
    return names[0]


def _default_angle(trained: tuple[float, float], orthogonal: float) -> dict[str, Any]:
    """The angle of orthogonal incidence, or the trained range where that lies outside."""
    low, high = trained
    if low - ANGLE_SLACK <= orthogonal <= high + ANGLE_SLACK:
        return _flat_or_fixed((orthogonal, orthogonal), format_angle)
    return _flat_or_fixed(trained, format_angle)


def _flat_or_fixed(limits: tuple[float, float], write: Callable[[float], str]) -> dict[str, Any]:
    low, high = (write(value) for value in limits)
    return {"kind": "fixed", "value": low} if low == high else {"kind": "flat", "min": low, "max": high}


def _parse_range(text: str, option: str, parse: Callable[[object], float]) -> dict[str, Any]:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) > 2:
        raise ConfigError(f"{option}: got {text!r}, expected one value or LOW:HIGH")
    for part in parts:
        try:
            parse(part)
        except ConfigError as error:
            raise ConfigError(f"{option}: {error}") from error
    if len(parts) == 1:
        return {"kind": "fixed", "value": parts[0]}
    return {"kind": "flat", "min": parts[0], "max": parts[1]}
