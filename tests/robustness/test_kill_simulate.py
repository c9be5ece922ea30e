"""`simulate` killed at any moment: the same command, always with --resume, makes the same file, nothing left.

Moments are drawn from a seed, within the time that an undisturbed run takes, or named.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from caloforge.showers import ShowerFile

pytestmark = [pytest.mark.geant4, pytest.mark.slow]

SMALL = os.environ.get("CALOFORGE_SCALE") == "small"
N = 20
RUN = """
name: killed
detector: {preset: clic-ecal-25, mesh: {nx: 9, ny: 7}}
beam: {energy: {kind: flat, min: 1 GeV, max: 3 GeV}}
model: {family: frozen}
"""
COLUMNS = ("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id")

# kills itself before or after a step of the campaign; arguments: what, when, then those of caloforge
STEPPED = """
import os, signal, sys
from caloforge import cli
from caloforge.fullsim import campaign

owner, name = {
    "rename": (campaign.ShowerWriter, "close"),
    "sweep": (campaign.Parts, "remove"),
}[sys.argv[1]]
step = getattr(owner, name)

def killed(*arguments, **keywords):
    if sys.argv[2] == "after":
        step(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
sys.exit(cli.main(sys.argv[3:]))
"""
# the same in the middle of the removal of the finished blocks
HALF_SWEPT = """
import os, pathlib, signal, sys
from caloforge import cli

unlink, count = pathlib.Path.unlink, []

def killed(path, **keywords):
    unlink(path, **keywords)
    count.append(path.suffix == ".npz")
    if sum(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

pathlib.Path.unlink = killed
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The arguments of a job, without its output."""
    path = tmp_path_factory.mktemp("job") / "run.yaml"
    path.write_text(RUN)
    return ["simulate", str(path), "-n", str(N), "--seed", "5", "--workers", "2", "--resume", "--json", "-o"]


@pytest.fixture(scope="module")
def undisturbed(job, tmp_path_factory):
    """What a run that nobody kills makes, and the seconds it takes."""
    out = tmp_path_factory.mktemp("undisturbed") / "t.h5"
    began = time.monotonic()
    answer = run(job, out)
    assert answer["notes"] == [f"{N} showers cannot be validated, which takes 100 or more"]
    return read(out), time.monotonic() - began


@pytest.fixture(scope="module")
def unmerged(job, tmp_path_factory):
    """What is left of a run that was killed when every shower was there, before the file got its name."""
    out = tmp_path_factory.mktemp("unmerged") / "t.h5"
    kill(job, out, "rename before")
    assert [path.name for path in out.parent.glob("t.h5*")] == ["t.h5.parts"]
    return out.parent


def kill(job, out, moment):
    code = HALF_SWEPT if moment == "half swept" else STEPPED
    process = start(job, out, "-c", code, *moment.split())
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL


def start(job, out, *code):
    return subprocess.Popen(
        [sys.executable, *(code or ("-m", "caloforge")), *job, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(job, out):
    words, errors = (process := start(job, out)).communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(words)


def killed_at(job, out, seconds):
    """Whether it was killed and had not ended before."""
    process = start(job, out)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def read(out):
    with ShowerFile(out) as file:
        batch = file.read()
    return [getattr(batch, name) for name in COLUMNS]


def assert_undisturbed(out, expected):
    for one, other in zip(read(out), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    # no blocks, no partial files, no locks
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_a_random_moment(job, undisturbed, tmp_path, seed):
    expected, seconds = undisturbed
    out = tmp_path / "t.h5"
    # the first second is that of Python alone
    killed_at(job, out, random.Random(seed).uniform(min(1, seconds / 2), seconds))
    run(job, out)
    assert_undisturbed(out, expected)


def test_killed_before_the_rename(job, undisturbed, unmerged, tmp_path):
    out = tmp_path / "t.h5"
    shutil.copytree(unmerged, tmp_path, dirs_exist_ok=True)
    run(job, out)
    assert_undisturbed(out, undisturbed[0])


@pytest.mark.parametrize("moment", ["sweep before", "half swept"])
def test_killed_after_the_rename(job, undisturbed, unmerged, tmp_path, moment):
    out = tmp_path / "t.h5"
    shutil.copytree(unmerged, tmp_path, dirs_exist_ok=True)
    kill(job, out, moment)
    before = out.stat().st_mtime_ns
    assert out.with_name("t.h5.parts").is_dir()
    # without --resume it is what any finished file is, and nothing is lost
    process = start([word for word in job if word != "--resume"], out)
    words, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "exists already; give --force to replace it, --resume to keep it" in words
    answer = run(job, out)
    assert "finished already" in answer["notes"][0]
    assert out.stat().st_mtime_ns == before
    assert_undisturbed(out, undisturbed[0])


@pytest.mark.timeout(1800)
def test_killed_a_hundred_times(job, undisturbed, tmp_path):
    """Every job is killed again and again until it ends by itself."""
    expected, seconds = undisturbed
    draw = random.Random(1)
    kills = finished = 0
    while kills < (3 if SMALL else 100):
        folder = tmp_path / str(finished)
        folder.mkdir()
        out = folder / "t.h5"
        while killed_at(job, out, draw.uniform(0, 1.2 * seconds)):
            kills += 1
        assert_undisturbed(out, expected)
        finished += 1
    print(f"{kills} kills of {finished} jobs")
