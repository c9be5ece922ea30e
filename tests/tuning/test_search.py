"""Searches through Ray, of a function instead of trainings, and what goes wrong in them."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import synthetic
import yaml
from synthetic import merit

from caloforge import ray_connection
from caloforge.cli import main
from caloforge.errors import ConfigError, Interrupted, TuningError
from caloforge.run import load_run
from caloforge.tuning.study import run_study

FOUR = {"groups": 4, "cores": 0.25}


def trials(result):
    return {trial["number"]: trial for trial in result.document["trials"]}


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    """Where the workers of Ray find this folder's modules."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))))
        # a search without --address starts its own Ray beside any other
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        yield


@pytest.fixture(scope="module")
def troubled(folder, tmp_path_factory):
    """A search in which trials fail in every way."""
    from caloforge.config import build
    from caloforge.tuning.config import StudyConfig

    document = {
        "run": "run.yaml",
        "data": "train.h5",
        "seed": 10,
        "space": synthetic.SPACE,
        "sampler": {"kind": "tpe", "startup": 4},
        "layout": FOUR | {"k_folds": 2},
        "max_trials": 16,
    }
    out = tmp_path_factory.mktemp("search") / "out"
    return out, run_study(build(StudyConfig, document, "s"), out, folder=folder, work=synthetic.troubled)


def test_failed_trials_are_recorded_retried_and_do_not_stop_the_others(troubled):
    out, result = troubled
    found = trials(result)
    assert {n: t["state"] for n, t in found.items()} == dict.fromkeys(range(16), "complete") | dict.fromkeys(
        (2, 4, 5), "fail"
    )
    # a fold is tried twice; both ran at the same time
    assert "not finite" in found[2]["reason"] and 2 <= len(found[2]["attempts"]) <= 4
    assert "no space left on this planet" in found[4]["reason"] and len(found[4]["attempts"]) >= 2
    # what can never go well is not tried again
    assert "does not fit" in found[5]["reason"]
    folds = [attempt["fold"] for attempt in found[5]["attempts"]]
    assert len(set(folds)) == len(folds)
    assert "a worker died" in found[1]["attempts"][0]["reason"] and found[1]["reason"] == ""
    # a retry after a loss that is not finite has another seed: fold, then folds x retries
    seeds = {line.split()[1] for line in (out / "trials/00003/calls").read_text().splitlines()}
    assert seeds & {"12", "13"}


def test_the_objective_is_the_mean_of_the_folds_and_its_error_their_spread(troubled):
    _, result = troubled
    for trial in trials(result).values():
        if trial["state"] != "complete":
            continue
        one, two = (fold["merit"] for fold in trial["folds"])
        assert one == pytest.approx(merit(trial["parameters"])) and two == pytest.approx(one + 0.1)
        assert trial["figures"]["merit"] == pytest.approx((one + two) / 2)
        assert trial["standard_errors"]["merit"] == pytest.approx(0.05)


def test_best_run_is_ready_to_train(troubled):
    _, result = troubled
    complete = [t for t in trials(result).values() if t["state"] == "complete"]
    best = min(complete, key=lambda t: t["figures"]["merit"])
    assert result.document["best"] == best["number"]
    run = load_run(result.best)
    assert run.training.optimizer.learning_rate == best["parameters"][synthetic.RATE]
    assert run.training.optimizer.decay == best["parameters"][synthetic.DECAY]
    # the rest is that of the run it started from
    assert run.training.batch_size == 12 and run.detector.name == "toy"


def test_a_finished_study_runs_nothing_more_and_a_longer_one_goes_on(troubled, folder, study):
    out, _ = troubled
    document = json.loads((out / "study.json").read_text())
    settings = {"seed": 10, "sampler": {"kind": "tpe", "startup": 4}, "layout": FOUR | {"k_folds": 2}}

    def never(job, rank_info, stop):
        raise AssertionError("nothing should run")

    again = run_study(study(**settings, max_trials=16), out, folder=folder, work=never)
    assert again.document["trials"] == document["trials"]
    with pytest.raises(ConfigError, match=r"space ~ .*decay › high: 0.99 -> 0.9"):
        space = synthetic.SPACE | {synthetic.DECAY: {"kind": "float", "low": 0.01, "high": 0.9}}
        run_study(study(**settings, space=space), out, folder=folder, work=never)


@pytest.mark.slow
def test_ctrl_c_stops_the_groups_and_leaves_the_trials_open(folder, study, tmp_path):
    config, out = study(layout={"groups": 2, "cores": 0.5}, max_trials=6), tmp_path / "out"
    sent = []

    def interrupt(status):
        if not sent and status.running and status.ended:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.raises(Interrupted, match="caloforge tune"):
        run_study(config, out, folder=folder, work=synthetic.work, progress=interrupt)
    document = json.loads((out / "study.json").read_text())
    assert document["counts"]["running"] >= 1 and document["counts"]["complete"] >= 1
    assert (out / "study.html").is_file()
    result = run_study(config, out, folder=folder, work=synthetic.work)
    assert result.document["counts"] == {"complete": 6, "pruned": 0, "fail": 0, "running": 0}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_the_fit_of_the_surrogate_does_not_idle_four_groups(kind, folder, study, tmp_path):
    if os.getloadavg()[0] > 2 * len(os.sched_getaffinity(0)):
        pytest.skip("this machine is too busy to measure how long groups wait")
    small = os.environ.get("CALOFORGE_SCALE") == "small"
    sampler = {"kind": kind, "startup": 6}
    config = study(layout=FOUR, max_trials=24 if small else 60, sampler=sampler)
    result = run_study(config, tmp_path / "out", folder=folder, work=synthetic.unhurried)
    assert result.document["counts"]["complete"] == config.max_trials
    assert result.document["suggesting_seconds"] > 0
    assert result.document["idle_share"] < 0.05


