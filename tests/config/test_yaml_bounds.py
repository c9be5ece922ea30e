"""YAML of strangers: bounded in time and memory, and plain data alone."""

import os
import time

import pytest

from caloforge.config import apply_overrides, build, parse_yaml, read_yaml
from caloforge.errors import ConfigError
from caloforge.run import RunConfig, load_run, recipe_text
from caloforge.yaml_loader import MAX_BYTES, MAX_DEPTH


def nested(first, between):
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 12):
        inside = ",".join([f"*a{number - 1}"] * 9)
        lines.append(f"a{number}: &a{number} {between.format(inside)}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested("[x]", "[{}]"), "more than 50000 values"),
        (nested("{x: 1}", "{{<<: [{}]}}"), "more than 50000 values"),
        (nested("[x]", "{{k: [{}]}}"), "more than 50000 values"),
        ("a: &x " + "y" * 100_000 + "\nb: [" + "*x, " * 1000 + "]", "more than 50000 values"),
        ("a: [" + "1," * 60_000 + "]", "more than 50000 values"),
        ("a: " + "[" * 100 + "]" * 100, f"nested more than {MAX_DEPTH} levels"),
        ("{" * 100_000, f"nested more than {MAX_DEPTH} levels"),
        ("a: " + "- " * 5000, "line 1"),
    ],
)
def test_documents_without_bounds(text, message):
    start = time.process_time()
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "run.yaml")
    assert time.process_time() - start < 10


def test_a_few_aliases_are_fine():
    assert parse_yaml("a: &a {x: 1}\nb: [*a, *a]\n", "run.yaml") == {"a": {"x": 1}, "b": [{"x": 1}] * 2}


VALUES = [
    ("2026-01-01", "is a date, which no setting is"),
    ("2026-01-01T10:00:00Z", "is a date"),
    ("!!timestamp x", "is a date"),
    ("!!timestamp [1]", "is a date"),
    ("!!binary aGk=", "binary data"),
    ("!!set {a}", "a set"),
    ("!!omap [a: 1]", "an ordered mapping"),
    ("!!pairs [a: 1]", "a list of pairs"),
    ("9" * 5000, "a number of 5000 characters"),
    ("0x" + "9" * 5000, "a number of 5002 characters"),
    ("1." + "9" * 5000, "a number of 5002 characters"),
    ("4:00:00", "'4:00:00' is no number to the base of 10"),
    ("1:30.5", "'1:30.5' is no number to the base of 10"),
    ("0x10", "'0x10' is no number"),
    ("0b11", "'0b11' is no number"),
    ("010", "'010' is no number"),
    ("!!int 5x", "'5x' is no number"),
    ("!!int ''", "is no number"),
    ("!!float x", "no value of the type 'float'"),
    ("!!bool maybe", "no value of the type 'bool'"),
    ("!!map 3", "no value of the type 'map'"),
    ("!!python/object/apply:os.system ['true']", "python/object/apply"),
]


@pytest.mark.parametrize(("value", "message"), VALUES)
def test_what_no_setting_is(value, message):
    with pytest.raises(ConfigError, match=rf"^run\.yaml line 2, column 4: not valid YAML: .*{message}"):
        parse_yaml(f"x: 1\na: {value}\n", "run.yaml")
    with pytest.raises(ConfigError, match=rf"^--set (?s:.*)not valid YAML: .*{message}"):
        apply_overrides({}, [f"a={value}"])


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("-5", -5), ("+7", 7), ("1_000", 1000), ("1.5", 1.5), ("-1.5e+3", -1500.0)],
)
def test_numbers_to_the_base_of_ten(value, number):
    assert parse_yaml(f"a: {value}", "x") == {"a": number}


@pytest.mark.parametrize(
    "setting",
    [
        "seed=１２",
        "seed='１２'",
        "seed=1e400",
        "seed=" + "9" * 30,
        "seed=4:00:00",
        "training.batch_size=0x10",
        "training.batch_size=12.5",
        "beam.energy.max=２０ GeV",
        "beam.energy.max=1e300 TeV",
        "beam.energy={kind: fixed, value: 1e-300 eV}",
        "training.optimizer.rates={generator: -1}",
        "training.optimizer.rates={generator: 0}",
        "training.optimizer.rates={generator: .nan}",
        "detector.mesh.cell_x=1e-300 mm",
        "detector.layers.１.repeat=2",
        f"detector.layers.{'9' * 5000}.repeat=2",
        "description=2026-01-01",
        'name="\\0"',
        'detector="a\\0.yaml"',
    ],
)
def test_a_run_refuses(setting):
    with pytest.raises(ConfigError):
        load_run("demo", [setting])


def test_large_files(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(recipe_text("demo") + "#" * MAX_BYTES)
    with pytest.raises(ConfigError, match="larger than 1000 kB"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="larger than 1000 kB"):
        read_yaml("/dev/zero")


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="a pipe, expected a file"):
        read_yaml(tmp_path / "run.yaml")


def test_a_pipe_of_the_shell_is_read():
    reading, writing = os.pipe()
    os.write(writing, recipe_text("demo").encode())
    os.close(writing)
    assert build(RunConfig, load_run(f"/dev/fd/{reading}").model_dump(mode="json"), "x").name == "demo"
    os.close(reading)
