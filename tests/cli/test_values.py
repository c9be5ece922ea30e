"""Values on the command line that cannot be meant: one line, exit code 1 or 2, nothing made."""

import numpy as np
import pytest

from caloforge.cli import main
from caloforge.geometry import load_detector
from caloforge.models.released import RELEASED
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter

LONG = "x" * 300


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a few showers in it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in (("few.h5", 60), ("truth.h5", 8)):
        detector = load_detector("clic-ecal-25", ("mesh.nx=15", "mesh.ny=15") if count == 60 else ())
        showers = rng.exponential(1, (count, *detector.shower_shape)).astype(np.float32)
        energy = np.full(count, 1e5)
        with ShowerWriter(tmp_path / name, detector, {"engine": "test"}) as writer:
            writer.append(
                ShowerBatch(showers, energy, np.full(count, np.pi / 2), np.zeros(count), np.full(count, 11))
            )
    return tmp_path


def refused(capsys, place, arguments):
    """The message of a command line that is refused and makes nothing."""
    before = sorted(place.rglob("*"))
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (code in (1, 2), out) == (True, "")
    assert err.startswith("error: ")
    assert len(err) <= 1100
    assert sorted(place.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    "value", ["1.5", "0x10", "0b1", "１２", "1e3", "0", "-1", "", " 2", "2_0", "9" * 5000]
)
@pytest.mark.parametrize("option", ["-n", "--threads", "--batch-size"])
def test_numbers_of_things(capsys, place, option, value):
    arguments = ["generate", "clic-electron", "-n", "1", "-o", "a.h5"]
    if option == "-n":
        arguments[3] = value
    else:
        arguments += [option, value]
    assert "expected an integer from 1 to" in refused(capsys, place, arguments)


@pytest.mark.parametrize("value", ["-1", "1.5", "１", "0x1", "9" * 20])
@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "demo", "-n", "1", "-o", "a.h5"],
        ["train", "demo", "--data", "few.h5", "-o", "r"],
        ["generate", "clic-electron", "-n", "1", "-o", "a.h5"],
        ["validate", "few.h5", "few.h5", "-o", "r"],
        ["demo", "-o", "d"],
        ["benchmark", "--quick"],
    ],
)
def test_seeds(capsys, place, arguments, value):
    assert "--seed" in refused(capsys, place, [*arguments, "--seed", value])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "clic-electron", "-n", "1", "-o", "a.h5", "--threads", "1000000"], "from 1 to 1024"),
        (["validate", "few.h5", "few.h5", "-o", "r", "--workers", "0"], "from 1 to 1024"),
        (["validate", "few.h5", "few.h5", "-o", "r", "--seed", str(2**32)], "from 0 to 4294967295"),
        (["simulate", "demo", "-n", "1", "-o", "a.h5", "-w", "0"], "from 1 to 1024"),
        (["generate", "clic-electron", "-n", "1", "-o", "a.h5", "--device", "tpu"], "expected cpu, cuda"),
        (["generate", "clic-electron", "-n", "1", "-o", "a.h5", "--device", "meta"], "expected cpu, cuda"),
        (["generate", "clic-electron", "-n", "1", "-o", "a.h5", "--device", ""], "expected cpu, cuda"),
        (["generate", "clic-electron", "-n", "1", "-o", "a.h5", "--device", "cuda:99"], "torch sees"),
        (["generate", "clic-electron", "-n", "1", "-o", "a.h5", "--energy", "１０ GeV"], "no energy"),
        (["generate", "clic-electron", "--like", "none.h5", "-o", "a.h5"], "none.h5: no such file"),
        (["generate", "clic-electron", "--like", "truth.h5", "-n", "9", "-o", "a.h5"], "smaller -n"),
        (["generate", "none", "-n", "1", "-o", "a.h5"], "none: no such directory"),
        (["card", "none"], "none: no such directory"),
        (["card", "./none"], "none: no such directory"),
        (["card", "clic-electron", "none"], "none: no such file"),
    ],
)
def test_one_line_each(capsys, place, arguments, message):
    assert message in refused(capsys, place, arguments)


@pytest.mark.parametrize("out", ["/", ".", "..", f"{LONG}.h5"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "demo"],
        ["simulate", "demo", "-n", "1"],
        ["generate", "clic-electron", "-n", "1"],
        ["convert", "truth.h5", "--to", "3dgan"],
        ["validate", "truth.h5", "clic-electron"],
        ["train", "demo", "--data", "few.h5"],
        ["demo"],
        ["benchmark", "--quick"],
    ],
)
def test_outputs_that_cannot_be(capsys, place, arguments, out):
    force = [] if out == ".." else ["--force"]
    refused(capsys, place, [*arguments, "-o", out, *force])


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", LONG],
        ["config", "show", f"{LONG}.yaml"],
        ["inspect", LONG],
        ["inspect", f"{LONG}.h5"],
        ["generate", LONG, "-n", "1", "-o", "a.h5"],
        ["generate", "clic-electron", "--like", LONG, "-o", "a.h5"],
        ["validate", LONG, "few.h5", "-o", "r"],
        ["validate", "few.h5", LONG, "-o", "r"],
        ["train", "demo", "--data", LONG, "-o", "r"],
        ["card", LONG],
        ["convert", LONG, "--to", "3dgan", "-o", "a"],
        ["import", LONG, "--format", "3dgan", "-o", "a.h5"],
        ["tune", LONG, "-o", "s"],
        ["benchmark", LONG],
        ["submit", "slurm", "train", LONG, "--data", "x", "-o", "y"],
    ],
)
def test_inputs_of_300_characters(capsys, place, arguments):
    refused(capsys, place, arguments)


def test_like_and_a_number_take_the_first(capsys, place):
    assert (
        main(["generate", "clic-electron", "--like", "truth.h5", "-n", "3", "-o", "a.h5", "--no-progress"])
        == 0
    )
    with ShowerFile(place / "truth.h5") as truth, ShowerFile(place / "a.h5") as made:
        assert len(made) == 3
        assert np.array_equal(made.column("incident_energy"), truth.column("incident_energy")[:3])
    assert (RELEASED / "clic-electron/model.json").is_file()


def test_check_is_not_ready_where_train_refuses(capsys, place, monkeypatch):
    monkeypatch.setattr("caloforge.commands.check._fullsim", lambda *_: {"text": "left out"})
    with ShowerFile(place / "few.h5") as file:
        three, detector = file.read(0, 3), file.detector
    with ShowerWriter(place / "three.h5", detector, {"engine": "test"}) as writer:
        writer.append(three)
    assert main(["train", "demo", "--data", "three.h5", "-o", "r"]) == 2
    told = capsys.readouterr().err
    for arguments, origin in ((["-n", "3"], "-n 3"), (["--data", "three.h5"], "three.h5")):
        assert main(["check", "demo", *arguments]) == 2
        out, _ = capsys.readouterr()
        assert "ready to run" not in out
        assert told.removeprefix("error: three.h5").strip() in out
        assert origin in out


def test_check_says_that_few_showers_cannot_be_validated(capsys, monkeypatch):
    monkeypatch.setattr("caloforge.commands.check._fullsim", lambda *_: {"text": "left out"})
    assert main(["check", "demo", "-n", "60"]) == 0
    assert "60 showers are too few to validate with, which takes 100" in capsys.readouterr().out
