"""Killed at any moment, `validate` and `generate` succeed when run again, and leave nothing behind."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import caloforge
from caloforge.files import partial_path
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.store import save_model
from caloforge.models.training_metadata import facts_of_file
from caloforge.showers import ShowerWriter

SEED = 20
FEW, MANY = 2, 20
DETECTOR = ("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))


def write(path, seed, n):
    rng = np.random.default_rng(seed)
    energy = rng.uniform(10e3, 100e3, n).astype(np.float32)
    energy[:2] = 10e3, 100e3
    cells = rng.exponential(size=(n, 25, 5, 5)) * energy[:, None, None, None] / 1e5
    ones = np.ones(n)
    with ShowerWriter(path, caloforge.load_detector(*DETECTOR), {"engine": "none"}) as writer:
        writer.append(
            caloforge.ShowerBatch(cells, energy, ones * np.pi / 2, 0 * ones, np.full(n, 11, np.int32))
        )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two shower files and a model of random weights."""
    folder = tmp_path_factory.mktemp("inputs")
    write(folder / "truth.h5", 1, 120)
    write(folder / "other.h5", 2, 120)
    config = read_model_config({"family": "gan3d", "preset": "debug"}, "model")
    model = build_model(config, caloforge.load_detector(*DETECTOR), facts_of_file(folder / "truth.h5"))
    save_model(model, folder / "model", dict(model.state_dict()), merit=0.5, step=1, seed=1)
    return folder


def commands(inputs):
    """By name, the command line and what it makes."""
    truth, other, model = (str(inputs / name) for name in ("truth.h5", "other.h5", "model"))
    backend = ["--backend", "torch", "--precision", "fp32"]
    report = ["-o", "report", "--no-classifier", "--allow-undecided", "--workers", "1"]
    return {
        "report": (["validate", truth, other, *report], "report"),
        "model": (["validate", truth, model, *report, "--no-pdf"], "report"),
        "showers": (["generate", model, "-n", "1000", "--seed", "3", "-o", "made.h5", *backend], "made.h5"),
    }


def start(arguments, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "caloforge", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(arguments, folder):
    """Run to the end; seconds."""
    begin = time.monotonic()
    process = start(arguments, folder)
    _, errors = process.communicate(timeout=120)
    # a verdict is no failure
    assert process.returncode in (0, 3), errors
    return time.monotonic() - begin


def kill(arguments, folder, after, delay):
    """Kill the process and none of its children, `delay` seconds after it begins to write, or starts."""
    process = start(arguments, folder)
    if after == "writing":
        while process.poll() is None and not list(folder.glob(".*.partial")):
            time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def content(path):
    """What was made, without the moment and the place it was made at."""
    if path.is_dir():
        metrics = json.loads((path / "metrics.json").read_text())
        for entry in ("provenance", "truth", "generators"):
            metrics[entry] = _timeless(metrics[entry])
        return (
            metrics,
            (path / "figures.json").read_text(),
            sorted(p.name for p in (path / "figures").iterdir()),
        )
    with h5py.File(path) as file:
        return {name: file[name][:].tobytes() for name in file if name != "seconds"}


def _timeless(value):
    """Without what differs from run to run."""
    if isinstance(value, dict):
        skipped = ("created", "sha256", "median_seconds", "command")
        return {key: _timeless(entry) for key, entry in value.items() if key not in skipped}
    return value


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """By name, what an undisturbed run makes and how long it takes; made when it is asked for."""
    known = {}

    def get(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            arguments, made = commands(inputs)[name]
            known[name] = finish(arguments, folder), content(folder / made)
        return known[name]

    return get


def check(name, inputs, whole, folder, rng, kills):
    seconds, expected = whole(name)
    arguments, made = commands(inputs)[name]
    for number in range(kills):
        after = ("writing", "starting")[number % 2]
        kill(arguments, folder, after, rng.uniform(0, 0.3 if after == "writing" else seconds))
        if (folder / made).exists():
            # it was faster than this time
            remove(folder / made)
        finish(arguments, folder)
        assert [path.name for path in folder.iterdir()] == [made]
        assert content(folder / made) == expected
        remove(folder / made)


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "showers"])
def test_a_killed_verb_succeeds_again_and_leaves_nothing(name, inputs, whole, tmp_path):
    check(name, inputs, whole, tmp_path, random.Random(SEED), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["report", "model", "showers"])
def test_many_kills(name, inputs, whole, tmp_path):
    count = 1 if os.environ.get("CALOFORGE_SCALE") == "small" else MANY
    check(name, inputs, whole, tmp_path, random.Random(SEED + 1), count)


def test_folders_of_killed_processes_are_swept_and_others_left(tmp_path):
    report = tmp_path / "report"
    own = partial_path(report)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    of_dead, of_living = (own.with_name(own.name.replace(str(os.getpid()), str(p))) for p in (dead.pid, 1))
    for folder in (of_dead, of_living):
        (folder / "figures").mkdir(parents=True)
        (folder / "figures" / "a.pdf").write_text("x")
    assert partial_path(report) == own
    assert not of_dead.exists() and of_living.exists()
