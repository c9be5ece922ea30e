"""Configuration: strict, with errors that name the place, the value and the nearest valid name."""

import contextlib
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from caloforge.config import StrictModel, apply_overrides, build, parse_yaml, read_yaml, to_yaml
from caloforge.errors import CaloforgeError, ConfigError
from caloforge.units import Energy


class Fixed(StrictModel):
    kind: Literal["fixed"] = "fixed"
    value: Energy


class Flat(StrictModel):
    kind: Literal["flat"]
    min: Energy
    max: Energy


class Part(StrictModel):
    material: str
    count: int = Field(default=1, ge=1)


class Root(StrictModel):
    name: str = "x"
    rate: float = 1e-3
    energy: Annotated[Fixed | Flat, Field(discriminator="kind")] = Fixed(value="10 GeV")
    parts: tuple[Part, ...] = ()


def problems(document):
    with pytest.raises(ConfigError) as caught:
        build(Root, document, "run.yaml")
    return str(caught.value).splitlines()


# ---- models


def test_a_misspelt_key_names_its_place_and_the_nearest_one():
    lines = problems({"parts": [{"material": "G4_W"}, {"material": "G4_Si", "cuont": 3}]})
    assert lines == ["run.yaml › parts.1.cuont: unknown setting (got 3). Did you mean 'count'?"]


def test_a_misspelt_key_inside_a_choice_is_named_as_the_user_wrote_it():
    lines = problems({"energy": {"kind": "flat", "mim": "1 GeV", "max": "2 GeV"}})
    assert "run.yaml › energy.mim: unknown setting (got '1 GeV'). Did you mean 'min'?" in lines
    assert "run.yaml › energy.min: this setting is required but absent" in lines
    assert len(lines) == 2


def test_a_key_far_from_any_lists_the_valid_ones():
    assert problems({"zzzz": 1}) == [
        "run.yaml › zzzz: unknown setting (got 1). Valid names: energy, name, parts, rate."
    ]


def test_every_problem_is_reported_at_once():
    lines = problems({"nmae": "a", "rate": "fast", "parts": [{"count": 0}]})
    assert len(lines) == 4
    assert any("rate" in line and "(got 'fast')" in line for line in lines)
    assert any("parts.0.count" in line and "greater than or equal to 1" in line for line in lines)


def test_a_bare_number_where_a_unit_belongs():
    (line,) = problems({"energy": {"kind": "fixed", "value": 10}})
    assert line.startswith("run.yaml › energy.value: got 10 without a unit, expected something like '10 GeV'")


@pytest.mark.parametrize("choice", [{"kind": "flt"}, {"min": "1 GeV"}, "10 GeV", None, 3])
def test_a_wrong_choice_lists_the_choices(choice):
    (line,) = problems({"energy": choice})
    assert line.startswith("run.yaml › energy")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(value):
    (line,) = problems({"rate": value})
    assert "finite" in line


def test_long_values_are_shortened():
    (line,) = problems({"rate": "x" * 500})
    assert len(line) < 200


@pytest.mark.parametrize("document", [[], None, "text", 3])
def test_a_document_of_another_kind(document):
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        build(Root, document, "run.yaml")


def test_keys_that_are_no_text():
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        build(Root, {5: 1}, "run.yaml")


def test_models_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Root().name = "y"


def test_what_is_written_reads_back_equal():
    root = build(Root, {"energy": {"kind": "flat", "min": "1.7 GeV", "max": "3 TeV"}, "rate": 0.1}, "x")
    assert build(Root, parse_yaml(to_yaml(root), "y"), "y") == root


# ---- YAML


def test_yaml_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: x  # µ and comments are fine\nparts:\n- {material: G4_W}\n", encoding="utf-8")
    assert read_yaml(path) == {"name": "x", "parts": [{"material": "G4_W"}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3, column 1: not valid YAML: duplicate key 'a'"),
        ("a:\n  b: 1\n  b: 2\n", "line 3, column 3.*duplicate key 'b'"),
        ("a: [1, 2\nb: 3\n", "not valid YAML"),
        ("a: b: c\n", "line 1"),
        ("", "got nothing at the top level"),
        ("# only a comment\n", "got nothing at the top level"),
        ("- 1\n- 2\n", "got list at the top level"),
        ("text\n", "got str at the top level"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: !!python/name:os.system\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("? {a: b}\n: 1\n", "not valid YAML"),
        ("a: &x [*x]\n", "recursive"),
        ("a: &x {b: *x}\n", "recursive"),
        ("a: *x\n", "undefined alias"),
        ("a: 2026-13-45\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_yaml_that_cannot_be_used_says_where(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text, "run.yaml")
    assert str(caught.value).startswith("run.yaml")


def test_nesting_without_end_is_refused():
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        parse_yaml("a: " + "[" * 3000, "run.yaml")


@settings(max_examples=80, deadline=None)
@given(text=st.text(alphabet="ab:{}[]&*!-? \n\t\"'#|>%@`,0.", max_size=40))
def test_no_text_makes_yaml_fail_otherwise(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_yaml(text, "x"), dict)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\x89HDF\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "binary.yaml")


# ---- overrides


def test_overrides_are_read_as_yaml_and_leave_the_document_alone():
    document = {"a": {"b": 1}, "parts": [{"n": 1}, {"n": 2}]}
    got = apply_overrides(
        document, ["a.b=2.5", "a.c.d=10 GeV", "parts.1.n=7", "list=[1, x]", "parts.0={m: 1}", "empty="]
    )
    assert got == {
        "a": {"b": 2.5, "c": {"d": "10 GeV"}},
        "parts": [{"m": 1}, {"n": 7}],
        "list": [1, "x"],
        "empty": None,
    }
    assert document == {"a": {"b": 1}, "parts": [{"n": 1}, {"n": 2}]}


def test_the_last_override_wins_and_values_may_hold_equal_signs():
    assert apply_overrides({}, ["a=1", "a=x=y"]) == {"a": "x=y"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("a", "expected KEY=VALUE"),
        ("=1", "expected KEY=VALUE"),
        ("a..b=1", "expected KEY=VALUE"),
        ("a.b.c=1", "a.b is a plain value and has no 'c'"),
        ("parts.2.n=1", "'2' is no index of a list of 2 entries"),
        ("parts.x=1", "'x' is no index of a list of 2 entries"),
        ("parts.²=1", "'²' is no index of a list of 2 entries"),
        ("a=[1", "not valid YAML"),
        ("a={b: 1, b: 2}", "duplicate key 'b'"),
        ("a=!!python/name:os.system", "not valid YAML"),
    ],
)
def test_overrides_that_cannot_be_applied(setting, message):
    with pytest.raises(ConfigError, match=message) as caught:
        apply_overrides({"a": {"b": 1}, "parts": [{"n": 1}, {"n": 2}]}, [setting])
    assert setting in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(setting=st.text(alphabet="ab.=[]{}:0-*&!\n ", max_size=20))
def test_no_override_makes_it_fail_otherwise(setting):
    with contextlib.suppress(CaloforgeError):
        apply_overrides({"a": {"b": 1}}, [setting])
