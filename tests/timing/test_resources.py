"""Studies of resources: what a point is, how a study goes on, what is refused, what the curves predict."""

import json
import math
from pathlib import Path

import pytest

import caloforge
from caloforge import ShowerFile
from caloforge.cli import main
from caloforge.errors import Interrupted
from caloforge.geometry import load_detector
from caloforge.run import load_run
from caloforge.timing.resources import point, study
from caloforge.timing.resources.curves import curves_for, expectation, nodes, stored_curves
from caloforge.timing.resources.point import choose_showers
from caloforge.timing.resources.study import Plan, run_study
from caloforge.timing.resources.tables import cost_rows, markdown_page, markdown_tables

DOCS = Path(__file__).parents[2] / "docs"
LIBRARY = ["model={family: frozen}", "training={evaluation: {share: 0.04}}"]
SET = ["--set", LIBRARY[0], "--set", LIBRARY[1]]


@pytest.fixture(scope="module")
def files(electrons, tmp_path_factory):
    """The 400 electrons in two files: 280 to train on and 120 to judge."""
    folder = tmp_path_factory.mktemp("resources")
    with ShowerFile(electrons) as file:
        for name, start, stop in (("train.h5", 0, 280), ("test.h5", 280, 400)):
            with caloforge.ShowerWriter(folder / name, file.detector, file.provenance) as writer:
                writer.append(file.read(start, stop))
    return folder / "train.h5", folder / "test.h5"


def plan(files, **changes):
    config = load_run("clic-electron-layered", LIBRARY)
    settings = {
        name: getattr(config, name) for name in ("name", "detector", "beam", "fullsim", "model", "training")
    }
    settings |= {"data": files[0], "truth": files[1], "showers": (60, 240), "seeds": 2, "timed": 0}
    return Plan(**(settings | changes))


def fake_row(showers, seed, trees=0.7, **more):
    metric = {"value": trees, "uncertainty": 0.01, "floor": 0.5}
    names = ("trees", "response", "distance_median", "distance_worst", "equivalent_showers_median")
    figures = dict.fromkeys((*names, "equivalent_showers_worst"), metric)
    facts = {"trained": showers - 2, "steps": 100, "parameters": 63_000, "weight_bytes": 1e6}
    return {"showers": showers, "seed": seed, "cpu_seconds": 60.0, **facts, **figures, **more}


@pytest.fixture
def faked(monkeypatch):
    """Points without training; returns the list of those that were measured."""
    measured = []

    def measure(_plan, wanted, _truth, folder, _tell):
        assert folder.is_dir()
        measured.append((wanted.showers, wanted.seed, wanted.timed))
        return fake_row(wanted.showers, wanted.seed)

    monkeypatch.setattr(study, "measure_point", measure)
    return measured


