"""The arithmetic of the comparison, the limits it keeps, and what it says of cases that fail."""

import json
import os
import time

import numpy as np
import pytest

from caloforge.beam import sample_conditions
from caloforge.cli import main
from caloforge.fullsim.timing import stratified, time_showers
from caloforge.run import load_run
from caloforge.timing import markdown_table, sources, text_table, worker
from caloforge.timing.compare import Plan, _add_ratios, _rows, spectrum_mean
from caloforge.timing.machine import machine, quietest_core
from caloforge.timing.sources import PUBLISHED, Source
from caloforge.timing.timed_process import WorkerResult, measure
from caloforge.timing.worker import MAX_REPEATS, MIN_REPEATS, measure_engine, plan_repeats


@pytest.fixture
def plan():
    run = load_run("demo")
    return Plan(run.name, run.detector, run.beam, run.fullsim, showers=3, batches=(1, 8), seconds=0.05)


# ---- full simulation


@pytest.mark.parametrize("recipe", ["clic-electron", "demo", "par04-siw"])
def test_strata_stand_for_the_spectrum(recipe):
    run = load_run(recipe)
    beam, mesh = run.beam, run.detector.mesh
    low, high = beam.energy_range
    chosen = sample_conditions(beam, mesh, 3, 0, 20_000).energy[stratified(beam, mesh, 3, 20)]
    assert (np.diff(chosen) > 0).all()
    # medians of twenty equal parts, but for the scatter of 20 000 draws
    wanted = beam.energy.quantile((np.arange(20) + 0.5) / 20)
    np.testing.assert_allclose(chosen, wanted, atol=0.02 * (high - low))
    assert chosen.mean() == pytest.approx(wanted.mean(), rel=0.015)


@pytest.mark.geant4
def test_times_of_the_full_simulation_are_those_of_its_showers():
    run = load_run("demo")
    seen = []
    settings = (run.detector, run.beam, run.fullsim)
    batch = time_showers(*settings, 3, workers=2, progress=lambda *state: seen.append(state))
    assert seen[-1] == (3, 3)
    # thirds of 2 to 20 GeV
    np.testing.assert_allclose(batch.incident_energy, [5e3, 11e3, 17e3], rtol=0.05)
    # the visible share of the CLIC calorimeter is a few percent
    assert ((batch.visible_energy() / batch.incident_energy > 0.01) & (batch.visible_energy() < 1e3)).all()
    # starting Geant4 takes more than a second, a shower of 20 GeV a third of one
    assert batch.seconds.min() > 0.01
    assert batch.seconds[0] < batch.seconds[2] < 60


def test_the_mean_over_the_spectrum_and_its_error():
    energy = np.linspace(1e4, 5e5, 50)
    mean, error = spectrum_mean(energy, 8e-6 * energy)
    assert mean == pytest.approx(8e-6 * 255e3)
    # the spread of the spectrum itself is no error
    assert error < 1e-12
    scatter = np.random.default_rng(0).normal(0, 0.1, 50)
    assert spectrum_mean(energy, 8e-6 * energy + scatter)[1] == pytest.approx(0.1 / np.sqrt(50), rel=0.2)


# ---- the worker


class Sleeper:
    """Makes nothing, at a known price in seconds a shower."""

    def __init__(self, single, batched):
        self.price = {True: single, False: batched}
        self.written = []

    def prepare(self, batch):
        self.prepared = batch

    def make(self, showers, batch):
        assert batch == self.prepared
        time.sleep(showers * self.price[batch == 1])

    def write(self, showers, batch, path):
        path.write_bytes(b"x" * 3 * showers)
        self.written.append((showers, batch))


def measured(engine, **changes):
    answers = []
    job = {"batches": [1, 8], "seconds": 0.05, "disk": False, "threads": 1, **changes}
    measure_engine(job, engine, lambda **facts: answers.append(facts))
    return answers


def test_what_is_measured_is_the_time_of_a_shower():
    single, batched = measured(Sleeper(2e-3, 5e-4))
    assert (single["batch"], batched["batch"]) == (1, 8)
    # sleeping takes longer than asked for, never less
    assert 2e-3 <= min(single["seconds"]) < 6e-3
    assert 5e-4 <= min(batched["seconds"]) < 2e-3


def test_a_slow_path_is_tried_and_left(monkeypatch):
    monkeypatch.setattr(worker, "TOO_SLOW", 0.02)
    [answer] = measured(Sleeper(0.03, 0.0))
    assert answer["slow"] > 0.02
    assert "batch" not in answer


def test_a_long_pass_is_not_repeated():
    single, batched = measured(Sleeper(1e-4, 0.02))
    assert len(batched["seconds"]) == 1
    assert len(single["seconds"]) >= MIN_REPEATS


def test_the_way_to_disk():
    engine = Sleeper(1e-4, 1e-4)
    answer = measured(engine, disk=True)[-1]
    assert answer["disk"] == 128
    assert answer["bytes"] == 3
    assert len(answer["seconds"]) == len(engine.written) == MIN_REPEATS
    # files of hundreds of showers, in whole batches, whatever the price
    assert all(showers >= 512 and showers % 128 == 0 for showers, _ in engine.written)


