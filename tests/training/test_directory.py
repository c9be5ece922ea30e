"""The run directory: locked, replaced only by what can replace it, not made by a refused training."""

import fcntl
import itertools
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from toy import DETECTOR, make_showers, train

import caloforge
from caloforge.errors import ConfigError, DataError, ModelError, OutputError, TrainingError
from caloforge.geometry import load_detector
from caloforge.models.store import load_model
from caloforge.showers import ShowerWriter
from caloforge.training import loop
from caloforge.training.checkpoint import checkpoints
from caloforge.training.directory import RunDirectory


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def refusals(tmp_path):
    """Options of trainings that cannot begin, and what is said of them."""
    few = tmp_path / "few.h5"
    with ShowerWriter(few, load_detector(DETECTOR), {}) as writer:
        writer.append(make_showers(3))
    return [
        ({"data": tmp_path / "absent.h5"}, DataError, "no such file"),
        ({"data": few}, ConfigError, "too few to train on"),
        ({"start": tmp_path / "absent"}, ModelError, "absent"),
        ({"set_": ["training.trackers=[mlflow]"]}, caloforge.errors.CaloforgeError, "mlflow"),
        ({"set_": ["model.generator.latent=0"]}, ConfigError, "latent"),
    ]


@pytest.fixture
def no_trackers(monkeypatch):
    monkeypatch.setattr("caloforge.training.log.importlib.util.find_spec", lambda _name: None)


def test_a_refused_training_leaves_nothing_and_the_corrected_command_works(
    run,
    data,
    tmp_path,
    no_trackers,
):
    out = tmp_path / "runs" / "first"
    for options, error, words in refusals(tmp_path):
        with pytest.raises(error, match=words):
            caloforge.train(run, out=out, progress=False, **({"data": data} | options))
        assert not out.parent.exists()
    assert train(run, data, out, 1)["steps"] == 1
    assert not list(out.glob(".*"))


def test_force_refused_costs_nothing_of_the_old_run(run, data, tmp_path, no_trackers):
    out = tmp_path / "run"
    train(run, data, out, 2)
    before = files(out)
    for options, error, words in refusals(tmp_path):
        with pytest.raises(error, match=words):
            caloforge.train(run, out=out, force=True, progress=False, **({"data": data} | options))
        assert files(out) == before


def test_force_that_fails_before_it_has_saved_costs_nothing_either(run, data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train(run, data, out, 2)
    before = files(out)

    def fail(*_arguments, **_options):
        raise TrainingError("made up")

    with monkeypatch.context() as patch:
        # after the old run was put aside, before anything new is there
        patch.setattr(loop, "save_model", fail)
        with pytest.raises(TrainingError, match="made up"):
            train(run, data, out, 2, force=True)
    assert files(out) == before
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", fail)
        with pytest.raises(TrainingError, match="made up"):
            train(run, data, out, 2, force=True)
    assert files(out) == before


@pytest.mark.parametrize("where", ["moving", "moved"])
def test_an_old_run_comes_back_after_a_kill_while_it_was_replaced(run, data, tmp_path, where):
    out = tmp_path / "run"
    train(run, data, out, 2)
    before = files(out)
    if where == "moving":
        (out / ".replacing").mkdir()
        (out / "checkpoints").rename(out / ".replacing" / "checkpoints")
    else:
        (out / ".replaced").mkdir()
        for name in ("checkpoints", "model", "metrics.jsonl", "resolved.yaml", "run.yaml"):
            (out / name).rename(out / ".replaced" / name)
        (out / "resolved.yaml").write_text("of the new one")
    result = train(run, data, out, 2, resume=True)
    assert result["ended_before"] and result["steps"] == 2
    assert files(out) == before


def test_a_training_that_kept_nothing_can_be_begun_again(run, data, tmp_path, monkeypatch):
    out, step = tmp_path / "run", loop.Trainer._step

    def fail(self, *arguments):
        if self.progress.step == 2:
            raise TrainingError("made up")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", fail)
        with pytest.raises(TrainingError, match="made up"):
            train(run, data, out, 4)
    assert (out / "resolved.yaml").is_file()
    assert train(run, data, out, 4)["steps"] == 4


def test_only_one_training_writes_a_directory(run, data, tmp_path):
    out = tmp_path / "run"
    train(run, data, out, 2)
    before = files(out)
    holder = (
        "import sys, time; from pathlib import Path; from caloforge.training.directory import RunDirectory\n"
    )
    holder += "with RunDirectory(Path(sys.argv[1])) as held:\n"
    holder += "    held.take(resume=True, force=False); print('held', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", holder, str(out)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        for options in ({"resume": True}, {"force": True}):
            with pytest.raises(
                OutputError, match=f"another training writes here now .process {process.pid} on"
            ):
                train(run, data, out, 3, **options)
        with pytest.raises(OutputError, match="exists already"):
            train(run, data, out, 3)
        process.kill()
    # what a killed training leaves holds nobody up
    assert (out / ".lock").is_file()
    assert train(run, data, out, 2, resume=True)["ended_before"]
    assert files(out) == before


def test_processes_that_a_killed_training_leaves_hold_nobody_up_for_long(tmp_path):
    """Loader processes have the lock as well, and live on for some seconds."""
    orphans = "import os, sys, time; from pathlib import Path\n"
    orphans += "from caloforge.training.directory import RunDirectory\n"
    orphans += "held = RunDirectory(Path(sys.argv[1])); held.take(resume=True, force=False)\n"
    orphans += "(time.sleep(3), os._exit(0)) if os.fork() == 0 else os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", orphans, str(tmp_path / "run")], check=False)
    start = time.monotonic()
    with RunDirectory(tmp_path / "run") as directory:
        directory.take(resume=True, force=False)
    assert 0.2 < time.monotonic() - start < 10


