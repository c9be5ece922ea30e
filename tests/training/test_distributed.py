"""Trainings on several real processes: what must be equal, who gets which showers, what failures do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from together import family_models, plain_model, plain_settings, plain_split
from toy import DETECTOR, MODEL

from caloforge.config import build
from caloforge.errors import ConfigError
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.registry import create_model, list_models
from caloforge.run import load_run
from caloforge.showers import ShowerBatch
from caloforge.showers.dataset import ShowerBatches
from caloforge.training.checkpoint import checkpoints, read_state
from caloforge.training.config import DistributionConfig
from caloforge.training.data_split import split_showers
from caloforge.training.evaluation import Evaluation
from caloforge.training.loop import Trainer, train_model
from caloforge.training.process_group import Communicator

TOGETHER = Path(__file__).with_name("together.py")
MPIRUN = Path(sys.executable).with_name("mpirun")
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
} | {"OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
CALOFORGE = [sys.executable, "-m", "caloforge"]

needs_mpirun = pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun (it comes with the package mpich)")


def start(command, **environ):
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environ,
    )


def end(*processes, timeout=200, check=True):
    """Outputs of processes that run at the same time."""
    try:
        outputs = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert not check or process.returncode == 0, errors[-3000:]
    return outputs


def merits(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["eval_merit"] for line in lines if "eval_merit" in line]


def state(out):
    return read_state(checkpoints(out / "checkpoints")[-1])["progress"]


def write_run(folder, **training):
    document = {
        "name": "toy",
        "seed": 1,
        "detector": DETECTOR,
        "beam": {"energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
        "model": MODEL,
        "training": {
            "batch_size": 12,
            "precision": "fp32",
            "threads": 1,
            "ema": 0.9,
            "evaluation": {"share": 0.15, "showers": 36},
        }
        | training,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def outcome(data, tmp_path_factory):
    """What two processes found, started by mpirun."""
    if not MPIRUN.exists():
        pytest.skip("no mpirun (it comes with the package mpich)")
    out = tmp_path_factory.mktemp("together")
    end(start([MPIRUN, "-n", "2", sys.executable, TOGETHER, "strategies", data, out]))
    return out, [json.loads((out / f"strategies-{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_equal_one_with_the_doubled_batch(outcome, data, tmp_path):
    """For a model without batch statistics, whose noise belongs to the shower: the same gradients, summed in
    another order. 203 showers are batches of 10 and 11, so that the weights of the processes count.
    """
    out, (first, second) = outcome
    assert first["weights"] == second["weights"]
    assert first["weights"][0] == first["weights"][1]
    ranks = batches_of_both(data)
    assert len({ranks[0].weight(step) for step in range(len(ranks[0]))}) > 1
    model = plain_model(data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, both = doubled(data, model, tmp_path), checkpoints(out / "plain" / "checkpoints")[-1]
    for name in ("model", "average", "optimizer-generator", "optimizer-discriminator"):
        found, expected = load_file(both / f"{name}.safetensors"), load_file(one / f"{name}.safetensors")
        assert found.keys() == expected.keys()
        for key in found:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-5, msg=f"{name} {key}")
    moved = load_file(both / "model.safetensors")
    assert max(float((moved[name] - before[name]).abs().max()) for name in before) > 0.02


@pytest.mark.parametrize("family", list_models())
def test_every_family_trains_on_two_processes(outcome, family):
    _, (first, second) = outcome
    one, other = first["families"][family], second["families"][family]
    assert one["weights"] == other["weights"]
    assert one["merits"] == other["merits"]
    assert np.isfinite(one["merits"]).all()


def batches_of_both(data):
    """What each of two processes trains on."""
    return [
        ShowerBatches(data, 11, members=plain_split().train, seed=1, rank=rank, world_size=2)
        for rank in (0, 1)
    ]


def doubled(data, model, out):
    """The last checkpoint of one process whose batches are those of both."""
    ranks, threads = batches_of_both(data), torch.get_num_threads()
    # as many as each process has: the first operations of a process on several may round otherwise
    torch.set_num_threads(1)
    with Communicator(60) as alone:
        trainer = Trainer(model, data, plain_settings(batch_size=22), out, alone, seed=1, resume=False)
        pairs = [(ShowerBatch.concatenate(list(pair)), 1.0) for pair in zip(*ranks, strict=True)]
        assert len(pairs) == trainer.total == 10
        trainer.schedule.showers = lambda _clock: iter(pairs)
        trainer.progress.epoch = 1
        trainer.run()
    torch.set_num_threads(threads)
    return checkpoints(out / "checkpoints")[-1]


def test_the_layered_model_of_two_processes_equals_that_of_the_doubled_batch(outcome, data, tmp_path):
    """Its likelihood is a mean over showers. Its comparison is none: it compares quantiles and means of hits
    of a batch, so that two processes take other steps.
    """
    out, _ = outcome
    one = doubled(data, family_models(data)["layered likelihood"], tmp_path)
    both = checkpoints(out / "families" / "layered likelihood" / "checkpoints")[-1]
    found, expected = (load_file(path / "model.safetensors") for path in (both, one))
    assert found.keys() == expected.keys()
    # sums over the showers of a batch; the processes have the mean of both
    expected["cell_sampler.residual_skewness.moments"] /= 2
    for key in found:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-5, msg=key)
    start = family_models(data)["layered likelihood"].state_dict()
    name = "cell_sampler.independent.coefficients"
    assert float((found[name] - start[name]).abs().max()) > 0.02


def test_the_frozen_library_of_two_processes_is_that_of_one(outcome, data, tmp_path):
    out, _ = outcome
    with Communicator(60) as alone:
        model = family_models(data)["frozen"]
        train_model(model, data, plain_settings(), tmp_path, seed=1, communicator=alone)
    one, both = (
        load_file(checkpoints(path / "checkpoints")[-1] / "model.safetensors")
        for path in (tmp_path, out / "families" / "frozen")
    )
    assert one.keys() == both.keys()
    assert all(torch.equal(one[name], both[name]) for name in one)


def test_the_shared_evaluation_is_that_of_one_process(outcome, data):
    _, (first, second) = outcome
    with Communicator(60) as alone:
        model = plain_model(data)
        expected = Evaluation(data, plain_split().evaluated(37), alone)(model, alone.device, "fp32")
    assert first["evaluation"] == second["evaluation"] == pytest.approx(expected, rel=1e-6)


def test_processes_of_one_machine_listen_on_loopback_alone(outcome):
    _, found = outcome
    # the store of the first one, and those of gloo
    assert [process["beyond"] for process in found] == [[], []] and found[0]["listening"] >= 2


def test_elastic_averaging_learns_the_toy(outcome):
    _, (first, second) = outcome
    assert first["learnt"] == second["learnt"]
    assert min(first["learnt"][-4:]) < 0.6 * first["learnt"][0]


@needs_mpirun
@pytest.mark.slow
def test_groups_of_four_processes(data, tmp_path):
    end(start([MPIRUN, "-n", "4", sys.executable, TOGETHER, "four", data, tmp_path]))
    found = [json.loads((tmp_path / f"four-{rank}.json").read_text()) for rank in range(4)]
    # from 10, 14, 18, 22 around a centre at 10; every = 2, across_every = 4
    assert [one["forces"]["local-sgd"] for one in found] == [
        [own, 16.0, 16.0, 16.0] for own in (10.0, 14.0, 18.0, 22.0)
    ]
    assert [one["forces"]["hierarchical"] for one in found] == [
        [10.0, 12.0, 12.0, 16.0],
        [14.0, 12.0, 12.0, 16.0],
        [18.0, 20.0, 20.0, 16.0],
        [22.0, 20.0, 20.0, 16.0],
    ]
    # elastic, force 0.6: x <- x - 0.15 (x - c), c <- c + 0.6 (mean x - c)
    x, centre, expected = np.array([10.0, 14.0, 18.0, 22.0]), 10.0, []
    for step in range(1, 5):
        if step % 2 == 0:
            x, centre = x - 0.15 * (x - centre), centre + 0.6 * (x.mean() - centre)
        expected.append(x)
    forces = np.array([one["forces"]["elastic"] for one in found]).T
    assert forces == pytest.approx(np.array(expected))
    assert [one["forces"]["elastic agreed"] for one in found] == [pytest.approx(centre, abs=1e-3)] * 4
    assert all(one["learnt"] == found[0]["learnt"] for one in found)
    assert min(found[0]["learnt"][-4:]) < 0.6 * found[0]["learnt"][0]
    with Communicator(60) as alone:
        model = create_model(build(Gan3dConfig, MODEL, "model"), data, seed=4)
        expected = Evaluation(data, range(160, 240), alone)(model, alone.device, "fp32")
    assert all(one["evaluation"] == pytest.approx(expected, rel=1e-6) for one in found)


@needs_mpirun
def test_the_verb_under_mpirun_and_torchrun_and_resumed_by_one_process(data, tmp_path):
    run = write_run(tmp_path, cache=str(tmp_path / "cache"))
    command = [*CALOFORGE, "train", run, "--data", data, "--set", "training.max_steps=5", "-o"]
    by_mpi, by_torch = tmp_path / "mpi", tmp_path / "torch"
    outputs = end(
        start([MPIRUN, "-n", "2", *command, by_mpi]),
        start([*TORCHRUN, "--no-python", *command, by_torch]),
    )
    for text, _ in outputs:
        assert text.count("trained 5 steps") == 1
        assert "for other processes" in text
    for name in ("model", "average"):
        one, other = (
            load_file(checkpoints(out / "checkpoints")[-1] / f"{name}.safetensors")
            for out in (by_mpi, by_torch)
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert (by_mpi / "metrics.jsonl").read_text().count("\n") == 1
    assert merits(by_mpi) == merits(by_torch)
    copies = list((tmp_path / "cache").glob("*.h5"))
    assert [copy.read_bytes() for copy in copies] == [data.read_bytes()]
    # 5 of 9 steps of the first epoch are done; one process finishes it
    seen = []
    model = create_model(build(Gan3dConfig, MODEL, "model"), data, seed=1, beam=load_run(run).beam)
    held_out = {"share": 0.15, "showers": 36}
    settings = plain_settings(batch_size=12, augment=True, optimizer={}, evaluation=held_out)
    with Communicator(60) as alone:
        trainer = Trainer(model, data, settings, by_mpi, alone, seed=1, resume=True)
        step = trainer._step
        trainer._step = lambda showers, weight: (seen.append(showers), step(showers, weight))[1]
        assert trainer.progress.parts == [[2, 5]]
        result = trainer.run()
    trained = split_showers(240, settings.evaluation).train
    assert len(trained) == 204
    for rank in (0, 1):
        batches = ShowerBatches(data, 12, members=trained, seed=1, rank=rank, world_size=2)
        seen += [batch for _, batch in zip(range(5), batches, strict=False)]
    energies = np.sort(np.concatenate([batch.incident_energy for batch in seen]))
    everything = ShowerBatches(data, 204, members=trained)
    assert np.array_equal(energies, np.sort(next(iter(everything)).incident_energy))
    assert result.steps == trainer.total == 5 + len(seen) - 10


def children(process):
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in text.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc")
def test_a_killed_process_is_started_anew_and_the_job_ends_as_if_nothing_had_been(data, tmp_path):
    run, cut, whole = (
        write_run(tmp_path, epochs=5, checkpoint_steps=4, keep_checkpoints=100),
        tmp_path / "cut",
        tmp_path / "whole",
    )
    command = [*CALOFORGE, "train", run, "--data", data, "-o"]
    restarts = ["--max-restarts", "1", "--monitor-interval", "0.1", "--no-python"]
    reference = start([*TORCHRUN, "--no-python", *command, whole])
    job = start([*TORCHRUN, *restarts, *command, cut])
    limit = time.monotonic() + 120
    try:
        while len(checkpoints(cut / "checkpoints")) < 2:
            assert job.poll() is None, job.communicate()
            assert time.monotonic() < limit, "no checkpoint came"
            time.sleep(0.005)
        os.kill(children(job.pid)[1], signal.SIGKILL)
    finally:
        _, (text, errors) = end(reference, job, check=False)
    assert (reference.returncode, job.returncode) == (0, 0), errors[-3000:]
    assert "trained 45 steps" in text
    assert "Signal 9" in errors or "exitcode: -9" in errors
    assert (state(cut)["step"], state(cut)["epoch"], state(cut)["parts"]) == (45, 5, [])
    assert merits(cut) == merits(whole)
    last = [checkpoints(out / "checkpoints")[-1] for out in (cut, whole)]
    for path in last[0].glob("*.safetensors"):
        one, other = load_file(path), load_file(last[1] / path.name)
        assert all(torch.equal(one[key], other[key]) for key in one), path.name


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pair(how, data, out):
    """Two processes of which the second fails, without a launcher that would end the first."""
    port = str(free_port())
    return [
        start(
            [sys.executable, TOGETHER, how, data, out],
            RANK=str(rank),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in (0, 1)
    ]


def heard(first, second):
    """What the first process says of the second."""
    try:
        text, errors = first.communicate(timeout=150)
    finally:
        for process in (first, second):
            process.kill()
        second.communicate()
    assert text, errors[-3000:]
    found = json.loads(text)
    assert "process 1 on" in found["error"]
    assert "--resume" in found["error"]
    # the limit of 3 s, 3 s to tell the dead from the living, and a busy machine
    assert found["waited"] < 20
    return found["error"]


def test_a_process_that_is_killed_or_hangs_ends_the_others(data, tmp_path):
    killed, asleep = pair("killed", data, tmp_path), pair("asleep", data, tmp_path)
    assert "no longer answers" in heard(*killed)
    assert "lives but hangs at step 3" in heard(*asleep)


@pytest.mark.slow
def test_the_failure_of_a_process_is_reported_by_the_others(data, tmp_path):
    assert "a fault of its own" in heard(*pair("stopped", data, tmp_path))


def test_groups_must_fit(data, tmp_path):
    with pytest.raises(ConfigError, match=r"across_every: got 10, expected a multiple of every \(4\)"):
        build(DistributionConfig, {"kind": "hierarchical", "across_every": 10}, "x")


def test_a_changed_file_is_copied_again_and_a_damaged_copy_replaced(data, tmp_path, monkeypatch):
    from caloforge.training.local_copy import local_copy

    original, folder = tmp_path / "train.h5", str(tmp_path / "near")
    original.write_bytes(data.read_bytes())
    with Communicator(60) as alone:
        copy = local_copy(original, folder, alone)
        assert copy.read_bytes() == original.read_bytes()
        first = copy.stat().st_ino
        assert local_copy(original, folder, alone).stat().st_ino == first
        copy.write_bytes(b"damaged")
        assert local_copy(original, folder, alone).read_bytes() == original.read_bytes()
        original.write_bytes(b"another file")
        assert local_copy(original, folder, alone).read_bytes() == b"another file"
    assert len(list((tmp_path / "near").iterdir())) == 2


def test_train_model_finds_the_other_processes_itself(new_model, data, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without RANK"):
        train_model(new_model(), data, settings(), tmp_path, seed=1)
