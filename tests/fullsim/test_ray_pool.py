"""Campaigns on a Ray cluster: the file of one core, whatever nodes and workers are lost."""

import heapq
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import caloforge
from caloforge.beam import BeamConfig
from caloforge.campaign import ray_pool
from caloforge.campaign.parts import Parts
from caloforge.campaign.pool import Queue
from caloforge.campaign.ray_pool import RayPool
from caloforge.cli import main
from caloforge.config import build
from caloforge.errors import ConfigError, Interrupted, OutputError, SimulationError
from caloforge.fullsim.blocks import Block
from caloforge.fullsim.campaign import run_campaign
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import load_detector
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.registry import build_model
from caloforge.models.store import save_model
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerFile

DETECTOR = load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=7"))
BEAM = build(BeamConfig, {"energy": {"kind": "flat", "min": "0.5 GeV", "max": "2 GeV"}}, "beam")
N = 40


# ---- the queue alone, in simulated time


def idle_share(speeds, showers, latency=0.01):
    """Share of the workers' time without work, for workers of these speeds in showers a second."""
    rng = np.random.default_rng(1)
    queue = Queue([(0, showers)], len(speeds))
    events, busy, done, now = [(0.0, worker, None, 0.0) for worker in range(len(speeds))], 0.0, [], 0.0
    while events:
        now, worker, task, seconds = heapq.heappop(events)
        if task is not None:
            queue.finished(task, seconds, worker)
            done += range(*task.interval)
        if queue:
            task = queue.take(worker)
            start, stop = task.interval
            seconds = rng.gamma(4, 0.25, stop - start).sum() / speeds[worker]
            busy += seconds
            heapq.heappush(events, (now + latency + seconds, worker, task, seconds))
    assert sorted(done) == list(range(showers))
    return 1 - busy / (now * len(speeds))


@pytest.mark.parametrize("speeds", [(1, 2, 3, 5), (1, 1, 1, 10), (0.5, 0.5, 5, 5)])
def test_workers_of_unequal_speed_are_rarely_idle(speeds):
    assert idle_share(speeds, 3000) < 0.05


def test_very_many_workers_send_few_blocks():
    """The driver writes each block: of 5000 workers no more than 20 a second may come."""
    queue = Queue([(0, 10_000_000)], 5000)
    queue.finished(queue.take(0), 1.0, 0)
    start, stop = queue.take(0).interval
    assert stop - start == 250


