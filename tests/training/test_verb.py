"""`caloforge train` as a verb: what it does to a run directory."""

import os
import shutil
from pathlib import Path

import pytest
from toy import train

import caloforge
from caloforge.errors import DataError, ModelError, OutputError, TrainingError
from caloforge.training import local_copy
from caloforge.training.checkpoint import checkpoints


def test_force_trains_anew_and_keeps_nothing_of_the_earlier_training(run, data, tmp_path):
    out = tmp_path / "run"
    train(run, data, out, 9)
    (out / "notes.txt").write_text("mine")
    train(run, data, out, 4, force=True, seed=3)
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["step-00000004"]
    assert (out / "notes.txt").read_text() == "mine"
    assert train(run, data, out, 6, resume=True, seed=3)["steps"] == 6


def test_force_removes_nothing_from_a_directory_that_is_no_run(run, data, tmp_path):
    kept = tmp_path / "mine" / "model" / "of-somebody.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    train(run, data, tmp_path / "mine", 1, force=True)
    assert kept.read_text() == "precious"


def test_an_existing_run_directory_is_refused(run, data, tmp_path):
    train(run, data, tmp_path / "run", 1)
    with pytest.raises(OutputError, match="exists already"):
        train(run, data, tmp_path / "run", 1)


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_directory_is_used(run, data, tmp_path, resume):
    """A training that is killed before it locks its new directory leaves it empty."""
    (tmp_path / "run").mkdir()
    assert train(run, data, tmp_path / "run", 1, resume=resume)["steps"] == 1


def test_data_of_another_detector_cost_nothing_of_an_earlier_training(run, data, tmp_path):
    out = tmp_path / "run"
    train(run, data, out, 1)
    settings = ["training.max_steps=1", "detector.mesh.nx=6"]
    with pytest.raises(DataError, match="its detector is toy"):
        caloforge.train(run, data=data, out=out, set_=settings, force=True, progress=False)
    assert checkpoints(out / "checkpoints")


def test_a_job_script_can_always_resume(run, data, tmp_path):
    out = tmp_path / "run"
    assert train(run, data, out, 2, resume=True)["steps"] == 2
    assert train(run, data, out, 3, resume=True)["steps"] == 3
    # a try that ended before its first checkpoint
    for path in checkpoints(out / "checkpoints"):
        shutil.rmtree(path)
    assert train(run, data, out, 2, resume=True)["steps"] == 2
    # but not in a directory of something else
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        train(run, data, tmp_path / "mine", 1, resume=True)


def test_a_refused_resume_leaves_the_record_of_the_run(run, data, tmp_path):
    out = tmp_path / "run"
    train(run, data, out, 2)
    before = (out / "resolved.yaml").read_bytes()
    settings = ["training.batch_size=6", "training.max_steps=4"]
    with pytest.raises(TrainingError, match=r"training\.batch_size: 12 then, 6 now"):
        caloforge.train(run, data=data, out=out, set_=settings, resume=True, progress=False)
    assert (out / "resolved.yaml").read_bytes() == before
    train(run, data, out, 3, resume=True)
    assert "max_steps: 3" in (out / "resolved.yaml").read_text()


def test_one_copy_of_the_showers_is_looked_for(run, data, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(local_copy, "_is_copy", lambda *_: looked.append(1))
    settings = ["training.max_steps=2", "training.threads=1", f"training.cache={tmp_path / 'near'}"]
    caloforge.train(run, data=data, out=tmp_path / "out", set_=settings, progress=False)
    assert looked == [1]


def test_a_run_from_a_pipe_is_recorded_as_resolved(run, data, tmp_path):
    reading, writing = os.pipe()
    os.write(writing, Path(run).read_bytes())
    os.close(writing)
    try:
        train(f"/dev/fd/{reading}", data, tmp_path / "run", 1)
    finally:
        os.close(reading)
    assert (tmp_path / "run" / "resolved.yaml").is_file()
    assert not (tmp_path / "run" / "run.yaml").exists()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_summary_of_a_training_that_stalled(run, data, tmp_path, keep):
    settings = {"optimizer.learning_rate": 1e-30, "ema": "null", "evaluation.every_epochs": 0.1}
    settings |= {"max_steps": 12, "threads": 1, "evaluation.keep": keep}
    settings = [f"training.{key}={value}" for key, value in settings.items()]
    settings.append("model.batch_norm_momentum=1e-30")
    done = caloforge.train(run, data=data, out=tmp_path / "run", set_=settings, progress=False)
    assert done["stalled_at"] == 2
    kept = {"best": "of that step", "last": "of the last step"}[keep]
    assert f"no better figure of merit since step 2 of 12. The model is the one {kept}" in done.text


def test_all_weights_come_from_a_model_of_the_same_network_alone(run, data, tmp_path):
    train(run, data, tmp_path / "first", 1)
    train(run, data, tmp_path / "second", 1, start=tmp_path / "first")
    wider = ["model.generator.latent=7", "training.max_steps=1"]
    for start, message in (
        (tmp_path / "first", r"another network than this run: generator\..* of shape .*, expected of shape"),
        ("clic-electron", "got a model of the family layered, expected gan3d"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            caloforge.train(run, data=data, out=tmp_path / "x", start=start, set_=wider, progress=False)
        assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()
