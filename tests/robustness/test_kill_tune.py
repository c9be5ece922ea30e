"""A search that is killed: nothing of it lives on, nothing is lost, and the same command ends it well."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tuning"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import synthetic
from toy import DETECTOR, MODEL, make_showers

from caloforge.files import write_text
from caloforge.geometry import load_detector
from caloforge.showers import ShowerWriter
from listening import beyond_loopback, family, listening

TESTS = Path(__file__).parents[1]

GROUPS, TRIALS = 4, 11
# what a search may need to begin, and its processes to end, on a busy machine, s
PATIENCE, END = 90, 20


@pytest.fixture
def folder(tmp_path):
    """A study of the toy model, with its showers."""
    run = {
        "name": "toy",
        "detector": "toy.yaml",
        "beam": {"particle": "e-", "energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
        "model": MODEL,
        "training": {"batch_size": 12, "epochs": 2, "precision": "fp32", "evaluation": {"share": 0.2}},
    }
    study = {
        "run": "run.yaml",
        "data": "train.h5",
        "seed": 3,
        "space": synthetic.SPACE,
        "sampler": {"kind": "random"},
        "layout": {"groups": GROUPS, "cores": 0.25},
        "max_trials": TRIALS,
    }
    for name, document in (("toy", DETECTOR), ("run", run), ("study", study)):
        write_text(tmp_path / f"{name}.yaml", yaml.safe_dump(document))
    with ShowerWriter(tmp_path / "train.h5", load_detector(DETECTOR), {}) as writer:
        writer.append(make_showers(240))
    return tmp_path


# the search of `caloforge tune`, of a function instead of trainings
SYNTHETIC = """
import sys
from pathlib import Path
import synthetic
from caloforge.tuning.config import load_study
from caloforge.tuning.study import run_study
folder = Path(sys.argv[1])
run_study(load_study(folder / "study.yaml"), folder / "out", folder=folder, work=synthetic.work)
"""


def begin(folder, *, trainings=False):
    if trainings:
        words = [
            "-m",
            "caloforge",
            "tune",
            str(folder / "study.yaml"),
            "-o",
            str(folder / "out"),
            "--no-progress",
        ]
    else:
        words = ["-c", SYNTHETIC, str(folder)]
    path = os.pathsep.join(filter(None, (str(TESTS / "tuning"), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, env=environment)


def wait_for(condition, process=None, limit=PATIENCE):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)


def alive(pids):
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and state(pid) != "Z"}


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def kill(process):
    """Kill a search alone, as the system does that has no memory left; its other processes must follow."""
    others = family(process.pid) - {process.pid}
    process.kill()
    process.wait()
    wait_for(lambda: not alive(others), limit=END)


def finish(folder, **how):
    process = begin(folder, **how)
    assert process.wait(PATIENCE) == 0
    return json.loads((folder / "out/study.json").read_text())


def left_over(out):
    return [path for path in out.rglob("*") if "partial" in path.name]


@pytest.mark.slow
def test_a_killed_search_leaves_no_process_and_goes_on_where_it_was(folder):
    out = folder / "out"
    process = begin(folder)
    wait_for(lambda: len(list(out.glob("trials/*/fold-0/result.json"))) >= 4, process)
    # meanwhile nobody else can reach it
    pids = family(process.pid)
    assert listening(pids) and not beyond_loopback(pids)
    kill(process)
    begun = {path.parent.name for path in out.glob("trials/*/calls")}
    done = {path.parent.parent.name for path in out.glob("trials/*/fold-0/result.json")}
    assert len(done) >= 4 and len(begun) < TRIALS
    document = finish(folder)
    # killed in the middle of a suggestion, it leaves one more that never ran
    found = {t["number"]: t for t in document["trials"] if "while it was suggested" not in t["reason"]}
    assert {t["state"] for t in found.values()} == {"complete"} and len(found) == TRIALS
    calls = {n: len((out / f"trials/{n:05d}/calls").read_text().splitlines()) for n in found}
    for number, trial in found.items():
        assert trial["figures"]["merit"] == pytest.approx(synthetic.merit(trial["parameters"]))
        # what was done is not done again, what was running is
        assert calls[number] == 1 if f"{number:05d}" in done else calls[number] <= 2
    assert sum(calls.values()) <= TRIALS + GROUPS
    assert not left_over(out)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_searches_killed_at_random_moments_end_as_if_they_had_not_been(folder):
    """Trainings with the verb itself, killed at any moment from its start on; then compared with `train`."""
    small = os.environ.get("CALOFORGE_SCALE") == "small"
    rng = random.Random(5)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study |= {"max_trials": 2 if small else 6, "layout": {"groups": 2, "cores": 0.5}}
    study["changes"] = {"training": {"epochs": 4, "checkpoint_steps": 3, "threads": 1}}
    write_text(folder / "study.yaml", yaml.safe_dump(study))
    out, kills = folder / "out", 0
    while kills < (1 if small else 20):
        process = begin(folder, trainings=True)
        try:
            process.wait(rng.uniform(2, 30))
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
        else:
            assert process.returncode == 0
            break
    document = finish(folder, trainings=True)
    ran = [t for t in document["trials"] if t["state"] == "complete"]
    assert len(ran) == study["max_trials"] and not left_over(out)
    for trial in ran:
        path = out / trial["folder"]
        again = folder / "again"
        words = [
            "train",
            path / "run.yaml",
            "--data",
            folder / "train.h5",
            "-o",
            again,
            "--force",
            "--no-progress",
        ]
        words += ["--seed", str(study["seed"])]
        subprocess.run(
            [sys.executable, "-m", "caloforge", *map(str, words)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        weights = [sorted((p / "model").glob("*.safetensors")) for p in (path / "fold-0", again)]
        assert [p.read_bytes() for p in weights[0]] == [p.read_bytes() for p in weights[1]] != []


@pytest.mark.slow
def test_a_signal_ends_a_search_and_all_its_processes(folder):
    process = begin(folder)
    wait_for(lambda: list((folder / "out").glob("trials/*/fold-0/result.json")), process)
    others = family(process.pid) - {process.pid}
    process.terminate()
    assert process.wait(PATIENCE) != 0
    wait_for(lambda: not alive(others), limit=END)
    assert finish(folder)["counts"]["complete"] == TRIALS