# ---- on a cluster of two nodes


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster in processes of this machine: a head without cores and two nodes of one core."""
    # the worker processes find the simulated engine; a busy machine takes long to start Ray
    changes = {"PYTHONPATH": str(Path(__file__).parent), "RAY_raylet_start_wait_time_s": "180"}
    # of its own: in Ray's usual folder other programs of this machine would find the cluster
    changes["RAY_TMPDIR"] = folder = tempfile.mkdtemp(prefix="ray-")
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield made
    made.shutdown()
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    shutil.rmtree(folder, ignore_errors=True)


def engine_pool(cluster, folder, seconds=0.02, workers=2, **job):
    return RayPool(
        {"seconds": seconds, "seed": 1, **job}, folder, workers, "simulated_engine", cluster.address
    )


def numbers_in(folder, n):
    """The showers of the blocks, in order; checks that each is there once and right."""
    with Parts(folder, {}, n, restart=False) as parts:
        assert parts.missing() == []
        blocks = [Block.load(path) for path in sorted(folder.glob("*.npz"))]
        found = np.concatenate([np.arange(block.start, block.start + len(block)) for block in blocks])
        np.testing.assert_array_equal(np.concatenate([block.energies for block in blocks]), found + 1.0)
        parts.remove()
    return found.tolist()


def run_all(pool, n):
    notes = []
    with pool:
        for interval, _ in pool.run([(0, n)]):
            if interval is not None:
                notes += pool.progress
    return notes


def test_blocks_come_from_all_nodes(cluster, tmp_path):
    notes = run_all(engine_pool(cluster, tmp_path), 120)
    assert numbers_in(tmp_path, 120) == list(range(120))
    assert notes[-1] == "2 nodes, 2 workers"


def test_a_worker_process_that_dies(cluster, tmp_path):
    deadly = tmp_path / "deadly"
    deadly.touch()
    run_all(engine_pool(cluster, tmp_path, deadly=str(deadly)), 60)
    assert not deadly.exists()
    assert numbers_in(tmp_path, 60) == list(range(60))


def test_a_node_that_is_lost_and_one_that_joins(cluster, tmp_path):
    """A third node is lost in the middle of its block; its showers are made by the others."""
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    done, removed = 0, False
    with engine_pool(cluster, tmp_path, seconds=0.05, workers=3) as pool:
        for interval, _ in pool.run([(0, 200)]):
            done += interval is not None
            if not removed and pool.progress == ("3 nodes, 3 workers",) and done > 6:
                cluster.remove_node(node, allow_graceful=False)
                removed = True
    assert removed
    assert numbers_in(tmp_path, 200) == list(range(200))


def test_errors_of_the_cluster(cluster, tmp_path, monkeypatch):
    with pytest.raises(
        SimulationError, match="a worker of the cluster does not start: it ended with status 1"
    ):
        run_all(RayPool({}, tmp_path, 1, "no_such_module", cluster.address), 3)
    monkeypatch.setattr(ray_pool, "__version__", "0.0.0")
    with pytest.raises(SimulationError, match=r"a node has caloforge .*, this machine has 0\.0\.0"):
        run_all(engine_pool(cluster, tmp_path), 3)


def test_a_cluster_without_free_cores(cluster, tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(ray_pool, "START_SECONDS", 1.0)
    with engine_pool(cluster, tmp_path) as pool:
        taken = ray.util.placement_group([{"CPU": 1}] * 2)
        ray.get(taken.ready())
        with pytest.raises(SimulationError, match="no worker has started for 1 s"):
            list(pool.run([(0, 3)]))
        ray.util.remove_placement_group(taken)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("ray://nowhere:abc", ConfigError, r"--cluster ray://nowhere:abc: expected ray://HOST:PORT"),
        ("127.0.0.1:{}", SimulationError, r"no answer .* Without --cluster the campaign runs here"),
    ],
)
def test_a_cluster_that_is_not_there(tmp_path, address, error, message):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(free.getsockname()[1])
    with pytest.raises(error, match=message), RayPool({}, tmp_path, 1, "simulated_engine", address):
        pass


# ---- generation


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network that takes impact points anywhere in a cell."""
    ranges = TrainedRange(energy=(1e4, 1e5), theta=(1.5, 1.6), phi=(0.0, 0.0), pdg_ids=(11,))
    config = build(Gan3dConfig, {"preset": "debug", "generator": {"latent": 5}}, "model")
    detector = load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))
    network = build_model(config, detector, DataFacts(ranges=ranges, response_fit=(0.02,)), seed=2)
    return save_model(network, tmp_path_factory.mktemp("model") / "model", dict(network.state_dict()))


def content(path):
    """Compressed chunks and columns of a shower file, but the times."""
    with h5py.File(path) as file:
        showers = file["showers"]
        chunks = [
            showers.id.read_direct_chunk((start, 0, 0, 0))[1]
            for start in range(0, len(showers), showers.chunks[0])
        ]
        columns = {name: file[name][...].tobytes() for name in file if name not in ("showers", "seconds")}
        facts = json.loads(file.attrs["provenance"])
    for name in ("created", "command"):
        facts.pop(name)
    return chunks, columns, facts


def test_generated_on_the_cluster(cluster, model, tmp_path):
    """Interrupted on the cluster and resumed here: the file of one core, down to its bytes."""
    # a batch is a chunk of the file here: blocks of 107 showers
    options = {"n": 1000, "seed": 3, "batch_size": 107, "part": "2/2", "backend": "torch"}
    options |= {"threads": 1, "progress": False}
    one, many = tmp_path / "one-2-of-2.h5", tmp_path / "many-2-of-2.h5"
    caloforge.generate(model, out=tmp_path / "one.h5", **options)

    def interrupt(queue, *arguments):
        finished(queue, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    finished = Queue.finished
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "finished", interrupt)
        with pytest.raises(Interrupted, match=r"stopped; \d+ of 500 showers of .*with resume=True"):
            caloforge.generate(model, out=tmp_path / "many.h5", cluster=cluster.address, **options)
    assert not many.exists()
    with pytest.raises(OutputError, match="an interrupted campaign is there"):
        caloforge.generate(model, out=tmp_path / "many.h5", **options)
    with pytest.raises(ConfigError, match="seed: 3 then, 4 now"):
        caloforge.generate(model, out=tmp_path / "many.h5", resume=True, **(options | {"seed": 4}))
    caloforge.generate(model, out=tmp_path / "many.h5", resume=True, **options)
    assert content(many) == content(one)
    assert sorted(path.name for path in tmp_path.iterdir()) == [many.name, one.name]