@pytest.mark.slow
def test_a_study_of_trainings_on_folds_and_data_parallel_workers(folder, tmp_path, capsys):
    """The verb itself: two folds, groups of two processes, test showers."""
    study = {
        "name": "toy",
        "run": "run.yaml",
        "data": "train.h5",
        "test": "train.h5",
        "space": {
            "training.optimizer.learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "model.generator.latent": {"kind": "int", "low": 4, "high": 12},
        },
        "objectives": [{"figure": "merit"}],
        "layout": {"groups": 1, "workers": 2, "k_folds": 2, "cores": 0.5},
        "max_trials": 1,
    }
    path = folder / "trainings.yaml"
    path.write_text(yaml.safe_dump(study))
    out = tmp_path / "out"
    assert main(["tune", str(path), "-o", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["counts"] == {"complete": 1, "pruned": 0, "fail": 0, "running": 0}
    document = json.loads((out / "study.json").read_text())
    [trial] = document["trials"]
    # both processes of the group have trained, and both folds held out other showers
    logs = sorted(path.parts[-2:] for path in (out / trial["folder"]).glob("fold-*/*-trial.log"))
    assert logs == [(f"fold-{f}", f"{r}-trial.log") for f in (0, 1) for r in (0, 1)]
    assert len(trial["folds"]) == 2 and trial["folds"][0] != trial["folds"][1]
    # it is the start; its figures on the test showers are the means of the validations
    assert trial["parameters"]["model.generator.latent"] == 6 and document["start"] == 0
    reports = [out / f"final/00000/fold-{f}/metrics.json" for f in (0, 1)]
    entries = [next(iter(json.loads(report.read_text())["generators"].values())) for report in reports]
    merits = [entry["observables"]["shower"]["inclusive"]["merit_sum"]["value"] for entry in entries]
    found = document["final"]["figures"]["merit_sum"]
    assert found["best"] == found["start"] and found["best"]["value"] == pytest.approx(sum(merits) / 2)
    assert load_run(out / "best.yaml").detector.name == "toy"


# ---- clusters that are not there


def test_an_address_that_does_not_answer_is_an_error_in_bounded_time(folder, study, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    start = time.monotonic()
    for address in (f"ray://127.0.0.1:{free}", f"127.0.0.1:{free}"):
        with pytest.raises(TuningError, match=f"no answer from 127.0.0.1 port {free}"):
            run_study(study(), tmp_path / "out", folder=folder, address=address)
    with pytest.raises(ConfigError, match="expected ray://HOST:PORT"):
        run_study(study(), tmp_path / "out", folder=folder, address="ray://head:port")
    assert time.monotonic() - start < 20


def test_somebody_else_at_the_address_is_an_error_in_bounded_time(monkeypatch):
    monkeypatch.setattr(ray_connection, "START", 0.3)
    with pytest.raises(TuningError, match="Ray does not answer within"):
        ray_connection._with_timeout(
            ray_connection.START, "ray://here:1", ray_connection.SEARCH, lambda: time.sleep(3)
        )


def test_more_workers_than_cores_name_the_layout_that_fits(folder, study, tmp_path):
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(
        ConfigError, match=f"this machine has {cores}; what fits is groups: {cores}, workers: 1"
    ):
        run_study(study(layout={"groups": 99}), tmp_path / "out", folder=folder)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (ValueError("The requested size exceeds /dev/shm"), "--shm-size"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (RuntimeError("Failed to bind to port 6379"), "a port or the number of open files"),
        (Exception("The current node timed out during startup."), "too busy"),
        (RuntimeError("InvalidAuthToken: the token is wrong"), "RAY_AUTH_TOKEN"),
        (RuntimeError("something new"), "session_latest/logs"),
    ],
)
def test_ray_that_does_not_start_is_explained(error, hint, monkeypatch):
    import ray

    def refuse(**_):
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(TuningError, match=f"Ray does not start here.*{hint}"), ray_connection.connected(None):
        pass


def test_a_cluster_that_refuses_is_explained(monkeypatch):
    import ray

    def refuse(**_):
        raise ConnectionError("Failed to connect to Ray cluster at head:6379")

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with (
            pytest.raises(TuningError, match=f"{address}: Ray cannot be joined there.*RAY_AUTH_TOKEN"),
            ray_connection.connected(address),
        ):
            pass


def test_without_ray_the_extra_is_named(monkeypatch, folder, study, tmp_path):
    from caloforge.errors import MissingDependencyError

    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "ray" else real(name, *a)
    )
    with pytest.raises(MissingDependencyError, match=r"needs ray, .*pip install 'caloforge\[tune\]'"):
        run_study(study(), tmp_path / "out", folder=folder)
