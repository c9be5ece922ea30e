"""Metadata of the training data, stored with a model: range of conditions, response, energy meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from caloforge.beam import ANGLE_SLACK, AngleChoice, BeamConfig, ClaimedRange, EnergyChoice, ImpactChoice
from caloforge.conditions import Conditions
from caloforge.config import StrictModel, build
from caloforge.errors import ConfigError, DataError
from caloforge.geometry import Mesh
from caloforge.geometry.mesh import IMPACT
from caloforge.showers import ShowerFile
from caloforge.showers.file import EnergyMeaning
from caloforge.showers.joined import file_record
from caloforge.units import format_energy, format_length

# showers in the fit of the response, for a precision of about 0.1 %
FIT_SHOWERS = 20_000
FIT_DEGREE = 4
# tolerance of ranges: a sample does not quite reach the limits of its beam, if that is not known
RELATIVE_SLACK = 0.01
# tolerance of impact points, and their largest distance from the axis, mm
IMPACT_SLACK, MAX_IMPACT = 1e-3, 1e5
# n uniform showers leave more than GAP / n of their range empty at an end with a probability of 1e-4
GAP = 10.0
# tolerance of declared limits for float32 columns, relative or rad
ROUNDING = 1e-6
# PDG numbers are stored as int32
LARGEST_PDG = 2**31 - 1
# response assumed if there are no data (the pre-flight without a file)
ASSUMED_RESPONSE = 0.02


class TrainedRange(StrictModel):
    """Range of the conditions in the training data: limits in MeV, rad and mm, and PDG numbers.

    Documents of models for the axis of the mesh alone have no `impact_x` and `impact_y`.
    """

    energy: tuple[float, float]
    theta: tuple[float, float]
    phi: tuple[float, float]
    impact_x: tuple[float, float] = (0.0, 0.0)
    impact_y: tuple[float, float] = (0.0, 0.0)
    pdg_ids: tuple[Annotated[int, Field(ge=-LARGEST_PDG, le=LARGEST_PDG)], ...] = Field(
        min_length=1, max_length=100
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, (low, high), lowest, highest in (
            ("energy", self.energy, 1e-6, 1e12),
            ("theta", self.theta, 0.0, np.pi + ANGLE_SLACK),
            ("phi", self.phi, -7.0, 7.0),
            ("impact_x", self.impact_x, -MAX_IMPACT, MAX_IMPACT),
            ("impact_y", self.impact_y, -MAX_IMPACT, MAX_IMPACT),
        ):
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"{name}: got {low:g} to {high:g}, expected a range within {lowest:g} to {highest:g}"
                )
        if len(set(self.pdg_ids)) < len(self.pdg_ids):
            raise ValueError("pdg_ids: a particle is listed twice")
        return self

    @model_serializer(mode="wrap")
    def _without_axis(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The document; the digests of models for the axis alone are those of earlier versions."""
        document: dict[str, Any] = handler(self)
        return document if self.off_axis else {k: v for k, v in document.items() if k not in IMPACT}

    @property
    def off_axis(self) -> bool:
        """Whether there are impact points off the axis of the mesh."""
        return self.farthest_impact > 0

    @property
    def farthest_impact(self) -> float:
        """Largest distance of an impact point from the axis along x or y, mm."""
        return max(map(abs, (*self.impact_x, *self.impact_y)))

    def check(self, conditions: Conditions, *, extrapolate: bool = False) -> None:
        """Refuse conditions outside the range of the training data.

        Args:
            conditions: N conditions.
            extrapolate: Allow other energies, angles and impact points; an unknown particle is never allowed.

        Raises:
            ConfigError: Names every quantity that is outside.
        """
        energy, pdg_id = conditions.energy, conditions.pdg_id
        strange = sorted(set(map(int, np.unique(pdg_id))) - set(self.pdg_ids))
        if strange:
            raise ConfigError(
                f"particle {strange[0]}: the model was trained on {', '.join(map(str, self.pdg_ids))} "
                "(PDG numbers); give one of these"
            )
        if not np.all(energy > 0):
            raise ConfigError(f"energy: got {float(np.min(energy)):g} MeV, expected a positive one")
        angle, length = np.full(2, ANGLE_SLACK), np.full(2, IMPACT_SLACK)
        outside = [
            *_outside("energy", energy, self.energy, RELATIVE_SLACK * np.array(self.energy), format_energy),
            *_outside("theta", conditions.theta, self.theta, angle, _in_degrees),
            *_outside("phi", conditions.phi, self.phi, angle, _in_degrees),
            *_outside("impact_x", conditions.impact_x, self.impact_x, length, format_length),
            *_outside("impact_y", conditions.impact_y, self.impact_y, length, format_length),
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
    """A message about values outside of their limits with tolerance `slack`; empty if there are none."""
    low, high = float(np.min(values)), float(np.max(values))
    if low >= limits[0] - slack[0] and high <= limits[1] + slack[1]:
        return []
    got, trained = (
        " to ".join(dict.fromkeys(_rounded(end, text) for end in span)) for span in ((low, high), limits)
    )
    return [f"{name}: got {got}, the model was trained on {trained}"]


class DataFacts(StrictModel):
    """Metadata of the training data of a model.

    `response_fit`: coefficients, lowest order first, of the mean visible over incident energy as a polynomial
    in the logarithm of the energy, mapped to [-1, 1] over the trained range. `precisions`: the validated
    precisions; `generate --precision auto` uses no others. `claimed`: the part of the ranges that the model
    is made for; by default all.
    """

    ranges: TrainedRange
    energy_meaning: EnergyMeaning = "visible"
    response_fit: tuple[float, ...] = Field(max_length=100)
    precisions: tuple[Literal["fp32", "bf16", "int8"], ...] = ("fp32",)
    claimed: TrainedRange | None = None

    @model_validator(mode="after")
    def _claims_what_it_knows(self) -> Self:
        if self.claimed is not None:
            for name in ("energy", "theta", "phi", *IMPACT):
                (low, high), (first, last) = getattr(self.claimed, name), getattr(self.ranges, name)
                slack = ROUNDING * max(1.0, abs(last))
                if low < first - slack or high > last + slack:
                    raise ValueError(
                        f"claimed.{name}: got {low:g} to {high:g}, expected a part of {first:g} to {last:g}"
                    )
            if self.claimed.pdg_ids != self.ranges.pdg_ids:
                raise ValueError("claimed.pdg_ids: expected those of ranges")
        return self

    @model_serializer(mode="wrap")
    def _without_claim(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The document; the digests of models that claim all are those of earlier versions."""
        document: dict[str, Any] = handler(self)
        return document if self.claimed else {k: v for k, v in document.items() if k != "claimed"}

    @property
    def claim(self) -> TrainedRange:
        """The conditions that the model is made for."""
        return self.claimed or self.ranges

    def response_argument(self) -> tuple[float, float]:
        """Offset and scale of the polynomial's argument: (log E - offset) * scale."""
        low, high = np.log(self.ranges.energy)
        return float(low + high) / 2, (2.0 / float(high - low) if high > low else 0.0)


def facts_of_file(path: Path, beam: BeamConfig | None = None, claim: ClaimedRange | None = None) -> DataFacts:
    """Determine the range of conditions and fit the response of a shower file.

    The range is that of the beams in the provenance of the file, or else of `beam`. An end that the showers
    do not reach, or exceed, is replaced by their own extreme value.

    Args:
        path: The shower file.
        beam: The beam of the run.
        claim: The part of the conditions that the model is made for.

    Raises:
        DataError: The file cannot be used, or its impact points are not known.
        ConfigError: The claim is not inside the range of the file.
    """
    with ShowerFile(path) as file:
        if not file.knows_impacts:
            raise DataError(
                f"{path}: its showers enter anywhere in a cell (beam.impact: cell), and it has no impact_x "
                "and impact_y, which earlier versions did not store; simulate it again"
            )
        beams = declared_beams(file.provenance) or ([] if beam is None else [beam])
        impacts = [b.impacts(file.detector.mesh) for b in beams]
        ranges = TrainedRange(
            energy=_range(file.column("incident_energy"), [b.energy for b in beams]),
            theta=_range(file.column("incident_theta"), [b.theta for b in beams]),
            phi=_range(file.column("incident_phi"), [b.phi for b in beams]),
            impact_x=_range(file.column("impact_x"), [x for x, _ in impacts]),
            impact_y=_range(file.column("impact_y"), [y for _, y in impacts]),
            pdg_ids=tuple(sorted({int(code) for code in file.column("pdg_id")})),
        )
        meaning = file.energy_meaning
        energy, visible = _visible_energies(file)
    claimed = _claimed(ranges, claim, str(path))
    facts = DataFacts(ranges=ranges, energy_meaning=meaning, response_fit=(0.0,), claimed=claimed)
    offset, scale = facts.response_argument()
    argument = (np.log(energy) - offset) * scale
    degree = min(FIT_DEGREE, len(np.unique(energy)) - 1, max(len(energy) // 20, 0))
    fit = np.polynomial.polynomial.polyfit(argument, visible / energy, degree)
    return facts.model_copy(update={"response_fit": tuple(map(float, np.atleast_1d(fit)))})


def _claimed(ranges: TrainedRange, claim: ClaimedRange | None, origin: str) -> TrainedRange | None:
    """The claimed part of the range of the training showers, or None for all of it.

    Raises:
        ConfigError: It is not inside.
    """
    changes: dict[str, tuple[float, float]] = {}
    for name, text in (("energy", format_energy), ("theta", _in_degrees), ("phi", _in_degrees)):
        wanted = getattr(claim, name, None)
        if wanted is None:
            continue
        low, high = getattr(ranges, name)
        slack = ROUNDING * max(1.0, abs(high))
        if not low - slack <= wanted.min < wanted.max <= high + slack:
            raise ConfigError(
                f"training.range.{name}: got {text(wanted.min)} to {text(wanted.max)}, but {origin} has "
                f"{_rounded(low, text)} to {_rounded(high, text)}; give a part of that, or simulate more"
            )
        changes[name] = wanted.limits
    return ranges.model_copy(update=changes) if changes else None


def _in_degrees(angle: float) -> str:
    """Text such as "90 deg" for pi/2, also in float32."""
    return f"{math.degrees(angle):.4g} deg"


def _rounded(value: float, text: Callable[[float], str]) -> str:
    # five digits are enough for a message
    return text(float(f"{value:.5g}"))


def declared_beams(provenance: Mapping[str, Any]) -> list[BeamConfig]:
    """The beams in the provenance of a file: `beam`, or `beams` where files were joined."""
    several = provenance.get("beams")
    found = []
    for document in several if isinstance(several, list) else [provenance.get("beam") or {}]:
        try:
            found.append(build(BeamConfig, document, "beam"))
        except ConfigError:
            # a foreign file may use the key for something else
            return []
    return found


def _visible_energies(file: ShowerFile) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Incident and visible energies of at most `FIT_SHOWERS` showers, spread over the file."""
    edges = file.chunk_edges
    chunks, wanted = len(edges) - 1, max(1, FIT_SHOWERS // file.chunk)
    chosen = np.unique(np.linspace(0, chunks - 1, min(chunks, wanted)).round().astype(int))
    incident, visible = [], []
    for chunk in chosen:
        batch = file.read(int(edges[chunk]), int(edges[chunk + 1]))
        incident.append(batch.incident_energy.astype(np.float64))
        visible.append(batch.visible_energy())
    return np.concatenate(incident), np.concatenate(visible)


def _range(
    values: NDArray[np.floating], declared: Sequence[EnergyChoice | AngleChoice | ImpactChoice]
) -> tuple[float, float]:
    """The declared range of values; an end that they do not reach, or exceed, is their own extreme."""
    low, high = float(np.min(values)), float(np.max(values))
    if not declared:
        return low, high
    gap = min(0.5, GAP * len(declared) / len(values))
    lowest = min(declared, key=lambda choice: choice.limits[0])
    highest = max(declared, key=lambda choice: choice.limits[1])
    return (
        _end(low, lowest.limits[0], float(lowest.quantile(np.array([gap]))[0])),
        _end(high, highest.limits[1], float(highest.quantile(np.array([1.0 - gap]))[0])),
    )


def _end(value: float, declared: float, reached: float) -> float:
    """The declared end of a range if `value` lies between it and `reached`, else `value`."""
    slack = ROUNDING * max(1.0, abs(declared))
    between = min(declared, reached) - slack <= value <= max(declared, reached) + slack
    return declared if between else value


def data_record(path: Path, trained: int) -> dict[str, Any]:
    """Description of the training data for a model card, JSON-compatible.

    Args:
        path: The shower file, or a pattern of several.
        trained: Number of its showers that were trained on; the others were held out.

    Raises:
        DataError: The file cannot be used.
    """
    with ShowerFile(path) as file:
        count, provenance = len(file), file.provenance
    return {
        **file_record(path),
        "showers": count,
        "trained_on": trained,
        "provenance": provenance,
    }


def facts_of_beam(beam: BeamConfig, mesh: Mesh, claim: ClaimedRange | None = None) -> DataFacts:
    """Metadata for a beam on a mesh, with an assumed response, for a pre-flight without data."""
    impact_x, impact_y = (choice.limits for choice in beam.impacts(mesh))
    ranges = TrainedRange(
        energy=beam.energy_range,
        theta=beam.theta_range,
        phi=beam.phi_range,
        impact_x=impact_x,
        impact_y=impact_y,
        pdg_ids=(beam.pdg_id,),
    )
    claimed = _claimed(ranges, claim, "the beam")
    return DataFacts(ranges=ranges, response_fit=(ASSUMED_RESPONSE,), claimed=claimed)