def test_generation_on_a_cluster_refuses(model, tmp_path):
    with pytest.raises(ConfigError, match="--cluster and --resume are for files; give -o FILE"):
        caloforge.generate(model, n=3, cluster="auto")
    (tmp_path / "there.h5").touch()
    with pytest.raises(OutputError, match="exists already"):
        caloforge.generate(model, n=3, out=tmp_path / "there.h5", cluster="auto", progress=False)


# ---- with Geant4


@pytest.mark.geant4
def test_the_file_is_that_of_one_core(cluster, tmp_path, capfd):
    """Also of a campaign that is interrupted on the cluster, and resumed there with more showers."""

    def simulate(out, n, **options):
        return run_campaign(DETECTOR, BEAM, FullSimConfig(), n, tmp_path / out, seed=5, **options)

    def stop(done, total, *note):
        seen.append(note)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    seen = []
    simulate("one.h5", N)
    with pytest.raises(Interrupted, match=r"stopped; \d+ of 30 showers"):
        simulate("many.h5", 30, cluster=cluster.address, progress=stop)
    assert seen[-1][0].endswith("workers")
    # not the stack trace that Ray prints of a signal
    assert "SIGTERM" not in capfd.readouterr().err
    simulate("many.h5", N, cluster=cluster.address, resume=True)
    with ShowerFile(tmp_path / "one.h5") as one, ShowerFile(tmp_path / "many.h5") as many:
        np.testing.assert_array_equal(one.read().showers, many.read().showers)
        np.testing.assert_array_equal(one.column("incident_energy"), many.column("incident_energy"))
        assert one.provenance["simulation"] == many.provenance["simulation"]


@pytest.mark.slow
@pytest.mark.geant4
def test_events_on_the_cluster(cluster, tmp_path):
    pytest.importorskip("pyhepmc")
    sys.path.append(str(Path(__file__).parents[1] / "fastsim"))
    from event_files import particle, write_hepmc

    path = write_hepmc(tmp_path / "e.hepmc", [[particle(11, 2.0), particle(22, 1.0, 0.1)]] * 5)
    for name, where in (("one.h5", {}), ("many.h5", {"cluster": cluster.address})):
        caloforge.simulate_events(
            path, detector="clic-ecal-25", out=tmp_path / name, seed=3, progress=False, **where
        )
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "many.h5") as many:
        found = []
        one.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(found) > 10
        for name in found:
            np.testing.assert_array_equal(one[name][...], many[name][...])


@pytest.mark.slow
@pytest.mark.geant4
def test_the_driver_is_killed(cluster, tmp_path):
    """By SIGKILL, after a few blocks: nothing is left running, and --resume gives the file of one core."""
    (tmp_path / "run.yaml").write_text(
        "name: t\ndetector: {preset: clic-ecal-25, mesh: {nx: 9, ny: 7}}\n"
        "beam: {energy: {kind: flat, min: 0.5 GeV, max: 2 GeV}}\nmodel: {family: frozen}\n"
    )
    words = f"simulate {tmp_path}/run.yaml -n {N} -o {tmp_path}/t.h5 --seed 5".split()
    words += ["--cluster", cluster.address, "--no-progress"]
    driver = subprocess.Popen([sys.executable, "-m", "caloforge", *words])
    parts = tmp_path / "t.h5.parts"
    while driver.poll() is None and len(list(parts.glob("*.npz"))) < 2:
        try:
            driver.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    driver.kill()
    driver.wait()
    assert len(list(parts.glob("*.npz"))) >= 2 and not (tmp_path / "t.h5").exists()
    assert main([*words, "--resume"]) == 0
    run_campaign(DETECTOR, BEAM, FullSimConfig(), N, tmp_path / "one.h5", seed=5)
    with ShowerFile(tmp_path / "one.h5") as one, ShowerFile(tmp_path / "t.h5") as many:
        np.testing.assert_array_equal(one.read().showers, many.read().showers)
