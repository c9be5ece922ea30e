"""Cards of models: every number from a report on these very weights, on showers that were not trained on."""

import json
import math
import shlex
import shutil

import numpy as np
import pytest

import caloforge
from caloforge.cards import card_markdown, collect_card, describe_model
from caloforge.cards.figures import figures, largest_floor, write_floor, write_number
from caloforge.cli import main
from caloforge.errors import DataError, ModelError
from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.models import released as lookup
from caloforge.models import store
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.released import model_folder, read_card, released_models
from caloforge.models.store import save_model
from caloforge.models.training_metadata import data_record, facts_of_file
from caloforge.showers import ShowerWriter, joined_provenance

NAME = "tiny-electron"
DETECTOR = ("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))


def showers(path, seed, n=150):
    """A file of exponential cells over the trained range."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(10e3, 100e3, n).astype(np.float32)
    energy[:2] = 10e3, 100e3
    cells = rng.exponential(size=(n, 25, 7, 7)) * energy[:, None, None, None] / 1e5
    detector = caloforge.load_detector(*DETECTOR)
    ones = np.ones(n)
    facts = {
        "engine": "Geant4, in jest",
        "seed": seed,
        "simulation": {"seed": seed},
        "command": f"sim {seed}",
    }
    with ShowerWriter(path, detector, facts) as writer:
        writer.append(
            caloforge.ShowerBatch(cells, energy, ones * np.pi / 2, 0 * ones, np.full(n, 11, np.int32))
        )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


@pytest.fixture(scope="module")
def released(folder):
    """A model of random weights among the released ones; the Fréchet distance, which is slow, left out."""
    data = showers(folder / "train.h5", 1, 60)
    config = read_model_config({"family": "gan3d", "preset": "debug"}, "model")
    model = build_model(config, caloforge.load_detector(*DETECTOR), facts_of_file(data))
    target = folder / "pretrained" / NAME
    save_model(
        model, target, dict(model.state_dict()), merit=0.5, step=7, seed=3, data=[data_record(data, 50)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "RELEASED", folder / "pretrained")
        patch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.002, 0.001))
        yield target


@pytest.fixture(scope="module")
def report(folder, released):
    """A report on the released model, asked for by its name."""
    truth = showers(folder / "truth.h5", 2)
    caloforge.validate(truth, NAME, out=folder / "report", classifier=False, pdf=False, progress=False)
    return folder / "report"


@pytest.fixture(scope="module")
def metrics(report):
    return json.loads((report / "metrics.json").read_text())


@pytest.fixture
def model(released, tmp_path):
    """A copy of the model, to write on."""
    return shutil.copytree(released, tmp_path / "model")


def test_a_released_model_is_found_by_its_name(released, capsys):
    assert released_models() == [NAME]
    assert model_folder(NAME) == released
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"  {NAME}  gan3d, clic-ecal-25, e-, 1" in listed
    assert main(["inspect", NAME]) == 0
    shown = capsys.readouterr().out
    assert "family" in shown and "gan3d" in shown and "theta       90 deg" in shown
    # in short: without the numbers of the configuration
    assert "kernel" not in shown


def test_generate_and_validate_take_the_name(folder, report, released, metrics):
    out = folder / "generated.h5"
    caloforge.generate(NAME, out=out, n=3, progress=False)
    with caloforge.ShowerFile(out) as file:
        assert file.provenance["model_digest"] == read_card(released)["weights_sha256"]
    assert list(metrics["generators"]) == [NAME]
    assert metrics["generators"][NAME]["sample"]["provenance"]["like"]["name"] == "truth.h5"
    # what was generated on the way is gone
    assert not list(folder.glob(".caloforge-*"))


def test_a_name_wins_over_a_folder_whatever_lies_in_it(released, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert model_folder(NAME) == released
    shutil.copytree(released, tmp_path / NAME, dirs_exist_ok=True)
    assert model_folder(NAME) == released
    assert capsys.readouterr().err.count(f"note: {NAME} is the released model") == 1
    assert model_folder(f"./{NAME}").resolve() == tmp_path / NAME
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", ["generate", "validate", "card", "inspect"])
def test_a_misspelt_name_is_answered_with_the_nearest(verb, released, report, tmp_path, capsys):
    wrong = "tiny-electorn"
    arguments = {
        "generate": [wrong, "-n", "1", "-o", str(tmp_path / "g.h5")],
        "validate": [str(report.parent / "truth.h5"), wrong, "-o", str(tmp_path / "r")],
        "card": [wrong],
        "inspect": [wrong],
    }[verb]
    assert main([verb, *arguments]) in (1, 2)
    assert f"Did you mean '{NAME}'?" in capsys.readouterr().err


def test_a_report_that_exists_is_refused_before_showers_are_made(report, monkeypatch):
    monkeypatch.setattr("caloforge.commands.generate.generate", lambda *_, **__: pytest.fail("generated"))
    with pytest.raises(caloforge.CaloforgeError, match="exists"):
        caloforge.validate(report.parent / "truth.h5", NAME, out=report, progress=False)


def test_the_card_has_the_numbers_of_the_report(model, report, metrics, capsys):
    assert main(["card", str(model), str(report), "--name", NAME]) == 0
    assert "NOT within '3dgan'" in capsys.readouterr().out
    page = (model / "README.md").read_text()
    response = metrics["generators"][NAME]["observables"]["response"]
    for b in metrics["bins"][:1] + [b for b in metrics["bins"] if b["axis"] == "energy"]:
        numbers = response[b["key"]]["mean_shift"]
        value = write_number(numbers["value"], "percent", numbers["uncertainty"])
        assert f"| mean response | {b['label']} | {value} |" in page
    # the layer that is farthest off, of those that are compared
    layers = metrics["generators"][NAME]["observables"]["layer_energy"]["inclusive"]["bin_deviation"]
    worst = max(layers, key=lambda entry: abs(entry["value"]))
    shown = write_number(worst["value"], "percent", worst["uncertainty"])
    assert f"| energy of a layer, farthest of {len(layers)} | all showers | {shown} |" in page
    failed = len(metrics["generators"][NAME]["failures"])
    assert f"**Verdict: NOT within '3dgan': {failed} of" in page
    assert "| `train.h5` | Geant4, in jest | 60 | 50 | 1 |" in page
    assert "which the training has not seen" in page
    assert "Not tested with the strong classifier" in page and "Not timed." in page
    commands = page.split("## Reproduce")[1].split("```")[1].splitlines()[1:]
    assert [line for line in commands if line.startswith("sim")] == ["sim 1", "sim 2"]
    # folders of this machine say nothing elsewhere
    assert not any(word.startswith("/") for line in commands for word in shlex.split(line))
    # every row of every table has as many cells as its head
    for block in page.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) <= 1


def test_a_card_changes_no_weights_and_is_shown_by_inspect(model, report, capsys):
    before = store.load_model(model).state_dict()
    main(["card", str(model), str(report)])
    after = store.load_model(model).state_dict()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    capsys.readouterr()
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "against 150 Geant4 showers, fp32:" in shown
    assert "mean response" in shown and "NOT within" in shown


def test_reports_of_other_weights_are_refused(model, report, metrics):
    other = read_card(model) | {"weights_sha256": "0" * 64}
    digest = metrics["generators"][NAME]["sample"]["provenance"]["model_digest"]
    with pytest.raises(ModelError, match=f"{NAME} by {digest[:12]}"):
        collect_card(other, [report])


@pytest.mark.parametrize("key", ["sha256", "provenance"])
def test_figures_on_training_showers_are_refused(model, report, metrics, key):
    card = read_card(model)
    files = metrics["provenance"]["files"]["Geant4"]
    seen = {"sha256": files["sha256"], "provenance": {"simulation": files["simulation"]}}
    card["data"] = [card["data"][0] | {key: seen[key]}]
    with pytest.raises(DataError, match=r"trained on \(train.h5\)"):
        collect_card(card, [report])


def test_data_that_the_training_did_not_record(model, report, folder):
    card = read_card(model)
    recorded = card.pop("data")
    assert "Not recorded." in card_markdown(collect_card(card, [report]), NAME)
    got = collect_card(card, [report], data=[folder / "train.h5"])["data"]
    assert got[0]["sha256"] == recorded[0]["sha256"] and got[0]["trained_on"] == 60
    # what is recorded already is not listed twice
    card["data"] = recorded
    assert collect_card(card, [], data=[folder / "train.h5"])["data"] == recorded
    with pytest.raises(DataError, match="is what the model was trained on"):
        collect_card(card, [report], data=[folder / "truth.h5"])


def test_the_command_names_the_particle_where_there_are_several(model, report):
    card = collect_card(read_card(model), [report])
    assert "--particle" not in card_markdown(card, NAME)
    for ranges in (card["facts"]["ranges"], card["facts"].get("claimed") or {}):
        ranges["pdg_ids"] = [11, 22]
    assert '" --particle e- -o showers.h5' in card_markdown(card, NAME)


def test_the_command_names_the_angles_where_they_are_not_orthogonal(model, report):
    card = collect_card(read_card(model), [report])
    assert "--theta" not in card_markdown(card, NAME)
    for ranges in (card["facts"]["ranges"], card["facts"].get("claimed") or {}):
        ranges["theta"] = [math.radians(55), math.radians(73)]
    assert '" --theta "55 deg:73 deg" -o showers.h5' in card_markdown(card, NAME)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("best", "they chose the step that was kept."),
        ("last", "they judged the training, whose last step was kept."),
        (None, "they judged the training."),
    ],
)
def test_what_the_held_out_showers_decided(model, report, kept, said):
    card = read_card(model) | ({"kept": kept} if kept else {})
    page = card_markdown(collect_card(card, [report]), NAME)
    assert f"The showers of a file that were not trained on are its last ones; {said}" in page


def test_an_arithmetic_counts_as_checked_where_nothing_new_fails(model, report, metrics, tmp_path):
    def in_bf16(changes):
        copy = json.loads(json.dumps(metrics))
        found = copy["generators"][NAME]
        copy["provenance"]["files"][NAME]["precision"] = "bf16"
        found.update(changes(found))
        path = tmp_path / "metrics.json"
        path.write_text(json.dumps(copy))
        return path

    card = read_card(model)
    same = in_bf16(lambda found: {})
    assert collect_card(card, [report, same])["facts"]["precisions"] == ["fp32", "bf16"]
    # alone it proves nothing: it fails, and fp32 might not
    assert collect_card(card, [same])["facts"]["precisions"] == ["fp32"]
    passed = in_bf16(lambda found: {"passed": True, "failures": []})
    assert collect_card(card, [passed])["facts"]["precisions"] == ["fp32", "bf16"]
    worse = in_bf16(lambda found: {"failures": [found["failures"][0] | {"observable": "new"}]})
    assert collect_card(card, [report, worse])["facts"]["precisions"] == ["fp32"]
    page = card_markdown(collect_card(card, [report, worse]), NAME)
    assert "## Physics, 1 of 2" in page and "## Physics, 2 of 2" in page


def test_what_made_a_truth_in_several_files(model, metrics, tmp_path):
    made = [{"engine": "Geant4 11.2", "physics": "FTFP", "seed": 1}, {"engine": "Geant4 11.3", "seed": 2}]
    copy = json.loads(json.dumps(metrics))
    joined = joined_provenance.join(["a.h5", "b.h5"], [100, 50], made)
    copy["provenance"]["files"][copy["truth"]["name"]] = joined | {"sha256": "0" * 64}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(copy))
    page = card_markdown(collect_card(read_card(model), [path]), NAME)
    assert "150 showers of Geant4 11.2, FTFP; Geant4 11.3 (" in page and "seed 1, 2," in page


def benchmark(path, digest):
    row = {"status": "measured", "threads": 1, "ms": 0.08, "low": 0.07, "high": 0.09}
    document = {
        "format": "caloforge-benchmark",
        "command": "caloforge benchmark tiny-electron -o speed",
        "created": "2026-11-25T00:00:00+00:00",
        "machine": {
            "cpu": "A Processor",
            "cpu_flags": ["avx512f"],
            "cores": 2,
            "load_at_start": 0.1,
            "packages": {"torch": "2.13"},
        },
        "results": [
            row | {"name": "Geant4", "kind": "full simulation", "ms": 800.0},
            row
            | {
                "name": "x",
                "kind": "model",
                "model_digest": digest,
                "backend": "openvino",
                "precision": "bf16",
                "batch": 128,
                "to_disk": False,
                "times_geant4": 10000.0,
            },
        ],
    }
    path.write_text(json.dumps(document))
    return path


def test_times_are_those_of_these_weights(model, report, tmp_path):
    card = read_card(model)
    path = benchmark(tmp_path / "benchmark.json", card["weights_sha256"])
    for source in (path, tmp_path):
        got = collect_card(card, [report], benchmark=source)
    page = card_markdown(got, NAME)
    assert "| Geant4 | 1 |  | 800 |  |" in page
    assert "| openvino bf16 | 1 | 128 | 0.08 | 10 000 |" in page
    assert "A Processor (avx512f), 2 cores, load 0.1" in page
    assert describe_model(got)["fastest"] == "0.08 ms a shower, openvino bf16"
    benchmark(path, "other")
    with pytest.raises(ModelError, match="were not timed, only"):
        collect_card(card, [report], benchmark=path)


def test_the_strong_classifier_comes_first_where_it_was_asked(metrics):
    auc = {"value": 0.6123, "uncertainty": 0.012, "floor": 0.503}
    asked = metrics | {"on_request": {NAME: {"neural": {"high": {"auc": auc}, "strong": {"auc": auc}}}}}
    got = figures(asked, NAME)
    assert [f["label"] for f in got[:2]] == [
        "AUC, strong CNN on every cell",
        "AUC, CaloChallenge MLP on observables",
    ]
    assert write_number(got[0]["value"], got[0]["unit"], got[0]["uncertainty"]) == "0.612 ± 0.012"
    assert write_floor(got[0]) == "0.503"


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "caloforge-metrics-of-another-kind"}'])
def test_what_is_no_report_is_refused(model, tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(DataError, match="caloforge validate"):
        collect_card(read_card(model), [tmp_path])


def test_the_floor_of_the_farthest_of_many():
    rng = np.random.default_rng(1)
    spreads = np.array([0.5, 1.0, 2.0, 2.0, 0.1])
    drawn = np.abs(rng.normal(size=(200_000, 5)) * spreads)
    floors = list(drawn.mean(axis=0))
    assert largest_floor(floors) == pytest.approx(drawn.max(axis=1).mean(), rel=0.01)
    # of one, the floor itself
    assert largest_floor([0.3]) == pytest.approx(0.3, rel=1e-3)
    assert largest_floor([]) == 0


@pytest.mark.parametrize(
    ("value", "unit", "error", "want"),
    [
        (-0.00123, "percent", 0.0008, "(−0.123 ± 0.080) %"),
        (0.5312, "plain", 0.0213, "0.531 ± 0.021"),
        (1.42, "percent", 0.14, "(142 ± 14) %"),
        (0.0, "percent", 0.0, "(0.00 ± 0.00) %"),
        (0.02, "percent", None, "2.0 %"),
        (None, "plain", None, "–"),
    ],
)
def test_numbers_as_they_are_written(value, unit, error, want):
    assert write_number(value, unit, error) == want
