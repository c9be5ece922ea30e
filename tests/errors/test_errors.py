"""Errors: exit codes, and hints that name what was probably meant."""

import inspect

import pytest

from caloforge import errors
from caloforge.errors import CaloforgeError, ConfigError, nearest

CLASSES = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, CaloforgeError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_exit_codes_follow_the_kind_of_error(kind):
    want = 2 if issubclass(kind, ConfigError) else 0 if kind is errors.Interrupted else 1
    assert kind("x").exit_code == want


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_it_is_for(kind):
    assert kind.__doc__


@pytest.mark.parametrize(
    ("got", "valid", "hint"),
    [
        ("simulat", ["simulate", "train"], "Did you mean 'simulate'?"),
        ("g4_w", ["G4_W", "G4_Si"], "Did you mean 'G4_W'?"),
        ("layres", ["layers", "mesh"], "Did you mean 'layers'?"),
        ("xyz", ["b", "a"], "Valid names: a, b."),
        ("xyz", [], ""),
    ],
)
def test_the_nearest_name(got, valid, hint):
    assert nearest(got, valid) == hint


def test_a_long_list_of_names_is_cut():
    hint = nearest("zzz", [f"name{i:02}" for i in range(50)])
    assert hint.endswith("name11, ….")
    assert "name12" not in hint
