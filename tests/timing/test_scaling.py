"""What `caloforge benchmark scaling` measures, what it makes of it, and what it refuses."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caloforge.cli import main
from caloforge.errors import ConfigError, DataError, TrainingError
from caloforge.run import load_run
from caloforge.showers import ShowerWriter
from caloforge.timing.scaling import document as module
from caloforge.timing.scaling import measurement
from caloforge.timing.scaling.allreduce import Link
from caloforge.timing.scaling.document import Plan, scaling_document, workload
from caloforge.timing.scaling.measurement import TrainingTimes, batches, launch, layouts, measure_training
from caloforge.timing.scaling.pictures import speedup_figure
from caloforge.timing.scaling.tables import markdown_tables, text_tables
from caloforge.training.preflight import synthetic_showers


@pytest.fixture
def plan():
    settings = ["model.preset=debug", "training.batch_size=8", "detector.mesh.nx=8", "detector.mesh.ny=8"]
    settings.append("training.evaluation.showers=150")
    run = load_run("clic-electron", settings)
    return Plan(run.name, run.detector, run.beam, run.model, run.training, steps=4, processes=2)


def test_the_spread_of_steps():
    stamps = np.cumsum(np.random.default_rng(1).normal(0.1, 0.01, 4000))
    # half the distance from the 16th to the 84th percentile is a standard deviation
    assert measurement._relative_spread(stamps.tolist()) == pytest.approx(0.1, rel=0.05)
    assert measurement._relative_spread([0.0, 1.0, 2.0]) == 0


# ---- the layouts


def test_processes_double_up_to_the_largest(monkeypatch):
    monkeypatch.setattr(measurement, "available", lambda: 24)
    assert layouts(None) == [1, 2]
    assert layouts(1) == [1]
    assert layouts(24) == [1, 2, 4, 8, 16, 24]
    for wrong in (0, 25):
        with pytest.raises(ConfigError, match=f"--processes {wrong}.*24 cores.*expected 1 to 24"):
            layouts(wrong)


def test_one_process_alone_is_measured_with_two_batches():
    assert batches(32, [1, 2, 4]) == {
        (1, 32): ["weak", "strong"],
        (2, 32): ["weak"],
        (2, 16): ["strong"],
        (4, 32): ["weak"],
        (4, 8): ["strong"],
        (1, 8): [],
    }
    assert batches(32, [1]) == {(1, 32): ["weak", "strong"], (1, 16): []}
    with pytest.raises(ConfigError, match=r"batch_size 6.*expected 8"):
        batches(6, [1, 2, 4])


# ---- what is made of the measurements


def pretend(_run, _data, processes, batch, _steps, _seed):
    """A step of 10 ms, and 2 ms for each shower; other processes cost 4 ms."""
    compute = 0.010 + 0.002 * batch
    return TrainingTimes(
        processes, batch, compute, 0.004 * (processes - 1), 1e-4 * batch, 0.6, 0.01, (4000, 8000)
    )


@pytest.fixture
def document(plan, monkeypatch):
    monkeypatch.setattr(measurement, "available", lambda: 2)
    monkeypatch.setattr(module, "measure_training", pretend)
    monkeypatch.setattr(module, "measure_link", lambda _: (Link(1e-4, 1e9, "measured here"), [1e-4, 2e-4]))
    seen = []
    found = scaling_document(plan, lambda *state: seen.append(state))
    assert seen[0][:2] == (0, 5)
    assert seen[-1][:2] == (5, 5)
    json.dumps(found, allow_nan=False)
    return found


def test_speed_ups_are_those_of_the_showers_trained_on(document):
    rows = {(row["scaling"], row["processes"], row["batch"]): row for row in document["measured"]}
    assert set(rows) == {("weak", 1, 8), ("weak", 2, 8), ("strong", 1, 8), ("strong", 2, 4)}
    # 26.8 ms for 8 showers; 30.8 ms for 16; 22.4 ms for 8
    assert rows["weak", 2, 8]["speedup"] == pytest.approx(2 * 26.8 / 30.8)
    assert rows["strong", 2, 4]["speedup"] == pytest.approx(26.8 / 22.4)
    assert rows["strong", 2, 4]["efficiency"] == pytest.approx(26.8 / 22.4 / 2)


def test_the_projection_starts_from_one_process(document):
    work = document["workload"]
    assert (work["per_step"], work["per_shower"]) == (pytest.approx(0.010), pytest.approx(0.002))
    assert work["messages"] == (4000.0, 8000.0)
    # a tenth of the 73 made-up showers was judged, in the projection it is what the run says
    assert work["validation_showers"] == 150
    assert work["validation_per_shower"] == pytest.approx(0.6 / 7)
    one = next(row for row in document["projected"] if row["processes"] == 1)
    assert one["seconds"] == pytest.approx(900_000 / 8 * 0.0268 + 150 * 0.6 / 7)
    last = [row for row in document["projected"] if row["scaling"] == "weak"][-1]
    assert last["processes"] == 128
    # jitter of 1 %: the slowest of 128 is 2.6 % late; two showers are judged where 1.2 would be a share
    assert last["validation"] == pytest.approx(2 * 0.6 / 7)
    late = 0.026 * 26 / 26.8 + (2 - 150 / 128) * 0.6 / 7 / (879 * 0.0268)
    assert last["efficiency"] == pytest.approx(1 / (1 + late), abs=0.002)
    # no more processes than showers in the batch
    assert max(row["processes"] for row in document["projected"] if row["scaling"] == "strong") == 8
    # two messages, each a latency and all of its bytes there and back
    assert document["link"]["step"] == pytest.approx(2 * 2 * 1e-4 + 12_000 / 1e9)


@pytest.mark.parametrize(("small", "large", "expected"), [(0.01, 0.04, (0, 0.01)), (0.03, 0.02, (0.02, 0))])
def test_noise_gives_no_negative_times(plan, small, large, expected):
    measured = [replace(pretend(0, 0, 1, batch, 0, 0), compute=c) for batch, c in ((2, small), (4, large))]
    work = workload(plan, measured, 100, 10)
    assert (work.per_step, work.per_shower) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_several_processes_on_a_node(plan, monkeypatch):
    monkeypatch.setattr(module, "measure_training", pretend)
    found = scaling_document(replace(plan, processes=1, nodes=6, per_node=4, network="edr"))
    assert [row["processes"] for row in found["projected"] if row["scaling"] == "weak"] == [1, 4, 8, 16, 24]
    assert found["link"] is None


def test_tables_and_picture(document, tmp_path):
    text, markdown = text_tables(document), markdown_tables(document)
    for line in (
        "weak             2      8",
        "128           16                         34.9   30.2  -13.5 %",
    ):
        assert line in text
    assert "| strong | 2 | 4 | 18 | 4 | 0.4 | 600 | 357 | 1.2 | 59.8 % |" in markdown
    assert "| 512 | 128 | > 0.94 | 0.9853 |  |" in markdown
    assert markdown.count("Source: ") == len(document["published"])
    for block in markdown.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    figure = speedup_figure(document)
    figure.savefig(tmp_path / "scaling.png")
    speed, efficiency, here = figure.axes
    # five lines of each kind in each: four published tables twice, and the ideal
    assert [len(axes.lines) for axes in (speed, efficiency, here)] == [9, 9, 5]
    measured = next(line for line in here.lines if line.get_label() == "weak scaling")
    assert measured.get_xydata().tolist() == [[1, 1], [2, pytest.approx(2 * 26.8 / 30.8)]]


def test_the_page_has_the_errors_of_today(document):
    page = (Path(__file__).parents[2] / "docs/how-to/scaling.inc").read_text()
    published = markdown_tables(document).partition("**Published")[2].rpartition("\n\n")[0]
    assert published in page


@pytest.mark.parametrize(("load", "busy"), [(0.1, False), (3.0, True)])
def test_figures_of_a_busy_machine_are_marked(document, load, busy):
    document["machine"] |= {"load_at_start": load, "cores": 2}
    for text in (text_tables(document), markdown_tables(document)):
        assert ("Other work was running (load 3 on 2 cores)" in text) == busy


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "omnipath"}, "Did you mean 'omni-path'"),
        ({"steps": 1}, "--steps of 4 or more"),
        ({"nodes": 0}, "--nodes"),
        ({"processes": 10_000}, "--processes 10000"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(plan, changes, message):
    with pytest.raises(ConfigError, match=message):
        scaling_document(replace(plan, **changes))


def test_showers_of_another_detector_are_refused(plan, tmp_path):
    other = load_run("demo").detector
    with ShowerWriter(tmp_path / "other.h5", other, {}) as writer:
        writer.append(synthetic_showers(other, plan.beam, 4))
    with pytest.raises(DataError, match=r"other\.h5: its detector"):
        scaling_document(replace(plan, data=tmp_path / "other.h5"))
    with pytest.raises(DataError, match="absent"):
        scaling_document(replace(plan, data=tmp_path / "absent.h5"))


# ---- real processes


def run_of(plan, **training):
    document = plan.training.model_dump(mode="json") | {"precision": "fp32"} | training
    return {"model": plan.model.model_dump(mode="json"), "training": document}


@pytest.mark.slow
def test_two_processes_train_and_say_where_their_time_went(plan, tmp_path):
    data = tmp_path / "showers.h5"
    with ShowerWriter(data, plan.detector, {}) as writer:
        writer.append(synthetic_showers(plan.detector, plan.beam, 200))
    found = measure_training(run_of(plan), data, 2, 8, 6, seed=1)
    assert (found.processes, found.batch) == (2, 8)
    # gradients of the discriminator twice, of the generator twice
    one, other, *rest = found.messages
    assert found.messages == (one, one, rest[0], rest[0])
    assert one == other != rest[0]
    assert all(size % 4 == 0 and size > 1000 for size in found.messages)
    assert 0 < found.communication < found.step
    assert 0 < found.input < found.compute < 60
    assert found.validation > 0
    assert found.rate == pytest.approx(16 / found.step)


def test_what_went_wrong_in_a_process_is_said(plan, tmp_path):
    with pytest.raises(TrainingError, match=r"1 process\(es\) ended with status 1: DataError: .*absent\.h5"):
        measure_training(run_of(plan), tmp_path / "absent.h5", 1, 8, 4, seed=1)


def test_a_measurement_that_does_not_end_is_ended(monkeypatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self.pid)

    monkeypatch.setattr(measurement, "LIMIT", 0.3)
    monkeypatch.setattr(subprocess, "Popen", Popen)
    with pytest.raises(TrainingError, match="not done after 0 s"):
        launch({"kind": "messages", "sizes": [4]}, 1)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


@pytest.mark.slow
def test_the_whole_benchmark(tmp_path, capsys):
    # a network without a closed-form start, which each measurement would fit anew
    run = tmp_path / "run.yaml"
    run.write_text(
        "name: published\n"
        "detector: {preset: clic-ecal-25, mesh: {nx: 15, ny: 15}}\n"
        "beam: {particle: e-, energy: {kind: flat, min: 2 GeV, max: 20 GeV}}\n"
        "model: {family: gan3d, preset: debug}\n"
        "training: {batch_size: 32, epochs: 1}\n"
    )
    out = tmp_path / "scaling"
    options = [str(run), "--steps", "4", "--processes", str(min(2, measurement.available())), "-o", str(out)]
    assert main(["benchmark", "scaling", *options, "--no-progress", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    document = json.loads((out / "scaling.json").read_text())
    assert document["measured"] == printed["measured"]
    for row in document["measured"]:
        # processes that share nothing but the machine cannot be faster than all of them together
        assert 0.2 < row["efficiency"] < 1.5
    assert (out / "scaling.md").read_text().startswith("**Measured here")
    assert (out / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert main(["benchmark", "scaling", "-o", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
