"""Quantities with units: text in YAML and on the command line, plain floats in MeV, mm and rad inside.

A bare number is refused wherever a unit belongs: that removes the MeV/GeV class of mistakes.
The base units are those of Geant4 and `hepunits`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated

import hepunits
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from caloforge.errors import ConfigError, nearest

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*([A-Za-z%/°0-9]+)\s*$")

ENERGY_UNITS = {
    "eV": hepunits.eV,
    "keV": hepunits.keV,
    "MeV": hepunits.MeV,
    "GeV": hepunits.GeV,
    "TeV": hepunits.TeV,
}
LENGTH_UNITS = {
    "um": 1e-3 * hepunits.mm,
    "mm": hepunits.mm,
    "cm": hepunits.cm,
    "m": hepunits.m,
}
ANGLE_UNITS = {"rad": hepunits.rad, "mrad": hepunits.mrad, "deg": hepunits.degree}
DENSITY_UNITS = {"g/cm3": 1.0, "kg/m3": 1e-3, "mg/cm3": 1e-3}
FIELD_UNITS = {"T": 1.0, "mT": 1e-3}

_EXAMPLES = {
    "energy": "10 GeV",
    "length": "5 mm",
    "angle": "60 deg",
    "density": "19.3 g/cm3",
    "magnetic field": "4 T",
}


def parse_quantity(text: object, kind: str, units: dict[str, float]) -> float:
    """Read "10 GeV" into the base unit of its kind.

    Args:
        text: What the user wrote.
        kind: "energy", "length", "angle", "density" or "magnetic field"; used in messages.
        units: Unit name to its size in the base unit.

    Raises:
        ConfigError: A bare number, an unknown unit, or text that is no quantity.
    """
    example = _EXAMPLES[kind]
    if isinstance(text, bool) or not isinstance(text, str):
        raise ConfigError(f"got {text!r} without a unit, expected something like {example!r}")
    # asked first: "10" would otherwise read as 1 of a unit "0"
    bare = re.fullmatch(rf"\s*{_NUMBER}\s*", text)
    match = _QUANTITY.match(text)
    if bare or match is None:
        what = "without a unit" if bare else f"which is no {kind}"
        raise ConfigError(f"got {text!r} {what}, expected something like {example!r}")
    value, unit = float(match[1]), match[2].replace("°", "deg")
    if unit not in units:
        hint = nearest(unit, units)
        raise ConfigError(f"got {text!r}: {unit!r} is no unit of {kind}. {hint}")
    result = value * units[unit]
    if not math.isfinite(result):
        raise ConfigError(f"got {text!r}, expected a finite {kind}")
    return result


def parse_energy(text: object) -> float:
    """Energy in MeV from text such as "10 GeV"."""
    return parse_quantity(text, "energy", ENERGY_UNITS)


def parse_length(text: object) -> float:
    """Length in mm from text such as "2.4 mm"."""
    return parse_quantity(text, "length", LENGTH_UNITS)


def parse_angle(text: object) -> float:
    """Angle in rad from text such as "60 deg"."""
    return parse_quantity(text, "angle", ANGLE_UNITS)


def parse_density(text: object) -> float:
    """Density in g/cm3 from text such as "19.3 g/cm3"."""
    return parse_quantity(text, "density", DENSITY_UNITS)


def parse_field(text: object) -> float:
    """Magnetic field in T from text such as "4 T"."""
    return parse_quantity(text, "magnetic field", FIELD_UNITS)


def _format(value: float, units: dict[str, float], preferred: tuple[str, ...]) -> str:
    """Text that reads back to exactly the same float, in the first preferred unit that allows it."""
    # the repr of a numpy float is no number
    value = float(value)
    for unit in preferred:
        scaled = value / units[unit]
        text = f"{scaled:.12g}"
        if float(text) * units[unit] == value and (abs(scaled) >= 1 or unit == preferred[-1]):
            return f"{text} {unit}"
    return f"{value!r} {preferred[-1]}"


def format_energy(value: float) -> str:
    """Text such as "10 GeV" for 10000.0 MeV; reads back exactly."""
    return _format(value, ENERGY_UNITS, ("TeV", "GeV", "MeV"))


def format_length(value: float) -> str:
    """Text such as "2.4 mm" for 2.4; reads back exactly."""
    return _format(value, LENGTH_UNITS, ("m", "mm"))


def format_angle(value: float) -> str:
    """Text such as "90 deg" for pi/2 where that reads back exactly, else radians."""
    value = float(value)
    degrees = value / hepunits.degree
    for text in (f"{degrees:.6g}", f"{degrees:.12g}"):
        if float(text) * ANGLE_UNITS["deg"] == value:
            return f"{text} deg"
    return f"{value!r} rad"


def format_density(value: float) -> str:
    """Text such as "19.3 g/cm3" for 19.3."""
    return f"{float(value)!r} g/cm3"


def _quantity_type(
    kind: str, parse: Callable[[object], float], fmt: Callable[[float], str]
) -> tuple[object, ...]:
    schema = {"type": "string", "description": f"{kind} with a unit", "examples": [_EXAMPLES[kind]]}
    return (
        BeforeValidator(_as_value_error(parse)),
        PlainSerializer(fmt, return_type=str),
        WithJsonSchema(schema),
    )


def _as_value_error(parse: Callable[[object], float]) -> Callable[[object], float]:
    """Pydantic collects ValueErrors with their location in the document."""

    def check(value: object) -> float:
        try:
            return parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return check


Energy = Annotated[float, *_quantity_type("energy", parse_energy, format_energy)]
Length = Annotated[float, *_quantity_type("length", parse_length, format_length)]
Angle = Annotated[float, *_quantity_type("angle", parse_angle, format_angle)]
Density = Annotated[float, *_quantity_type("density", parse_density, format_density)]