@pytest.mark.parametrize(
    ("seconds", "batch", "repeats", "showers"),
    [
        (1e-3, 1, MAX_REPEATS, 333),
        (1e-4, 128, MAX_REPEATS, 26 * 128),
        (0.5, 1, 6, 1),
        (2.0, 128, MIN_REPEATS, 128),
    ],
)
def test_repeats_fill_the_budget(seconds, batch, repeats, showers):
    assert plan_repeats(seconds, batch, 3.0) == (repeats, showers)


def test_a_case_that_takes_too_long_is_stopped_with_what_it_found(plan):
    job = {"kind": "model", "threads": 1, "core": None, "source": {"model": "/nowhere"}, "seed": 1}
    start = time.monotonic()
    found = measure(job, 0.2)
    assert time.monotonic() - start < 5
    assert found.problem == "stopped after 0 s"
    rows = list(
        _rows(plan, PUBLISHED[0], WorkerResult([{"batch": 1, "seconds": [0.1, 0.2, 0.3]}], found.problem))
    )
    assert [row["status"] for row in rows] == ["measured", "too slow"]
    assert rows[0]["ms"] == pytest.approx(200)


def test_a_case_that_fails_says_why(plan):
    job = {"kind": "model", "threads": 1, "core": quietest_core(), "source": {"model": "/nowhere"}, "seed": 1}
    found = measure(job, 60)
    assert "no such directory" in found.problem
    rows = list(_rows(plan, Source("mine", "model", {}), found))
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert all("no such directory" in row["reason"] for row in rows)
    assert rows[2]["to_disk"]


def test_a_slow_case_says_how_slow(plan):
    rows = list(_rows(plan, PUBLISHED[0], WorkerResult([{"opened": {}}, {"slow": 7.3}])))
    assert {(row["status"], row["reason"]) for row in rows} == {("too slow", "7.3 s a shower")}


# ---- ratios and tables


def row(name, kind, ms, batch=1, shape=(25, 25, 25), status="measured", **more):
    facts = {"name": name, "kind": kind, "ms": ms, "low": ms, "high": ms, "batch": batch, "status": status}
    return {**facts, "shape": list(shape), "threads": 1, "backend": "torch", "precision": "fp32",
            "to_disk": False, **more}  # fmt: skip


@pytest.fixture
def document():
    rows = [
        row("Geant4", "full simulation", 2000.0),
        row("orthogonal", "published", 30.0),
        row("orthogonal", "published", 6.0, precision="bf16"),
        row("angle", "published", 0.0, shape=(25, 51, 51), status="too slow"),
        row("ours", "model", 0.05, low=0.04, high=0.07, weight_bytes=900_000),
        row("ours", "model", 0.02, batch=128),
    ]
    _add_ratios(rows)
    return {"machine": machine(), "caloforge": "1", "command": "caloforge benchmark", "results": rows}


def test_ratios(document):
    geant4, _, best, slow, ours, batched = document["results"]
    assert "times_geant4" not in geant4
    assert "times_geant4" not in slow
    assert ours["times_geant4"] == pytest.approx(40_000)
    # of the published network's backends the fastest counts, and the same batch
    assert ours["times_published"] == pytest.approx(120)
    assert best["times_published"] == 1
    assert "times_published" not in batched


def test_tables(document):
    text, markdown = text_table(document), markdown_table(document)
    assert document["machine"]["cpu"] in text.splitlines()[0]
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    ours = next(line for line in markdown.splitlines() if line.startswith("| ours"))
    assert ours == "| ours | 0.9 | torch fp32 | 1 | 1 | 0.05 | 0.04 to 0.07 | 40 000 | 120 |"
    assert "| angle |  | torch fp32 | 1 | 1 | too slow |  |  |  |" in markdown
    assert "`caloforge benchmark`" in markdown


def test_the_machine():
    facts = machine()
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["packages"]["torch"]
    assert quietest_core() in os.sched_getaffinity(0)
    json.dumps(facts)


# ---- the verb


@pytest.mark.slow
@pytest.mark.geant4
def test_the_whole_comparison(tmp_path, capsys, monkeypatch):
    if os.environ.get("CALOFORGE_SCALE") == "small":
        # most of the time would be the export of the published networks
        monkeypatch.setattr(sources, "installed_backends", lambda: ("torch", "numba"))
    out = tmp_path / "bench"
    assert main(["benchmark", "--run", "demo", "--quick", "-o", str(out), "--no-progress", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    document = json.loads((out / "benchmark.json").read_text())
    assert document["results"] == printed["results"]
    names = [result["name"] for result in document["results"]]
    assert names[0] == "Geant4"
    assert {"3DGAN, orthogonal incidence", "3DGAN, variable angle", "frozen library"} < set(names)
    found = {
        (result["name"], result["batch"]): result
        for result in document["results"][1:]
        if (result["backend"], result["precision"]) == ("torch", "fp32")
    }
    frozen = found["frozen library", 8]
    assert frozen["times_geant4"] > 20
    assert frozen["low"] <= frozen["ms"] <= frozen["high"]
    on_disk = found["frozen library", 128]
    assert on_disk["to_disk"]
    assert 100 < on_disk["bytes"] < 20_000
    # the published number holds two running statistics for each of the 64 + 6 normalised channels
    assert found["3DGAN, orthogonal incidence", 1]["parameters"] == 872_948 - 2 * (64 + 6)
    assert (out / "benchmark.md").read_text().startswith("| ")
    assert main(["benchmark", "-o", str(out), "--quick"]) == 1