@pytest.mark.parametrize("left", ["", "{", '{"host": "elsewhere", "process": 1}', '{"host": 3}'])
def test_a_lock_file_that_nobody_holds_is_no_lock(tmp_path, left):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text(left)
    start = time.monotonic()
    with RunDirectory(tmp_path / "run") as directory:
        directory.take(resume=True, force=False)
        held = json.loads((tmp_path / "run" / ".lock").read_text())
        assert held["process"] == os.getpid()
    assert time.monotonic() - start < 5
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with RunDirectory(tmp_path / "run") as directory:
        directory.take(resume=False, force=False)
        assert (tmp_path / "run" / ".lock").is_file()


def test_a_launcher_that_starts_a_forced_job_anew_does_not_continue_the_old_run(run, data, tmp_path):
    out = tmp_path / "run"
    train(run, data, out, 2)
    first = RunDirectory(out)
    first.take(resume=False, force=True, launched=True)
    assert first.replaces
    # it died before it had saved anything
    first.__exit__(TrainingError, TrainingError("a process is gone"), None)
    with RunDirectory(out) as again:
        again.take(resume=False, force=True, launched=True, restarted=True)
        assert again.replaces and not again.resumes
    with RunDirectory(out) as user:
        user.take(resume=True, force=False)
        assert user.resumes and not user.replaces
    assert not list(out.glob(".*"))


# ---- the end


def test_resuming_at_any_end_touches_nothing(run, data, tmp_path):
    ends = {
        "steps": ["training.max_steps=3"],
        "epochs": ["training.epochs=1"],
        "minutes": ["training.max_minutes=1e-5"],
        "patience": ["training.evaluation.patience=1", "training.evaluation.every_epochs=0.06"],
    }
    # its weights stay as they are, so that no evaluation is better than the first
    still = ["training.optimizer.learning_rate=1e-30", "model.batch_norm_momentum=1e-30", "training.ema=null"]
    for name, settings in ends.items():
        out = tmp_path / name
        options = {"set_": [*settings, *(still if name == "patience" else []), "training.threads=1"]}
        first = caloforge.train(run, data=data, out=out, progress=False, **options)
        before = files(out)
        for _ in range(2):
            again = caloforge.train(run, data=data, out=out, progress=False, resume=True, **options)
            assert again["ended_before"] and (again["steps"], again["best"]) == (
                first["steps"],
                first["best"],
            )
            assert "nothing is left to train" in again.text and "\n" not in again.text
            assert files(out) == before
    # longer, it goes on
    longer = caloforge.train(
        run, data=data, out=tmp_path / "steps", progress=False, resume=True, set_=["training.max_steps=5"]
    )
    assert longer["steps"] == 5 and not longer["ended_before"]


def test_a_training_that_now_ends_where_it_was_saved_is_judged_first(new_model, data, settings, tmp_path):
    out = tmp_path / "run"
    config = {"checkpoint_steps": 3, "keep_checkpoints": 5}
    train_model = loop.train_model
    train_model(new_model(), data, settings(max_steps=9, **config), out, seed=1)
    for path in checkpoints(out / "checkpoints")[1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    result = train_model(new_model(), data, settings(max_steps=3, **config), out, seed=1, resume=True)
    assert (result.steps, result.reason, result.ended_before) == (3, "steps", False)
    assert load_model(out) is not None
    again = train_model(new_model(), data, settings(max_steps=3, **config), out, seed=1, resume=True)
    assert again.ended_before and again.best == result.best


# ---- settings and clocks


def test_how_long_and_how_often_may_change(new_model, data, settings, tmp_path):
    out, train_model = tmp_path / "run", loop.train_model
    train_model(new_model(), data, settings(max_steps=2), out, seed=1)
    evaluation = {"share": 0.15, "showers": 36, "patience": 50, "every_epochs": 0.5, "keep": "last"}
    changes = {"precision": "auto", "keep_checkpoints": 1, "evaluation": evaluation}
    result = train_model(new_model(), data, settings(max_steps=4, **changes), out, seed=1, resume=True)
    assert result.steps == 4
    other = settings(max_steps=4, evaluation={"share": 0.2, "showers": 36})
    with pytest.raises(TrainingError, match=r"training\.evaluation\.share: 0\.15 then, 0\.2 now"):
        train_model(new_model(), data, other, out, seed=1, resume=True)


def test_a_clock_that_jumps_changes_nothing(new_model, data, settings, tmp_path, monkeypatch):
    jumps, real = itertools.cycle([0, 1e7, -1e7]), time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + next(jumps))
        jumping = loop.train_model(
            new_model(), data, settings(max_steps=12, max_minutes=5), tmp_path / "a", seed=1
        )
    steady = loop.train_model(
        new_model(), data, settings(max_steps=12, max_minutes=5), tmp_path / "b", seed=1
    )
    assert (jumping.steps, jumping.reason, jumping.best) == (12, "steps", steady.best)
    rows = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] >= 0 and seconds[-1] < 300
    one, other = (load_model(tmp_path / name).state_dict() for name in "ab")
    assert all(torch.equal(one[key], other[key]) for key in one)
