"""`simulate-events`: hits of generated events, full and with a model; read back with uproot and h5py."""

import json
import os
import re
import signal
import subprocess
import sys

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from event_files import particle, write_hepmc

import caloforge
from caloforge import cli
from caloforge.errors import ConfigError, Interrupted, OutputError
from caloforge.fastsim.events.hits import decode

pytestmark = pytest.mark.geant4

# at the face: an electron for the model, one below its threshold, a photon; a pion decays in front; others
MIXED = [
    particle(11, 40.0, 0.1),
    particle(11, 2.0),
    particle(22, 0.5, 0.05),
    particle(12, 9.0),
    particle(211, 3.0),
    particle(22, -3.0),
    particle(9900012, 1.0),
    particle(22, 0.0),
]
FAST, CREATED = 1 << 22, 1 << 30


def simulate(path, out, **options):
    given = {"detector": "clic-ecal-25", "seed": 3, "progress": False, "out": out} | options
    return caloforge.simulate_events(path, **given)


def read(path):
    with uproot.open(path) as file:
        names = file.keys(cycle=False)
        return file["events"].arrays(), {name: file[name] for name in names if name != "events"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    events = [MIXED, [particle(22, 0.0, 5.0)], [particle(11, 30.0), particle(11, 30.0, 0.2)]]
    return write_hepmc(folder / "events.hepmc", events)


@pytest.fixture(scope="module")
def fast(mixed, tmp_path_factory):
    out = tmp_path_factory.mktemp("fast") / "hits.root"
    outcome = simulate(mixed, out, fast="clic-electron")
    return *read(out), outcome


def test_summary(fast):
    _, _, outcome = fast
    assert outcome["events"] == 3
    assert {reason: entry["particles"] for reason, entry in outcome["not_simulated"].items()} == {
        "missed": 2, "invisible": 1, "hadron": 1, "unknown": 1, "unusable": 1,
    }  # fmt: skip
    assert outcome["particles"] == {
        "taken": 3, "kind": 1, "energy": 1, "direction": 0, "tracked": 0, "left": 0,
    }  # fmt: skip
    energy = outcome["energy"]
    assert energy["primary"] == pytest.approx(sum(energy[route] for route in outcome["particles"]), rel=1e-9)
    for words in (
        "do not reach the face: 2 particles, 8 GeV",
        "neutrinos: 1 particles",
        "need a hadronic physics list .*: 1 particles",
        "zero or not finite: 1 particles",
        r"simulated by the model: 3 particles, 100 GeV",
        "2 of those of the model entered a cell off its centre",
    ):
        assert re.search(words, outcome.text), words


def test_hits_and_contributions_are_one_energy(fast):
    arrays, facts, _ = fast
    assert facts["cellIDEncoding"] == "layer:16,row:16,column:16"
    assert json.loads(facts["provenance"])["model"] == "clic-electron"
    assert arrays["EventHeader.eventNumber"].tolist() == [[100], [101], [102]]
    assert ak.num(arrays["ECalHits.cellID"]).tolist()[1] == 0
    for event in arrays:
        energy, begin, end, share = (
            np.asarray(event[name])
            for name in (
                "ECalHits.energy", "ECalHits.contributions_begin", "ECalHits.contributions_end",
                "ECalHitContributions.energy",
            )
        )  # fmt: skip
        assert len(np.unique(event["ECalHits.cellID"])) == len(energy)
        sums = [share[a:b].sum() for a, b in zip(begin, end, strict=True)]
        np.testing.assert_allclose(sums, energy, rtol=1e-5)
        assert (np.diff(begin) == (end - begin)[:-1]).all()
    # GeV: the response is 2.2 %
    assert ak.sum(arrays["ECalHits.energy"][2]) == pytest.approx(60 * 0.022, rel=0.15)


def test_particles_of_the_model_are_marked(fast):
    arrays, _, _ = fast
    event = arrays[0]
    pdg_id, status = np.asarray(event["MCParticles.PDG"]), np.asarray(event["MCParticles.simulatorStatus"])
    handled = np.flatnonzero(status & FAST)
    assert len(handled) == 1
    assert event["MCParticles.momentum.x"][handled[0]] == 40.0
    who, step = (
        np.asarray(event[name])
        for name in ("_ECalHitContributions_particle.index", "ECalHitContributions.stepLength")
    )
    assert ((step == -1) == (who == handled[0])).all()
    assert set(step) == {-1.0, 0.0}
    np.testing.assert_array_equal(np.asarray(event["ECalHitContributions.PDG"]), pdg_id[who])
    # one contribution of each particle to each cell
    cells = np.repeat(
        np.asarray(event["ECalHits.cellID"]),
        np.asarray(event["ECalHits.contributions_end"] - event["ECalHits.contributions_begin"]),
    )
    assert len({*zip(cells.tolist(), who.tolist(), strict=True)}) == len(who)
    # the electrons and the photon: the response of each
    for index in set(who.tolist()):
        momentum = np.hypot(event["MCParticles.momentum.x"][index], event["MCParticles.momentum.y"][index])
        share = np.asarray(event["ECalHitContributions.energy"])[who == index].sum()
        assert share == pytest.approx(0.022 * momentum, rel=0.4)


def test_positions_and_times(fast):
    arrays, _, _ = fast
    event = arrays[0]
    position = np.stack([np.asarray(event[f"ECalHits.position.{axis}"]) for axis in "xyz"], axis=1)
    layer, row, column = decode(np.asarray(event["ECalHits.cellID"]))
    # the first silicon is 2.4 to 2.9 mm behind the face
    assert position[layer == 0, 0] == pytest.approx(1502.65)
    np.testing.assert_allclose(position[:, 1], (column - 99) * 5.0, atol=1e-4)
    np.testing.assert_allclose(position[:, 2], (row - 99) * 5.0, atol=1e-4)
    # light from the origin; the step is a little shorter than a path through two points
    light = np.linalg.norm(position, axis=1) / 299.792458
    time = np.asarray(event["ECalHits.time"])
    assert (time >= light - 1e-3).all()
    assert np.median(time - light) < 0.02
    # the electron of 40 GeV flies to y = 3.75 mm
    strong = position[np.argsort(event["ECalHits.energy"])[-20:]]
    assert abs(strong[:, 1:].mean(axis=0) - [3.9, 0.0]).max() < 3


def test_hdf5_holds_the_same(mixed, fast, tmp_path):
    arrays, _, _ = fast
    simulate(mixed, tmp_path / "hits.h5", fast="clic-electron", workers=2)
    with h5py.File(tmp_path / "hits.h5") as file:
        assert file.attrs["format"] == "caloforge-hits"
        for name in ("MCParticles", "ECalHits", "ECalHitContributions", "_ECalHitContributions_particle"):
            group = file[name]
            for member in group:
                if member == "counts":
                    continue
                flat = ak.flatten(arrays[f"{name}.{member}"])
                assert group["counts"][:].sum() == len(group[member])
                np.testing.assert_allclose(group[member][:], np.asarray(flat), rtol=1e-5, err_msg=member)


def test_without_contributions(mixed, fast, tmp_path):
    simulate(mixed, tmp_path / "hits.root", fast="clic-electron", contributions="none")
    arrays, _ = read(tmp_path / "hits.root")
    assert not [name for name in arrays.fields if "ontribution" in name]
    assert ak.all(arrays["ECalHits.cellID"] == fast[0]["ECalHits.cellID"])


def test_each_step_is_a_contribution(tmp_path):
    path = write_hepmc(tmp_path / "e.hepmc", [[particle(11, 1.0), particle(11, 20.0)], [particle(22, 0.3)]])
    simulate(path, tmp_path / "sums.root", fast="clic-electron")
    simulate(path, tmp_path / "steps.root", fast="clic-electron", contributions="full")
    sums, steps = (read(tmp_path / name)[0] for name in ("sums.root", "steps.root"))
    # the same showers
    for name in ("cellID", "energy", "position.x"):
        for one, two in zip(sums[f"ECalHits.{name}"], steps[f"ECalHits.{name}"], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5)
    for event in steps:
        begin, end = (np.asarray(event[f"ECalHits.contributions_{side}"]) for side in ("begin", "end"))
        share = np.asarray(event["ECalHitContributions.energy"])
        added = [share[a:b].sum() for a, b in zip(begin, end, strict=True)]
        np.testing.assert_allclose(added, event["ECalHits.energy"], rtol=1e-4)
        # steps lie in their cells: 0.5 mm of silicon, 5 mm wide
        hit = np.repeat(np.arange(len(begin)), end - begin)
        for axis, half in (("x", 0.25), ("y", 2.5), ("z", 2.5)):
            centre = np.asarray(event[f"ECalHits.position.{axis}"])[hit]
            step = np.asarray(event[f"ECalHitContributions.stepPosition.{axis}"])
            assert np.abs(step - centre).max() < half + 1e-3
    length = np.asarray(steps["ECalHitContributions.stepLength"][0])
    who = np.asarray(steps["_ECalHitContributions_particle.index"][0])
    handled = np.flatnonzero(np.asarray(steps["MCParticles.simulatorStatus"][0]) & FAST)
    assert ((length == -1) == (who == handled[0])).all()
    assert (length[length != -1] > 0).all()
    # secondaries of the electron of 1 GeV
    assert set(np.asarray(steps["ECalHitContributions.PDG"][0])[length != -1].tolist()) >= {11, -11}


def test_pions_decay_in_front_and_their_photons_become_particles(tmp_path, photon_model):
    path = write_hepmc(tmp_path / "e.hepmc", [[particle(111, 60.0, at=(1000.0, 0.0, 0.0))]])
    out = tmp_path / "hits.root"
    outcome = simulate(path, out, fast=str(photon_model))
    assert outcome["particles"]["taken"] == 2
    event = read(out)[0][0]
    status = np.asarray(event["MCParticles.simulatorStatus"])
    photons = np.flatnonzero(status == FAST | CREATED)
    assert np.asarray(event["MCParticles.PDG"])[photons].tolist() == [22, 22]
    [pion] = np.flatnonzero(np.asarray(event["MCParticles.PDG"]) == 111)
    assert not status[pion] & FAST
    parents = np.asarray(event["_MCParticles_parents.index"])
    assert (parents[np.asarray(event["MCParticles.parents_begin"])[photons]] == pion).all()
    momenta = np.array([[event[f"MCParticles.momentum.{axis}"][i] for axis in "xyz"] for i in photons])
    np.testing.assert_allclose(momenta.sum(axis=0), [60, 0, 0], atol=1e-3)
    mass = np.sqrt(np.linalg.norm(momenta, axis=1).sum() ** 2 - np.linalg.norm(momenta.sum(axis=0)) ** 2)
    assert mass == pytest.approx(0.13498, rel=1e-2)
    np.testing.assert_allclose(np.asarray(event["MCParticles.vertex.x"])[photons], 1000.0, atol=0.2)
    assert set(np.asarray(event["_ECalHitContributions_particle.index"])) == set(photons)


def test_full_simulation_of_the_same_particles(tmp_path):
    path = write_hepmc(tmp_path / "e.hepmc", [[particle(11, 2.0), particle(22, 1.0, 0.1)]] * 3)
    outcome = simulate(path, tmp_path / "one.root", workers=2)
    assert outcome["particles"]["tracked"] == 6
    one, _ = read(tmp_path / "one.root")
    assert not ak.any(one["MCParticles.simulatorStatus"])
    assert set(ak.flatten(one["ECalHitContributions.stepLength"])) == {0.0}
    # the same event is not the same shower
    assert len(set(ak.sum(one["ECalHits.energy"], axis=1).tolist())) == 3
    simulate(path, tmp_path / "two.root", workers=1)
    two, _ = read(tmp_path / "two.root")
    for name in one.fields:
        assert ak.all(one[name] == two[name]), name


def test_events_without_any_particle_at_the_face(tmp_path):
    path = write_hepmc(tmp_path / "e.hepmc", [[particle(22, -1.0)], [particle(12, 5.0)]])
    outcome = simulate(path, tmp_path / "hits.root", fast="clic-electron")
    assert "do not reach the face: 1 particles, 1 GeV" in outcome.text
    arrays, _ = read(tmp_path / "hits.root")
    assert ak.num(arrays["ECalHits.cellID"]).tolist() == [0, 0]


def test_interrupted_and_resumed(mixed, fast, tmp_path, monkeypatch):
    from caloforge.campaign import pool

    finished = pool.Queue.finished

    def interrupt(queue, *arguments):
        finished(queue, *arguments)
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "hits.root"
    monkeypatch.setattr(pool.Queue, "finished", interrupt)
    with pytest.raises(Interrupted, match=r"stopped; 1 of 3 events .* with resume=True"):
        simulate(mixed, out, fast="clic-electron")
    with pytest.raises(OutputError, match="an interrupted campaign is there"):
        simulate(mixed, out, fast="clic-electron")
    with pytest.raises(ConfigError, match=r"other settings is there: .*seed: 3 then, 4 now"):
        simulate(mixed, out, fast="clic-electron", resume=True, seed=4)
    simulate(mixed, out, fast="clic-electron", resume=True)
    arrays, _ = read(out)
    assert ak.all(arrays["ECalHits.cellID"] == fast[0]["ECalHits.cellID"])
    assert [path.name for path in tmp_path.iterdir()] == ["hits.root"]


# kills itself when the file of hits has been written and before it has its name
KILLED = """
import os, pathlib, signal, sys
from caloforge import cli

replace = pathlib.Path.replace

def killed(path, target):
    if pathlib.Path(target).name == "hits.root":
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

pathlib.Path.replace = killed
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_at_the_end(mixed, fast, tmp_path):
    out = tmp_path / "hits.root"
    arguments = ["simulate-events", str(mixed), "-d", "clic-ecal-25", "-o", str(out), "--seed", "3", "--fast",
                 "clic-electron", "--resume"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert cli.main(arguments) == 0
    assert ak.all(read(out)[0]["ECalHits.cellID"] == fast[0]["ECalHits.cellID"])
    assert [path.name for path in tmp_path.iterdir()] == ["hits.root"]
    # what is finished stays
    with pytest.raises(OutputError, match="is finished: nothing is left to resume"):
        simulate(mixed, out, fast="clic-electron", resume=True)


def test_a_full_disk(mixed, tmp_path, monkeypatch):
    from caloforge.fastsim.events import writing

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.RootWriter, "_extend", full)
    with pytest.raises(OutputError, match="the disk is full"):
        simulate(mixed, tmp_path / "hits.root", fast="clic-electron")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["hits.root.parts"]
    simulate(mixed, tmp_path / "hits.root", fast="clic-electron", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["hits.root"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "hits.txt"], 2, "expected a name that ends in .root"),
        (["-d", "par04-siw"], 2, "its mesh is cylindrical"),
        (["--fast", "clic-electron", "--set", "detector.mesh.cell_x=4 mm"], 2, "mesh.cell_x .5 and 4."),
        (["--set", "model.family=frozen"], 2, "expected one of detector or fullsim"),
        (["--set", "fullsim.physics=FTFP_BERT"], 1, "GEANT4_DATA_DIR"),
        (["--distance", "3"], 2, "without a unit"),
        (["--distance", "200 m"], 2, "expected 0 mm to 100 m"),
        (["--field", "4"], 2, "got '4' without a unit, expected something like '4 T'"),
        (["--field", "400 T"], 2, "expected -100 T to 100 T"),
        (["--facing", "w"], 2, "facing"),
        (["--threshold", "5 GeV"], 2, "give --fast MODEL"),
        (["--workers", "0"], 2, "workers"),
    ],
)
def test_what_is_refused(mixed, tmp_path, monkeypatch, capsys, arguments, code, words):
    for name in [name for name in os.environ if name.startswith(("G4", "GEANT4_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    base = {"-d": "clic-ecal-25", "-o": "hits.root"}
    given = [value for pair in base.items() if pair[0] not in arguments for value in pair]
    assert cli.main(["simulate-events", str(mixed), "--json", *given, *arguments]) == code
    assert re.search(words, json.loads(capsys.readouterr().out)["message"])
    assert list(tmp_path.iterdir()) == []


def test_bad_files_of_events_leave_nothing(tmp_path, capsys):
    (tmp_path / "cut.hepmc").write_text("HepMC::Version 3\nE 0 1 1\n")
    out = tmp_path / "hits.root"
    code = cli.main(["simulate-events", str(tmp_path / "cut.hepmc"), "-d", "clic-ecal-25", "-o", str(out)])
    assert code == 1
    assert "truncated" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cut.hepmc"]
