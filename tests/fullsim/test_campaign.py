"""Campaigns: the same file whatever the workers, kills and interruptions; nothing lost, nothing twice."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.campaign import pool
from caloforge.campaign.parts import DamagedBlockError, Parts
from caloforge.campaign_part import Part, parts_pattern
from caloforge.config import build
from caloforge.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MissingDependencyError,
    OutputError,
    SimulationError,
)
from caloforge.fullsim import campaign
from caloforge.fullsim.blocks import Block
from caloforge.fullsim.campaign import preflight, run_campaign
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import load_detector
from caloforge.showers import ShowerFile
from caloforge.showers.joining import join_files

pytestmark = pytest.mark.geant4

N, SEED = 80, 5
DETECTOR = load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=7"))
FULLSIM = FullSimConfig()


def beam(**changes):
    document = {
        "energy": {"kind": "flat", "min": "0.5 GeV", "max": "2 GeV"},
        "theta": {"kind": "flat", "min": "70 deg", "max": "110 deg"},
        "impact": "cell",
    }
    return build(BeamConfig, document | changes, "beam")


def simulate(out, n=N, **options):
    return run_campaign(DETECTOR, beam(), FULLSIM, n, out, **{"seed": SEED} | options)


def read(path):
    with ShowerFile(path) as file:
        return file.read(), file.provenance


def assert_same(one, two):
    for name in ("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def parts_of(out):
    return out.with_name(f"{out.name}.parts")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return read(simulate(tmp_path_factory.mktemp("reference") / "t.h5"))


def test_file(reference):
    batch, provenance = reference
    assert len(batch) == N
    assert batch.showers.shape == (N, 25, 7, 9)
    conditions = sample_conditions(beam(), DETECTOR.mesh, SEED, 0, N)
    np.testing.assert_array_equal(batch.incident_energy, conditions.energy)
    np.testing.assert_array_equal(batch.incident_theta, conditions.theta)
    assert conditions.off_axis
    np.testing.assert_array_equal(batch.impact_x, conditions.impact_x)
    np.testing.assert_array_equal(batch.impact_y, conditions.impact_y)
    assert (batch.pdg_id == 11).all()
    assert (batch.seconds > 0).all()
    # cells below 1 keV are 0, and no shower is like another
    assert batch.showers[batch.showers > 0].min() >= np.float32(1e-3)
    assert len(np.unique(batch.visible_energy())) == N
    response = batch.visible_energy() / batch.incident_energy
    assert 0.01 < response.mean() < 0.03
    assert provenance["engine"].startswith("Geant4 11.")
    assert provenance["physics"] == "G4EmStandardPhysics"
    assert provenance["production_cut"] == "0.7 mm"
    assert provenance["seed"] == SEED
    assert provenance["beam"]["energy"]["max"] == "2 GeV"


def test_same_showers_with_two_workers(reference, tmp_path, capfd, monkeypatch):
    seen = []
    # other tests of this process may have imported it
    monkeypatch.delitem(sys.modules, "geant4_pybind", raising=False)
    path = simulate(tmp_path / "t.h5", workers=2, progress=lambda *numbers: seen.append(numbers))
    assert_same(read(path)[0], reference[0])
    assert seen[0] == (0, N)
    assert seen[-1] == (N, N)
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]
    # Geant4 lives in other processes, and its banner went nowhere
    assert "geant4_pybind" not in sys.modules
    assert capfd.readouterr() == ("", "")


def test_showers_do_not_depend_on_how_many_are_made(reference, tmp_path):
    batch, _ = read(simulate(tmp_path / "t.h5", n=7))
    assert_same(batch, reference[0][:7])


def test_parts_of_a_campaign_give_its_file(reference, tmp_path):
    out = tmp_path / "t.h5"
    for number in (2, 1, 3):
        part = Part(number, 3)
        simulate(part.path(out), part=part)
        simulate(part.path(out), part=part, resume=True)
    join_files(parts_pattern(out, 3), out, when_complete=True)
    batch, provenance = read(out)
    assert_same(batch, reference[0])
    assert provenance["simulation"] == reference[1]["simulation"] and provenance["n"] == N
    # the file is that of the whole campaign, and is known as such
    assert simulate(out, resume=True) == out
    with pytest.raises(OutputError, match="is finished with"):
        simulate(Part(1, 3).path(out), part=Part(2, 3), resume=True)


def test_other_seed(reference, tmp_path):
    batch, _ = read(simulate(tmp_path / "t.h5", n=3, seed=SEED + 1))
    assert not np.isin(batch.visible_energy(), reference[0].visible_energy()).any()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_killed_worker(reference, tmp_path):
    killed = []

    def kill(done, total):
        if done >= N // 4 and len(killed) < 2:
            killed.append(children(os.getpid())[0])
            os.kill(killed[-1], signal.SIGKILL)

    path = simulate(tmp_path / "t.h5", workers=2, progress=kill)
    assert len(killed) == 2
    assert_same(read(path)[0], reference[0])


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_and_resumed(reference, tmp_path, number):
    handler = signal.getsignal(number)
    sent = []

    def interrupt(done, total):
        # a second signal would act at once
        if done >= N // 4 and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    out = tmp_path / "t.h5"
    with pytest.raises(Interrupted, match=rf"stopped; \d+ of {N} showers .* are kept: .*resume"):
        simulate(out, workers=2, progress=interrupt)
    assert signal.getsignal(number) is handler
    assert not out.exists()
    assert children(os.getpid()) == []
    with pytest.raises(OutputError, match="give --resume to continue it, or --force"):
        simulate(out)
    seen = []
    assert simulate(out, resume=True, progress=lambda *numbers: seen.append(numbers)) == out
    assert seen[0][0] >= N // 4
    assert_same(read(out)[0], reference[0])
    assert not parts_of(out).exists()


CAMPAIGN = """
import json, sys
from caloforge.beam import BeamConfig
from caloforge.fullsim.campaign import run_campaign
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector
detector, beam, n, out, seed = json.load(sys.stdin)
run_campaign(Detector.model_validate(detector), BeamConfig.model_validate(beam), FullSimConfig(), n, out,
             workers=2, seed=seed)
