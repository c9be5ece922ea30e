"""A fold of a trial with real verbs; the studies of test_search.py stand on it."""

import dataclasses
import fcntl
import threading

import pytest

from caloforge.config import to_yaml
from caloforge.run import load_run
from caloforge.run_directory import RUN
from caloforge.tuning.trial import Job, RankInfo, read_result, train_fold
from caloforge.tuning.verb_processes import NotDoneError, exclusive_lock


@pytest.fixture
def job(folder, tmp_path):
    """Makes the job of a fold whose run lies in its place."""

    def make(*settings, **changes):
        trial = tmp_path / "00003"
        trial.mkdir(exist_ok=True)
        (trial / RUN).write_text(to_yaml(load_run(folder / "run.yaml", ["training.max_steps=6", *settings])))
        return Job(3, 0, trial / "fold-0", data=folder / "train.h5", **changes)

    return make


def test_a_fold_is_trained_judged_and_remembered(job):
    fold = job()
    result = train_fold(fold, RankInfo(), threading.Event())
    assert (result.status, result.reason) == ("done", "")
    merit, _ = result.figures["merit"]
    assert 0 < merit < 100
    assert read_result(fold.folder).figures["merit"].value == merit
    assert (fold.folder / "model" / "model.json").is_file() and not (fold.folder / "checkpoints").exists()


@pytest.mark.slow
def test_a_trial_starts_from_the_weights_of_its_parent(job):
    import torch

    from caloforge.models.store import load_model

    parent = job()
    assert train_fold(parent, RankInfo(), threading.Event()).status == "done"
    weights = {name: value.clone() for name, value in load_model(parent.folder).state_dict().items()}
    # so slow a training leaves them as they are, but for what batch normalisation measures
    still = ("training.optimizer.learning_rate=1e-20", "training.max_steps=2", "training.ema=null")
    child = dataclasses.replace(
        job(*still), folder=parent.folder.with_name("fold-1"), start=parent.folder / "model"
    )
    assert train_fold(child, RankInfo(), threading.Event()).status == "done"
    learned = {
        n: v
        for n, v in load_model(child.folder).state_dict().items()
        if "running" not in n and "num_b" not in n
    }
    for name, value in learned.items():
        torch.testing.assert_close(value, weights[name])


@pytest.mark.slow
def test_why_a_verb_fails_decides_what_becomes_of_the_trial(job, tmp_path):
    # the loss of this one overflows
    wild = job("training.optimizer.learning_rate=1e30", "training.optimizer.gradient_clip=1e30")
    result = train_fold(wild, RankInfo(), threading.Event())
    assert result.status == "numeric" and result.reason.startswith("train: step ")
    absent = Job(3, 0, wild.folder, data=tmp_path / "absent.h5")
    result = train_fold(absent, RankInfo(), threading.Event())
    assert result.status == "refused" and "no such file" in result.reason


@pytest.mark.slow
def test_a_stopped_fold_has_saved_where_it_was(job):
    fold, stop = job("training.max_steps=100000", "training.epochs=100000"), threading.Event()
    threading.Thread(target=stop_when_it_trains, args=(fold.folder / "metrics.jsonl", stop)).start()
    assert train_fold(fold, RankInfo(), stop).status == "stopped"
    assert list((fold.folder / "checkpoints").glob("step-*"))


def stop_when_it_trains(log, stop):
    for _ in range(600):
        if log.exists() and log.read_text():
            break
        threading.Event().wait(0.1)
    stop.set()


def test_nobody_joins_a_fold_that_another_process_works_on(tmp_path):
    stop = threading.Event()
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(NotDoneError, match="another process works"), exclusive_lock(tmp_path, stop):
            pass
    with exclusive_lock(tmp_path, threading.Event()):
        pass
