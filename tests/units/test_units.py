"""Quantities: text in, floats in MeV, mm, rad and g/cm3 inside, text out, and back exactly."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge import units
from caloforge.errors import ConfigError

# fast, and no deadline on a busy machine
QUICK = settings(max_examples=60, deadline=None)
# the largest number that is still finite in the largest unit
SIZES = st.floats(min_value=-1e300, max_value=1e300)
ROUND_TRIPS = {
    "energy": (units.format_energy, units.parse_energy),
    "length": (units.format_length, units.parse_length),
    "angle": (units.format_angle, units.parse_angle),
    "density": (units.format_density, units.parse_density),
}


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_energy, "10 GeV", 1e4),
        (units.parse_energy, "500keV", 0.5),
        (units.parse_energy, " 1.5e-3 TeV ", 1500.0),
        (units.parse_energy, ".5 MeV", 0.5),
        (units.parse_energy, "13 eV", 1.3e-5),
        (units.parse_energy, "-2 GeV", -2000.0),
        (units.parse_length, "2.4 mm", 2.4),
        (units.parse_length, "1 m", 1000.0),
        (units.parse_length, "3 cm", 30.0),
        (units.parse_length, "300 um", 0.3),
        (units.parse_angle, "90 deg", math.pi / 2),
        (units.parse_angle, "90°", math.pi / 2),
        (units.parse_angle, "90 °", math.pi / 2),
        (units.parse_angle, "250 mrad", 0.25),
        (units.parse_density, "19.3 g/cm3", 19.3),
        (units.parse_density, "1.2 kg/m3", 1.2e-3),
    ],
)
def test_text_becomes_a_number_in_the_base_unit(parse, text, value):
    assert parse(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("got", [10, 10.0, "10", " 1e4 ", "1.", ".5", True, None, ["10 GeV"]])
def test_a_bare_number_is_refused_with_an_example(got):
    with pytest.raises(ConfigError, match="10 GeV"):
        units.parse_energy(got)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (units.parse_energy, "10 Gev", "Did you mean 'GeV'"),
        (units.parse_energy, "10 mm", "'mm' is no unit of energy"),
        (units.parse_length, "10 inch", "Valid names: cm, m, mm, um"),
        (units.parse_angle, "90 degree", "Did you mean 'deg'"),
        (units.parse_energy, "GeV", "which is no energy"),
        (units.parse_energy, "1,5 GeV", "which is no energy"),
        (units.parse_energy, "10 GeV 3", "which is no energy"),
        (units.parse_energy, "nan GeV", "which is no energy"),
        (units.parse_energy, "inf GeV", "which is no energy"),
        (units.parse_energy, "1e400 GeV", "expected a finite energy"),
        (units.parse_energy, "1e308 GeV", "expected a finite energy"),
        (units.parse_density, "7 g/mm3", "no unit of density"),
        (units.parse_energy, "", "which is no energy"),
    ],
)
def test_what_is_no_quantity_says_why(parse, text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize("kind", ROUND_TRIPS)
@QUICK
@given(value=SIZES)
def test_format_then_parse_gives_exactly_the_same_float(kind, value):
    fmt, parse = ROUND_TRIPS[kind]
    assert parse(fmt(value)) == value


@pytest.mark.parametrize("kind", ROUND_TRIPS)
@QUICK
@given(value=st.floats(min_value=0, max_value=1e6, width=32))
def test_numpy_floats_are_formatted_like_floats(kind, value):
    fmt, parse = ROUND_TRIPS[kind]
    for number in (np.float64(value), np.float32(value)):
        assert parse(fmt(number)) == value


@QUICK
@given(text=st.text(max_size=20))
def test_no_text_makes_it_fail_otherwise(text):
    with contextlib.suppress(ConfigError):
        assert math.isfinite(units.parse_length(text))


@pytest.mark.parametrize(
    ("fmt", "value", "text"),
    [
        (units.format_energy, 1e4, "10 GeV"),
        (units.format_energy, 0.5, "0.5 MeV"),
        (units.format_energy, 2e6, "2 TeV"),
        (units.format_energy, 0.0, "0 MeV"),
        (units.format_length, 2.4, "2.4 mm"),
        (units.format_length, 1000.0, "1 m"),
        (units.format_angle, math.pi / 2, "90 deg"),
        (units.format_angle, 0.0, "0 deg"),
        (units.format_density, 19.3, "19.3 g/cm3"),
    ],
)
def test_the_text_is_what_a_person_would_write(fmt, value, text):
    assert fmt(value) == text