"""


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


def wait_until(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_killed_parent(reference, tmp_path):
    out = tmp_path / "t.h5"
    job = [DETECTOR.model_dump(mode="json"), beam().model_dump(mode="json"), N, str(out), SEED]
    process = subprocess.Popen([sys.executable, "-c", CAMPAIGN], stdin=subprocess.PIPE, text=True)
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    wait_until(lambda: len(list(parts_of(out).glob("*.npz"))) >= 3)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert 1 <= len(workers) <= 2
    # nobody asks them to stop, and yet they must not run for ever
    wait_until(lambda: not any(running(pid) for pid in workers), seconds=5)
    assert not out.exists()
    simulate(out, resume=True)
    assert_same(read(out)[0], reference[0])
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]


def test_disk_full_at_the_end(reference, tmp_path, monkeypatch):
    def append(*_):
        raise OutputError("the disk is full")

    out = tmp_path / "t.h5"
    with monkeypatch.context() as patch:
        patch.setattr(campaign.ShowerWriter, "append", append)
        with pytest.raises(OutputError, match="full"):
            simulate(out, n=5)
    assert not out.exists()
    # every shower is there: what resumes needs no worker
    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    simulate(out, n=5, resume=True)
    batch, provenance = read(out)
    assert_same(batch, reference[0][:5])
    assert provenance["engine"].startswith("Geant4 11.")


def save_block(folder):
    Block(0, *(np.ones(1, t) for t in (np.uint32, np.uint32, np.float32, np.float32))).save(folder)
    return folder / "0000000000-0000000001.npz"


def flip_method(path):
    data = bytearray(path.read_bytes())
    # the compression method of the first member, in the directory at the end
    data[data.rindex(b"PK\1\2", 0, data.rindex(b"PK\1\2")) + 10] ^= 0x0F
    path.write_bytes(data)


def flip_flag(path):
    data = bytearray(path.read_bytes())
    # "encrypted", in the directory and at the member
    for mark, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(mark) + place] ^= 1
    path.write_bytes(data)


def flip_value(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\3\4" + bytes(200)),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: np.savez(path, counts=np.ones(3)),
        flip_method,
        flip_flag,
        flip_value,
    ],
    ids=["empty", "bad header", "cut", "other arrays", "method", "encrypted", "value"],
)
def test_a_damaged_block_is_known_and_removed(tmp_path, damage):
    path = save_block(tmp_path)
    damage(path)
    with pytest.raises(DamagedBlockError, match="was damaged and has been removed"):
        Block.load(path)
    assert not path.exists()


def test_damaged_blocks_are_simulated_again(reference, tmp_path, monkeypatch):
    out = tmp_path / "t.h5"

    def append(*_):
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(campaign.ShowerWriter, "append", append)
        with pytest.raises(OutputError):
            simulate(out, n=4)
    first, last = sorted(parts_of(out).glob("*.npz"))[:2]
    flip_method(first)
    last.write_bytes(b"")
    said = []
    simulate(out, n=4, resume=True, say=said.append)
    assert_same(read(out)[0], reference[0][:4])
    assert len(said) == 1
    assert re.fullmatch(rf"{first.name} was damaged: \d showers are made again", said[0])
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]


def test_a_block_that_cannot_be_read_now_is_not_removed(tmp_path, monkeypatch):
    path = save_block(tmp_path)

    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(SimulationError, match=r"cannot be read .Input/output error"):
            Block.load(path)
    assert len(Block.load(path)) == 1


def test_a_disk_that_damages_every_block(tmp_path, monkeypatch):
    out = tmp_path / "t.h5"

    def save(self, folder):
        (folder / f"{self.start:010d}-{self.start + len(self):010d}.npz").write_bytes(b"")

    def make(parts, *_):
        for start, stop in parts.missing():
            block = Block(start, np.zeros(stop - start), np.zeros(0), np.zeros(0), np.zeros(stop - start))
            save(block, parts.folder)

    monkeypatch.setattr("caloforge.campaign.running._make", make)
    with pytest.raises(SimulationError, match="damaged 3 times; look at the disk"):
        simulate(out, n=4)


def test_a_clearing_that_is_killed_leaves_the_manifest(tmp_path, monkeypatch):
    """Blocks without it would be taken for those of the next campaign."""
    folder = tmp_path / "t.h5.parts"
    with Parts(folder, {"seed": 1}, 3, restart=False):
        save_block(folder)
    order, unlink = [], Path.unlink

    def note(path, **options):
        order.append(path.name)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", note)
    with Parts(folder, {"seed": 2}, 3, restart=True):
        pass
    assert order.index("campaign.json") > order.index("0000000000-0000000001.npz")


def test_resume_of_other_settings_is_refused(tmp_path):
    out = tmp_path / "t.h5"

    def interrupt(done, total):
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        simulate(out, n=20, progress=interrupt)
    kept = sorted(path.name for path in parts_of(out).glob("*.npz"))
    assert kept
    with pytest.raises(ConfigError, match="seed: 5 then, 6 now"):
        simulate(out, n=20, seed=6, resume=True)
    with pytest.raises(ConfigError, match=r'fullsim.production_cut: "0.7 mm" then, "1 mm" now'):
        run_campaign(DETECTOR, beam(), FullSimConfig(production_cut="1 mm"), 20, out, seed=SEED, resume=True)
    assert sorted(path.name for path in parts_of(out).glob("*.npz")) == kept


def test_finished_file(reference, tmp_path):
    out = simulate(tmp_path / "t.h5", n=4)
    before = out.stat().st_mtime_ns
    with pytest.raises(OutputError, match="exists already; give --force"):
        simulate(out, n=4)
    # asked to resume what is complete: nothing is left to do
    assert simulate(out, n=4, resume=True) == out
    with pytest.raises(OutputError, match="is finished with 4 showers: nothing is left to resume"):
        simulate(out, n=5, resume=True)
    with pytest.raises(OutputError, match=r"other settings .seed: 5 then, 6 now"):
        simulate(out, n=4, seed=6, resume=True)
    assert out.stat().st_mtime_ns == before
    out.write_bytes(out.read_bytes()[:1000])
    with pytest.raises(DataError, match="truncated"):
        simulate(out, n=4, resume=True)
    simulate(out, n=5, force=True, resume=True)
    assert_same(read(out)[0], reference[0][:5])


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot create this directory"):
        simulate(tmp_path / "file/t.h5")
    with pytest.raises(OutputError, match="this is a directory"):
        simulate(tmp_path, force=True)
    with pytest.raises(OutputError, match="choose another disk or fewer showers"):
        simulate(tmp_path / "t.h5", n=2**32 - 2)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n: got 0 showers"),
        ({"n": 2**32}, "expected 1 to 4294967294"),
        ({"workers": 0}, "workers: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_numbers_that_make_no_campaign(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        simulate(tmp_path / "t.h5", **options)
    assert list(tmp_path.iterdir()) == []


def test_workers_that_keep_dying(tmp_path, monkeypatch):
    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    with pytest.raises(
        SimulationError, match=r"showers 0 to 0: 3 workers died; .* status 1.* --resume"
    ) as caught:
        simulate(tmp_path / "t.h5")
    assert list(tmp_path.iterdir()) == []
    # a generation has the same workers
    assert "detector" not in str(caught.value)


def test_physics_without_its_data(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("G4", "GEANT4_"))]:
        monkeypatch.delenv(name)
    config = FullSimConfig(physics="FTFP_BERT")
    with pytest.raises(MissingDependencyError, match="GEANT4_DATA_DIR"):
        run_campaign(DETECTOR, beam(), config, 3, tmp_path / "t.h5")
    assert list(tmp_path.iterdir()) == []


def test_preflight():
    wide = {"kind": "flat", "min": "10 MeV", "max": "1 GeV"}
    assert 0 < preflight(DETECTOR, beam(energy=wide), FULLSIM) < 1


def profile(tmp_path, **changes):
    out = run_campaign(DETECTOR, beam(impact="centre", theta={"kind": "fixed", "value": "90 deg"}, **changes),
                       FULLSIM, 30, tmp_path / "t.h5", force=True)  # fmt: skip
    batch, _ = read(out)
    return batch, batch.showers.sum(axis=(2, 3)).mean(axis=0)


def test_particles(tmp_path):
    energy = {"kind": "fixed", "value": "1 GeV"}
    visible = {}
    for particle, pdg_id in (("e-", 11), ("e+", -11), ("gamma", 22), ("pi0", 111)):
        batch, layers = profile(tmp_path, particle=particle, energy=energy)
        assert (batch.pdg_id == pdg_id).all()
        visible[particle] = layers
    # neutral ones leave nothing before they convert, charged ones ionise from the first layer on
    assert visible["gamma"][0] < 0.7 * visible["e-"][0]
    for particle, layers in visible.items():
        assert layers.sum() == pytest.approx(visible["e-"].sum(), rel=0.2), particle
    depth = np.arange(25)
    centre = {particle: (layers * depth).sum() / layers.sum() for particle, layers in visible.items()}
    # PDG, passage of particles through matter: photons start about one radiation length later
    assert 0.2 < centre["gamma"] - centre["e-"] < 2
    assert centre["e+"] == pytest.approx(centre["e-"], abs=0.7)


def test_muons_ionise_every_layer_alike(tmp_path):
    batch, layers = profile(tmp_path, particle="mu-", energy={"kind": "fixed", "value": "1 GeV"})
    assert (batch.pdg_id == 13).all()
    # PDG: 1.664 MeV cm2/g at minimum ionisation, 2.33 g/cm3, 0.5 mm; 1 GeV is a little above the minimum
    assert np.median(batch.showers.sum(axis=(2, 3))) == pytest.approx(1.664 * 2.33 * 0.05 * 0.8, rel=0.25)
    assert layers.min() > 0.12
