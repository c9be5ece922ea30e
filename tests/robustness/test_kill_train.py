"""`train` killed anywhere: the same command with --resume gives what an undisturbed training gives."""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import caloforge
from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.showers import ShowerWriter
from caloforge.training.preflight import synthetic_showers

FORKED = Path(__file__).with_name("forked.py")
LAYERS = [
    {
        "repeat": 6,
        "slabs": [
            {"material": "G4_W", "thickness": "3 mm"},
            {"material": "G4_Si", "thickness": "0.5 mm", "active": True},
        ],
    }
]
MESH = {"kind": "cartesian", "nx": 8, "ny": 8, "cell_x": "5 mm", "cell_y": "5 mm"}
DETECTOR = {"name": "toy", "width": "1 m", "layers": LAYERS, "mesh": MESH}
BEAM = {"energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}}
# 54 of 60 showers are trained on, in batches of 11: five steps an epoch
TRAINING = {
    "batch_size": 11,
    "precision": "fp32",
    "threads": 1,
    "ema": 0.9,
    "checkpoint_steps": 3,
    "evaluation": {"every_epochs": 0.4},
}
MODELS = {
    "gan3d": {"family": "gan3d", "preset": "debug"},
    "layered": {"family": "layered", "preset": "debug", "likelihood_steps": 4, "matching_steps": 4},
    "frozen": {"family": "frozen", "preset": "debug"},
}
ENDS = {"steps": {"max_steps": 7}, "epochs": {"epochs": 2}}
CASES = [(family, end) for family in MODELS for end in ENDS if family != "frozen" or end == "epochs"]
# kills of each case in the gate, and in the slow form
FEW = 2
MANY = 1 if os.environ.get("CALOFORGE_SCALE") == "small" else 40


@dataclass
class Trainings:
    """Trainings in processes that can be killed."""

    process: subprocess.Popen
    folder: Path

    def run(self, case, out, *options, kill=0):
        command = [
            "train",
            str(self.folder / f"{'-'.join(case)}.yaml"),
            "--data",
            str(self.folder / "train.h5"),
        ]
        job = {
            "arguments": [*command, "-o", str(out), "--no-progress", *options],
            "folder": str(out),
            "kill": kill,
        }
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    for family, end in CASES:
        document = {"seed": 1, "detector": DETECTOR, "beam": BEAM, "model": MODELS[family]}
        document["training"] = TRAINING | ENDS[end]
        (folder / f"{family}-{end}.yaml").write_text(yaml.safe_dump(document))
    detector = caloforge.load_run(folder / "gan3d-steps.yaml").detector
    with ShowerWriter(folder / "train.h5", detector, {}) as writer:
        writer.append(synthetic_showers(detector, build(BeamConfig, BEAM, "beam"), 60))
    command = [sys.executable, str(FORKED)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Trainings(process, folder)


@pytest.fixture(scope="module")
def undisturbed(trainings):
    """By case the directory of a training that nobody killed, and the events in it."""
    found = {}

    def get(case):
        if case not in found:
            out = trainings.folder / f"{'-'.join(case)}-undisturbed"
            result = trainings.run(case, out)
            assert result["code"] == 0, result["output"]
            found[case] = (out, result["events"])
        return found[case]

    return get


def content(out):
    """Every file below a run directory with what must be the same however often it was interrupted."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]
        elif path.name == "state.json":
            state = json.loads(path.read_text())
            found[name] = {**state, "progress": {**state["progress"], "seconds": 0}}
        elif path.name == "model.json":
            card = json.loads(path.read_text())
            found[name] = {**card, "provenance": None}
        elif path.name == "README.md":
            # it has the time in it
            found[name] = None
        else:
            found[name] = path.read_bytes()
    return found


def stamps(out):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("*")}


def killed_and_resumed(trainings, undisturbed, case, out, kills):
    """Kill a training and its continuations one after the other, then let it end."""
    for kill in kills:
        result = trainings.run(case, out, "--resume", kill=kill)
        assert result["code"] in (0, -9), result["output"]
    result = trainings.run(case, out, "--resume")
    assert result["code"] == 0, (kills, result["output"])
    assert content(out) == content(undisturbed(case)[0]), kills


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_killed_training_ends_as_if_nothing_had_been(trainings, undisturbed, case, tmp_path):
    _, events = undisturbed(case)
    drawn = random.Random(f"{case}")
    # the last event is the removal of the lock: everything is done and saved
    for number, kill in enumerate([*drawn.sample(range(1, events), FEW - 1), events]):
        killed_and_resumed(trainings, undisturbed, case, tmp_path / str(number), [kill])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_resuming_at_the_end_touches_nothing_and_says_so(trainings, undisturbed, case):
    out, _ = undisturbed(case)
    before = {path: stamp for path, stamp in stamps(out).items() if path != out}
    result = trainings.run(case, out, "--resume")
    assert result["code"] == 0
    assert "nothing is left to train" in result["output"]
    assert stamps(out).items() >= before.items() and len(stamps(out)) == len(before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_many_kills_and_more_while_resuming(trainings, undisturbed, case, tmp_path):
    _, events = undisturbed(case)
    drawn = random.Random(f"slow {case}")
    for kill in drawn.sample(range(1, events + 1), min(MANY, events)):
        again = [drawn.randint(1, events) for _ in range(drawn.randint(0, 2))]
        killed_and_resumed(trainings, undisturbed, case, tmp_path / str(kill), [kill, *again])
