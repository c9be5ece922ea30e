"""The loop: what it writes, that it can be continued bit for bit, and what it stops at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy import DETECTOR, MODEL

from caloforge.errors import ConfigError, Interrupted, ModelError, TrainingError
from caloforge.models.base import Phase
from caloforge.models.released import read_card
from caloforge.models.store import load_model
from caloforge.showers import ShowerFile, ShowerWriter
from caloforge.training.checkpoint import checkpoints
from caloforge.training.loop import train_model


def final(out):
    return checkpoints(out / "checkpoints")[-1]


def assert_same_state(first, second):
    """Every tensor of two checkpoints, bit for bit; and their progress but for the time."""
    names = sorted(path.name for path in first.glob("*.safetensors"))
    assert names == sorted(path.name for path in second.glob("*.safetensors"))
    for name in names:
        one, other = load_file(first / name), load_file(second / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    states = [json.loads((path / "state.json").read_text())["progress"] for path in (first, second)]
    assert {**states[0], "seconds": 0} == {**states[1], "seconds": 0}


def rows(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in lines]


def test_what_a_training_leaves(new_model, data, settings, tmp_path):
    seen = []
    out = tmp_path / "run"
    result = train_model(
        new_model(), data, settings(), out, seed=1, progress=lambda *state: seen.append(state)
    )
    # 204 showers are trained on, in batches of 12
    assert result.steps == 34
    assert result.reason == "epochs"
    assert [state[0] for state in seen] == list(range(1, 35))
    assert all(state[1] == 34 for state in seen)
    written = rows(out)
    merits = [row["eval_merit"] for row in written if "eval_merit" in row]
    assert len(merits) == 2
    assert result.best == min(merits)
    losses = [row for row in written if "g_loss" in row]
    assert [row["step"] for row in losses] == [10, 20, 30]
    assert {"d_real_bce", "g_sum", "learning_rate"} <= losses[0].keys()
    model = load_model(out)
    assert model.ranges.energy[1] < 1e5
    assert len(checkpoints(out / "checkpoints")) == 2
    assert min(result.seconds.compute, result.seconds.input, result.seconds.evaluation) > 0
    assert 0 < result.seconds.input_fraction < 1


def test_the_same_seed_gives_the_same_weights(new_model, data, settings, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_model(new_model(), data, settings(epochs=1), tmp_path / name, seed=seed)
    assert_same_state(final(tmp_path / "a"), final(tmp_path / "b"))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    weights = [load_file(final(tmp_path / name) / "model.safetensors") for name in "ac"]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def interrupt_at(wanted):
    def progress(step, _total, _note):
        if step == wanted:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def test_resume_in_the_middle_of_an_epoch_is_exact(new_model, data, settings, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_model(new_model(), data, settings(), whole, seed=1)
    # 23 steps are one epoch of 17 and 6 of the next
    with pytest.raises(Interrupted):
        train_model(new_model(), data, settings(), parts, seed=1, progress=interrupt_at(23))
    result = train_model(new_model(), data, settings(), parts, seed=1, resume=True)
    assert result.steps == 34
    assert_same_state(final(whole), final(parts))


def write_run(folder):
    document = {
        "name": "toy",
        "seed": 1,
        "detector": DETECTOR,
        "beam": {"energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
        "model": MODEL,
        "training": {
            "batch_size": 12,
            "epochs": 6,
            "precision": "fp32",
            "threads": 1,
            "ema": 0.9,
            "evaluation": {"share": 0.15, "showers": 36},
        },
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def start(run, data, out, *more):
    command = [sys.executable, "-m", "caloforge", "train", str(run), "--data", str(data), "-o", str(out)]
    return subprocess.Popen(
        [*command, *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_checkpoint(process, out):
    limit = time.monotonic() + 120
    while not checkpoints(out / "checkpoints"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "no checkpoint came"
        time.sleep(0.005)


def communicate(process, timeout=150):
    try:
        return process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_training_continues_bit_for_bit(data, tmp_path, number):
    run, whole, cut = write_run(tmp_path), tmp_path / "whole", tmp_path / "cut"
    reference, killed = start(run, data, whole), start(run, data, cut)
    try:
        wait_for_checkpoint(killed, cut)
        killed.send_signal(number)
    finally:
        _, message = communicate(killed)
        _, errors = communicate(reference)
    assert reference.returncode == 0, errors
    assert "--resume" in message or number == signal.SIGKILL
    assert killed.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    resumed = start(run, data, cut, "--resume")
    _, errors = communicate(resumed)
    assert resumed.returncode == 0, errors
    assert_same_state(final(whole), final(cut))
    assert rows(cut) == rows(whole)


def test_an_interrupt_saves_and_says_how_to_go_on(new_model, data, settings, tmp_path):
    with pytest.raises(Interrupted, match=r"step 5.*--resume"):
        train_model(new_model(), data, settings(), tmp_path / "run", seed=1, progress=interrupt_at(5))
    assert final(tmp_path / "run").name == "step-00000005"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


class Poisoned:
    """A step whose loss is not finite from step 3 on."""

    def __init__(self, model):
        self.model, self.step_of = model, model.step
        self.count = 0

    def __call__(self, batch):
        self.count += 1
        for phase in self.step_of(batch):
            bad = self.count > 3 and phase.optimizer == "generator"
            yield Phase(phase.optimizer, phase.loss * float("nan"), phase.logs) if bad else phase


def test_a_loss_that_is_not_finite_stops_before_the_update(new_model, data, settings, tmp_path):
    model = new_model()
    model.step = Poisoned(model)
    with pytest.raises(TrainingError, match=r"step 3.*generator.*not finite.*gradient_clip"):
        train_model(model, data, settings(), tmp_path / "run", seed=1)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_empty_images_stop_the_training(new_model, data, settings, tmp_path):
    model = new_model()
    with torch.no_grad():
        model.generator.layers[-1].conv.weight.zero_()
        model.generator.layers[-1].conv.bias.fill_(-100.0)
    with pytest.raises(TrainingError, match="collapsed"):
        train_model(model, data, settings(), tmp_path / "run", seed=1)


def test_patience_ends_the_training(new_model, data, settings, tmp_path):
    evaluation = {"share": 0.15, "showers": 36, "every_epochs": 0.1, "patience": 2}
    frozen = {"kind": "rmsprop", "learning_rate": 1e-30}
    config = settings(evaluation=evaluation, optimizer=frozen, epochs=50, ema=None)
    result = train_model(new_model(batch_norm_momentum=1e-30), data, config, tmp_path / "run", seed=1)
    assert result.reason == "patience"
    # the first evaluation is the best, two more bring nothing
    assert result.steps == 6
    assert result.stalled_at is None


def test_a_training_that_stalls_says_so(new_model, data, settings, tmp_path):
    evaluation = {"share": 0.15, "showers": 36, "every_epochs": 0.1}
    frozen = {"kind": "rmsprop", "learning_rate": 1e-30}
    config = settings(evaluation=evaluation, optimizer=frozen, max_steps=12, ema=None)
    seen = []
    result = train_model(
        new_model(batch_norm_momentum=1e-30),
        data,
        config,
        tmp_path / "run",
        seed=1,
        progress=lambda step, total, note: seen.append(note),
    )
    # evaluated every second step
    assert result.stalled_at == 2
    assert seen[-1].endswith("at step 2")


def test_limits(new_model, data, settings, tmp_path):
    assert train_model(new_model(), data, settings(max_steps=4), tmp_path / "a", seed=1).reason == "steps"
    config = settings(epochs=1000, max_minutes=0.005)
    assert train_model(new_model(), data, config, tmp_path / "b", seed=1).reason == "minutes"


def test_resume_refuses_another_training(new_model, data, settings, tmp_path):
    out = tmp_path / "run"
    train_model(new_model(), data, settings(max_steps=3), out, seed=1)
    with pytest.raises(TrainingError, match="seed: 1 then, 2 now"):
        train_model(new_model(), data, settings(), out, seed=2, resume=True)
    with pytest.raises(TrainingError, match=r"training\.batch_size: 12 then, 6 now"):
        train_model(new_model(), data, settings(batch_size=6), out, seed=1, resume=True)
    with pytest.raises(TrainingError, match=r'training\.precision: "fp32" then, "bf16" now'):
        train_model(new_model(), data, settings(precision="bf16"), out, seed=1, resume=True)
    with pytest.raises(TrainingError, match=r"model\.power: 0\.5 then, 0\.7 now"):
        train_model(new_model(power=0.7), data, settings(), out, seed=1, resume=True)
    with pytest.raises(TrainingError, match="no checkpoint"):
        train_model(new_model(), data, settings(), tmp_path / "none", seed=1, resume=True)


def test_resume_refuses_a_changed_checkpoint(new_model, data, settings, tmp_path):
    out = tmp_path / "run"
    train_model(new_model(), data, settings(max_steps=3), out, seed=1)
    weights = final(out) / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ModelError, match="tampered"):
        train_model(new_model(), data, settings(), out, seed=1, resume=True)
    weights.write_bytes(kept)
    state = final(out) / "state.json"
    document = json.loads(state.read_text())
    state.write_text(json.dumps(document | {"format_version": 7}))
    with pytest.raises(ModelError, match="version 7"):
        train_model(new_model(), data, settings(), out, seed=1, resume=True)
    state.write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        train_model(new_model(), data, settings(), out, seed=1, resume=True)


def test_half_a_checkpoint_is_not_seen(new_model, data, settings, tmp_path):
    out = tmp_path / "run"
    train_model(new_model(), data, settings(max_steps=3), out, seed=1)
    complete = final(out)
    partial = complete.with_name("step-00000009")
    shutil.copytree(complete, partial)
    (partial / "state.json").unlink()
    assert checkpoints(out / "checkpoints") == [complete]


def test_a_batch_holds_no_more_showers_than_there_are(new_model, data, settings, tmp_path):
    result = train_model(new_model(), data, settings(batch_size=300, max_steps=1), tmp_path / "run", seed=1)
    assert result.batch_size == result.parts["trained"]["showers"] < 300


def test_too_few_showers(new_model, data, settings, tmp_path):
    with ShowerFile(data) as file:
        few, detector = file.read(0, 3), file.detector
    short = tmp_path / "short.h5"
    with ShowerWriter(short, detector, {"engine": "made up"}, energy_meaning="visible") as writer:
        writer.append(few)
    with pytest.raises(ConfigError, match="3 showers are too few to train on; expected at least"):
        train_model(new_model(), short, settings(), tmp_path / "run", seed=1)


def test_the_toy_is_learnt(new_model, data, settings, tmp_path):
    evaluation = {"share": 0.15, "showers": 36, "every_epochs": 1}
    optimizer = {"kind": "adam", "learning_rate": 0.003, "momentum": 0.5}
    config = settings(epochs=12, evaluation=evaluation, optimizer=optimizer)
    result = train_model(new_model(), data, config, tmp_path / "run", seed=1)
    merits = [row["eval_merit"] for row in rows(tmp_path / "run") if "eval_merit" in row]
    assert min(merits[-4:]) < 0.6 * merits[0]
    assert result.stalled_at is None


def test_the_learning_rate_in_the_log_is_that_of_the_last_update(new_model, data, settings, tmp_path):
    model = new_model()
    phases = model.step
    model.step = lambda batch: (phase for phase in phases(batch) if phase.optimizer == "discriminator")
    optimizer = {"learning_rate": 0.003, "rates": {"discriminator": 0.0002}}
    train_model(model, data, settings(optimizer=optimizer, max_steps=10), tmp_path / "run", seed=1)
    assert [row["learning_rate"] for row in rows(tmp_path / "run") if "learning_rate" in row] == [0.0002]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_model_says_which_step_was_kept(new_model, data, settings, tmp_path, keep):
    evaluation = {"share": 0.15, "showers": 36, "keep": keep}
    train_model(new_model(), data, settings(evaluation=evaluation, max_steps=3), tmp_path / "run", seed=1)
    assert read_card(tmp_path / "run")["kept"] == keep