def test_more_showers_make_a_better_library(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(point, "shower_times", lambda _: {"torch": {"1": 2.0, "128": 1.0}})
    out = tmp_path / "study"
    options = f"--data {files[0]} --truth {files[1]} --showers 40 270 --seeds 1 --geant4 0 -o {out}"
    words = ["benchmark", "resources", "clic-electron-layered", *options.split(), *SET, "--no-progress"]
    assert main(words) == 0
    page = capsys.readouterr().out
    assert "| showers | trainings |" in page and "model={family: frozen}" in page
    document = json.loads((out / "resources.json").read_text())
    few, many = document["points"]
    assert (few["showers"], few["trained"], few["steps"]) == (40, 38, 0)
    assert few["distance_worst"]["value"] > many["distance_worst"]["value"]
    assert "ms" not in few and many["ms"]["torch"]["128"] == 1.0
    assert 0 < few["cpu_seconds"] < 60 and few["weight_bytes"] < many["weight_bytes"]
    # showers and models are not kept, the page and its picture are
    assert sorted(path.name for path in (out / "points").iterdir()) == sorted(
        path.name for path in (out / "points").glob("*.json")
    )
    assert (out / "resources.md").read_text().startswith("# Resources: clic-electron-layered in clic-ecal-25")
    assert (out / "resources.png").stat().st_size > 10_000


def test_chosen_showers_are_nested(files, tmp_path):
    energies = {}
    for count, seed in ((20, 0), (50, 0), (20, 1)):
        choose_showers(files[0], tmp_path / f"{count}-{seed}.h5", count, seed)
        with ShowerFile(tmp_path / f"{count}-{seed}.h5") as file:
            energies[count, seed] = set(file.column("incident_energy").tolist())
            assert len(file) == count == len(energies[count, seed])
    assert energies[20, 0] < energies[50, 0] and energies[20, 1] != energies[20, 0]


def test_a_killed_study_goes_on_and_takes_more_points(files, tmp_path, faked, monkeypatch):
    out, measure = tmp_path / "study", study.measure_point

    def stop(plan_, wanted, *rest):
        if wanted.showers == 240:
            raise Interrupted("continue with caloforge train")
        return measure(plan_, wanted, *rest)

    with (
        monkeypatch.context() as stopping,
        pytest.raises(Interrupted, match="the same command with --resume"),
    ):
        stopping.setattr(study, "measure_point", stop)
        run_study(plan(files), out, resume=False)
    assert faked == [(60, 0, False)]
    document = run_study(plan(files), out, resume=True)
    assert faked[1:] == [(240, 0, True), (60, 1, False), (240, 1, False)]
    assert [(row["showers"], row["seed"]) for row in document["points"]] == [
        (60, 0), (60, 1), (240, 0), (240, 1),
    ]  # fmt: skip
    # other settings are other points of the same study
    training = plan(files).training.model_copy(update={"max_steps": 7})
    more = plan(files, showers=(60,), seeds=1, training=training, settings=("training.max_steps=7",))
    document = run_study(more, out, resume=True)
    assert len(document["points"]) == 5 and len({node.settings for node in nodes(document)}) == 2
    assert "training.max_steps=7" in markdown_page(document)


def test_a_study_is_of_one_beam_and_one_truth(files, tmp_path, faked):
    out = tmp_path / "study"
    run_study(plan(files, showers=(60,), seeds=1), out, resume=False)
    with pytest.raises(caloforge.CaloforgeError, match="holds a study already; --resume"):
        run_study(plan(files), out, resume=False)
    beam = plan(files).beam.model_copy(update={"impact": "cell"})
    with pytest.raises(caloforge.CaloforgeError, match=r"another configuration: .*impact"):
        run_study(plan(files, beam=beam), out, resume=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data TRAIN --truth TRAIN", "of its 280 showers are in the training file"),
        ("--data TRAIN --truth TEST --showers 281", "holds 280 showers, --showers asks for 281"),
        ("--data TRAIN --truth TEST --showers 3", "--showers 3: too few to train on"),
        ("--data TRAIN --truth none.h5", "none.h5"),
        ("--data TRAIN --truth TEST --set detector=par04-siw", "its detector is clic-ecal-25"),
        ("--data TRAIN --truth TEST --set beam.particle=gamma", "judge with showers of the beam"),
        ("--data TRAIN --truth TEST --seeds 0", "expected an integer from 1"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, capsys, words, message):
    names = {"TRAIN": str(files[0]), "TEST": str(files[1])}
    words = [names.get(word, word) for word in words.split()]
    showers = [] if "--showers" in words else ["--showers", "9"]
    command = ["benchmark", "resources", "clic-electron-layered", *words, *showers, *SET]
    assert main([*command, "-o", str(tmp_path / "study"), "--no-progress"]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.rglob("resources.json"))


def test_a_folder_of_others_is_left_alone(files, tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(caloforge.CaloforgeError, match="holds no study of resources"):
        run_study(plan(files), tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def power_law(showers):
    """A study whose excess of the area falls like the root of the number of showers."""
    rows = [
        {"settings": [], **fake_row(count, seed, 0.5 + 3 / math.sqrt(count) * (1 + 0.02 * (seed - 1)))}
        for count in showers
        for seed in range(3)
    ]
    return {"points": rows}


def test_a_power_law_is_followed_and_not_beyond_five_times():
    document = power_law([100, 1000])
    for showers, how in ((100, "measured"), (300, "measured"), (1000, "measured"), (4000, "extrapolated")):
        found = expectation(document, showers)
        assert found.trees.mean == pytest.approx(0.5 + 3 / math.sqrt(showers), rel=2e-3)
        assert found.how == how and found.step_seconds == pytest.approx(0.6)
        # the scatter of the trainings, of 2 % of the excess
        assert found.trees.error == pytest.approx(0.02 * 3 / math.sqrt(showers), rel=1)
    assert expectation(document, 99) is None and expectation(document, 5001) is None


def test_points_on_a_line_by_chance_are_known_no_better_than_each():
    rows = [{"settings": [], **fake_row(count, 0, 0.5 + 3 / math.sqrt(count))} for count in (100, 400, 1600)]
    for row in rows:
        row["trees"]["uncertainty"] = 0.1 * (row["trees"]["value"] - 0.5)
    found = expectation({"points": rows}, 6400)
    assert found.trees.mean == pytest.approx(0.5 + 3 / 80)
    assert found.trees.error > 0.1 * 3 / 80


def test_the_cost_of_a_campaign():
    row = {"settings": [], **fake_row(3600, 0, ms={"torch": {"128": 2.0}, "numba": {"1": 0.1, "128": 0.36}})}
    document = {"points": [row], "geant4_cpu_seconds": 1.0}
    costs = [hours for _, hours in cost_rows(document)]
    assert costs == pytest.approx([1e9 / 3600, (3600 + 60) / 3600, 100])
    assert cost_rows({**document, "geant4_cpu_seconds": None}) == []


def test_the_stored_curves_are_those_of_the_command_and_of_the_guide():
    guide = (DOCS / "how-to/resources.md").read_text(encoding="utf-8")
    assert stored_curves()
    for document in stored_curves():
        identity = document["identity"]
        assert (document["format"], document["format_version"]) == (study.FORMAT, study.FORMAT_VERSION)
        detector = load_detector(identity["detector"])
        assert curves_for(detector, document["pdg_id"], identity["family"]) == (document, True)
        curve = [node for node in nodes(document) if node.settings == nodes(document)[0].settings]
        areas = [node.figure("trees").mean for node in curve]
        assert len(areas) >= 3 and areas == sorted(areas, reverse=True)
        assert expectation(document, 300).trees.error > 0
        name = f"resources-{identity['detector']}-{identity['family']}"
        # written by scripts/write_resources.py
        tables = (DOCS / f"how-to/{name}.inc").read_text(encoding="utf-8")
        assert tables == markdown_tables(document) and f"{name}.inc" in guide
        assert (DOCS / f"images/{name}.png").is_file() and f"{name}.png" in guide


def test_other_detectors_get_the_curves_of_the_family():
    document, same = curves_for(load_detector("par04-scipb"), 11, "layered")
    assert document["identity"]["detector"] == "par04-siw" and not same
    assert curves_for(load_detector("par04-scipb"), 11, "gan3d") is None


def test_check_says_what_to_expect(monkeypatch):
    monkeypatch.setattr("caloforge.commands.check._fullsim", lambda *_: {"text": "not tried"})
    monkeypatch.setattr("caloforge.commands.check._training", lambda *_: {"text": "not tried"})
    found = caloforge.check("par04-siw-electron", n=1000)
    document, same = curves_for(load_detector("par04-siw"), 11, "layered")
    trees = expectation(document, 1000).trees
    assert same and found["steps"]["expected"]["trees"] == trees.mean
    assert f"expected of 1000 showers: boosted trees {trees.mean:.2f} ± " in found.text
    assert "may differ" not in found.text
    other = caloforge.check("par04-siw-electron", n=1000, set_=["detector.mesh.nphi=8"])
    assert "may differ: caloforge benchmark resources" in other.text
    assert "expected" not in caloforge.check("par04-siw-electron", n=1_000_000).text
