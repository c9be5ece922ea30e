"""The whole of `validate`: files in, report, numbers, figures and verdict out."""

import json
import re

import numpy as np
import pytest
import toy_showers

from caloforge.cards.figures import figures
from caloforge.cli import main
from caloforge.commands.validate import validate
from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.number_format import plain
from caloforge.showers import ShowerFile
from caloforge.validation import validate_files
from caloforge.validation.figure_data import Figure
from caloforge.validation.pdf_figures import write_maps, write_matrices, write_pdf


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Half of the time would be the Fréchet distance, which has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def files(folder):
    """Truth, an equal sample, and one 10 % too high."""
    high = toy_showers.batch(400, 3)
    high.showers *= np.float32(1.1)
    return [
        toy_showers.write(folder / name, batch)
        for name, batch in (
            ("truth.h5", toy_showers.batch(400, 1)),
            ("equal.h5", toy_showers.batch(400, 2)),
            ("high.h5", high),
        )
    ]


@pytest.fixture(scope="module")
def result(files, folder):
    return validate_files(files[0], files[1:], folder / "report", classifier=False, pdf=False, seed=5)


def test_the_verdict_is_on_every_generator(result):
    assert not result.passed and result.verdict == "not within" == result.metrics["verdict"]
    equal = result.metrics["generators"]["equal"]
    # 400 showers show no failure, and decide little
    assert equal["verdict"] == "undecided" and not equal["passed"] and not equal["failures"]
    assert equal["undecided"] > 10 and equal["showers_needed"] > 400
    assert f"about {plain(equal['showers_needed'])} showers" in equal["sentence"]
    high = result.metrics["generators"]["high"]
    assert not high["passed"]
    failed = {failure["observable"] for failure in high["failures"]}
    assert {"response", "visible_energy", "response_at_depth"} <= failed
    first = next(f for f in high["failures"] if f["observable"] == "response" and f["metric"] == "mean_shift")
    assert first["value"] == pytest.approx(0.10, abs=0.01)
    assert first["sigma"] > high["critical_sigma"]
    # the list is sorted: the clearest first
    sigmas = [failure["sigma"] for failure in high["failures"]]
    assert sigmas == sorted(sigmas, reverse=True)


def test_the_difference_as_a_number_of_showers(result):
    equal, high = (result.metrics["generators"][name] for name in ("equal", "high"))
    same, far = (entry["equivalent_statistics"] for entry in (equal, high))
    # 400 showers show no difference, but for few of many observables
    assert same["median"]["value"] > 200 and same["median"]["uncertainty"] is None
    assert "of at least" in same["sentence"]
    # 10 % of a response that spreads by about 10 %: a distance of 0.4
    assert far["worst"]["value"] < 20 and far["worst"]["value"] < far["median"]["value"]
    assert f"worst {far['worst']['value']:.0f}, {far['worst_observable']})" in far["sentence"]
    numbers = high["observables"]
    assert (
        numbers[far["worst_observable"]]["inclusive"]["equivalent_showers"]["value"] == far["worst"]["value"]
    )
    assert numbers["shower"]["inclusive"]["equivalent_showers_median"]["value"] == far["median"]["value"]
    assert far["observables"] == sum(
        "equivalent_showers" in bins.get("inclusive", {}) for bins in numbers.values()
    )
    page = result.report.read_text()
    assert f"high: {far['sentence']}." in page
    labels = [figure["label"] for figure in figures(result.metrics, "high")]
    assert "equivalent statistics, showers, worst observable" in labels


def test_metrics_json_holds_every_number(result):
    document = json.loads((result.report.parent / "metrics.json").read_text())
    assert document == result.metrics
    assert document["format"] == "caloforge-metrics"
    bins = [b["key"] for b in document["bins"]]
    assert bins[0] == "inclusive" and len(bins) == 3
    numbers = document["generators"]["high"]["observables"]
    assert set(numbers["hits"]) == set(bins)
    for metric in ("mean_shift", "width_shift", "wasserstein", "separation_power", "kolmogorov_smirnov"):
        assert {"value", "uncertainty", "floor"} <= set(numbers["hits"]["inclusive"][metric])
    layers = numbers["layer_energy"]["inclusive"]["bin_deviation"]
    assert len(layers) > 15
    assert all(abs(entry["value"] - 0.1) < 5 * entry["uncertainty"] for entry in layers)
    assert {"fpd", "kpd", "precision", "coverage", "near_copies", "merit_p"} <= set(
        numbers["shower"]["inclusive"]
    )
    assert document["truth"]["showers"] == 400
    assert document["provenance"]["files"]["high"]["file"] == "high.h5"
    assert document["hit_threshold_MeV"] == 0.3


def test_the_shift_at_fixed_conditions_is_the_shift_of_means_for_equal_conditions(files, folder):
    """Where both files have the same incident energies, nothing is left to correct."""
    from caloforge.showers import ShowerFile

    with ShowerFile(files[0]) as file:
        batch = file.read()
    batch.showers *= np.float32(1.03)
    path = toy_showers.write(folder / "scaled.h5", batch)
    found = validate_files(
        files[0], [path], folder / "scaled", classifier=False, pdf=False, thresholds="strict"
    )
    numbers = found.metrics["generators"]["scaled"]["observables"]["visible_energy"]["inclusive"]
    assert numbers["mean_shift"]["value"] == pytest.approx(0.03, rel=1e-4)
    assert not found.passed


def test_the_report_needs_nothing_from_outside(result):
    text = result.report.read_text()
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "{{" not in text
    assert "“3dgan”" in text
    assert '<div class="verdict fail">' in text and '<div class="verdict undecided">' in text


def test_the_same_seed_gives_the_same_numbers(result, files, folder):
    options = {"classifier": False, "pdf": False, "seed": 5, "workers": 1}
    again = validate_files(files[0], files[1:], folder / "again", **options)
    assert again.metrics["generators"] == result.metrics["generators"]
    # an earlier report is replaced on request only, and nothing else is left
    replaced = validate_files(files[0], files[1:2], folder / "again", **options, force=True)
    assert list(replaced.metrics["generators"]) == ["equal"]
    assert json.loads((folder / "again" / "metrics.json").read_text()) == replaced.metrics
    assert not list(folder.glob(".again*"))


@pytest.mark.parametrize("kind", ["cylindrical", "ragged"])
def test_other_meshes(kind, tmp_path):
    files = [
        toy_showers.write(tmp_path / f"{seed}.h5", toy_showers.batch(300, seed, kind), kind)
        for seed in (1, 2)
    ]
    result = validate_files(files[0], files[1:], tmp_path / "report", classifier=False, pdf=False)
    assert not next(iter(result.metrics["generators"].values()))["failures"]
    assert (result.report.parent / "figures.json").is_file()


def test_negative_voxels_are_counted_and_fail_strict(files, tmp_path):
    batch = toy_showers.batch(400, 2)
    batch.showers[3:5, 0, 0, 0] = -2.5
    path = toy_showers.write(tmp_path / "negative.h5", batch)
    result = validate_files(
        files[0], [path], tmp_path / "report", classifier=False, pdf=False, thresholds="strict"
    )
    sample = result.metrics["generators"]["negative"]["sample"]
    assert (sample["negative_voxels"], sample["showers_with_negative_voxels"]) == (2, 2)
    assert sample["lowest_voxel_MeV"] == -2.5
    assert [f["metric"] for f in result.metrics["generators"]["negative"]["failures"]] == ["negative_energy"]
    assert any("2 voxels in 2 showers are negative" in note for note in result.metrics["notes"])


def test_a_second_truth_sets_the_floor(files, result, tmp_path):
    found = validate_files(
        files[0], files[2:], tmp_path / "two", classifier=False, pdf=False, truth2=files[1], seed=5
    )

    def numbers(metrics, name, metric):
        inclusive = metrics["generators"][name]["observables"]["hits"]["inclusive"]
        return inclusive[metric]

    for metric in ("wasserstein", "mean_shift"):
        ours, earlier = (numbers(m, "high", metric) for m in (found.metrics, result.metrics))
        assert ours["floor"] == abs(numbers(result.metrics, "equal", metric)["value"])
        assert ours["floor"] != earlier["floor"] and ours["value"] == earlier["value"]


def test_the_command_ends_with_3_below_the_thresholds(files, tmp_path, capsys):
    outcome = validate(files[0], files[2], out=tmp_path / "report", classifier=False, pdf=False)
    assert outcome.exit_code == 3 and not outcome["passed"]
    assert "NOT within" in outcome.text and "two full simulations of" in outcome.text
    assert str(tmp_path / "report" / "report.html") in outcome.text
    assert "compare observables" in capsys.readouterr().err
    assert outcome["verdict"] == outcome["generators"]["high"]["verdict"] == "not within"


def test_the_command_ends_with_4_where_nothing_fails_and_not_all_is_decided(files, tmp_path, capsys):
    arguments = ["validate", *map(str, files[:2]), "--no-classifier", "--no-pdf", "--json"]
    assert main([*arguments, "-o", str(tmp_path / "report")]) == 4
    facts = json.loads(capsys.readouterr().out)
    assert facts["verdict"] == "undecided" and not facts["passed"]
    entry = facts["generators"]["equal"]
    assert entry["undecided"] > 0 and entry["showers_needed"] > 400
    page = (tmp_path / "report" / "report.html").read_text()
    assert '<div class="verdict undecided">' in page and '<div class="verdict pass">' not in page
    assert f"about {plain(entry['showers_needed'])} showers" in page.replace("About", "about")
    assert main([*arguments, "-o", str(tmp_path / "again"), "--allow-undecided"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verdict"] == "undecided" and facts["passed"]


def test_the_command_ends_with_0_where_every_comparison_is_decided(files, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ninclusive: {}\nbins: {}\n")
    outcome = validate(
        files[0], files[1], out=tmp_path / "none", classifier=False, pdf=False, thresholds=str(own)
    )
    # no threshold, no verdict
    assert outcome.exit_code == 4 and "no threshold applies" in outcome.text
    own.write_text("name: own\ninclusive: {negative_energy: 0.0, near_copies: 0.2}\n")
    outcome = validate(
        files[0], files[1], out=tmp_path / "few", classifier=False, pdf=False, thresholds=str(own)
    )
    assert outcome.exit_code == 0 and outcome["verdict"] == "within" and outcome["passed"]
    assert "equal: within 'own': all 2 comparisons decided at 95 % confidence" in outcome.text


def test_neural_classifiers_on_request(files, tmp_path, monkeypatch):
    from caloforge.metrics import neural_networks

    asked = []

    def classifier(truth, generated, *, voxels, repeats, seed, progress):
        asked.append((len(truth), len(generated), truth.width, truth.take(np.arange(3)).shape, voxels))
        return neural_networks.NeuralResult(Metric(0.7, 0.01, 0.5), Metric(0.1, 0.01, 0.0), ())

    monkeypatch.setattr(neural_networks, "neural_classifier", classifier)
    result = validate_files(
        files[0], files[2:], tmp_path / "report", classifier=False, pdf=False, neural=["low", "cnn"]
    )
    # log10 of the incident energy and 25 x 7 x 7 voxels
    assert asked == [(400, 400, 1226, (3, 1226), voxels) for voxels in (None, (25, 7, 7))]
    found = result.metrics["on_request"]["high"]["neural"]
    assert found["cnn"]["auc"] == {"value": 0.7, "uncertainty": 0.01, "floor": 0.5}
    assert "Neural networks" in result.report.read_text()


def test_the_strong_classifier_sees_cells_and_measures_its_floor(files, tmp_path, monkeypatch):
    from caloforge.metrics import cnn_classifier
    from caloforge.metrics.cnn_network import Images
    from caloforge.metrics.neural_networks import NeuralResult

    asked = []

    def classifier(truth, generated, *, images, measure_floor, progress, **_):
        asked.append((truth.take(np.arange(5)), generated.take(np.arange(5)), images, measure_floor))
        progress(1, 1)
        return NeuralResult(Metric(0.8, 0.01, 0.52), Metric(0.2, 0.01, 0.0), ())

    monkeypatch.setattr(cnn_classifier, "strong_classifier", classifier)
    seen = []
    result = validate_files(
        files[0],
        files[1:],
        tmp_path / "report",
        classifier=False,
        pdf=False,
        neural=["strong"],
        progress=lambda *done: seen.append(done),
    )
    truth = toy_showers.batch(400, 1)[:5]
    energy = np.log10(truth.incident_energy)[:, None]
    np.testing.assert_allclose(asked[0][0], np.hstack([energy, truth.showers.reshape(5, -1)]), rtol=1e-6)
    np.testing.assert_allclose(asked[1][1][:, 1:], toy_showers.batch(400, 3).showers[:5].reshape(5, -1) * 1.1)
    assert asked[0][2:] == (Images((25, 7, 7)), True)
    assert [s[1:] for s in seen if s[0] == "train classifiers"] == [(1000, 2000), (2000, 2000)]
    for name in ("equal", "high"):
        found = result.metrics["on_request"][name]["neural"]["strong"]
        assert found["auc"] == {"value": 0.8, "uncertainty": 0.01, "floor": 0.52}


@pytest.mark.parametrize(
    ("kind", "theta", "want"),
    [
        # inclined in the y-z plane to one side: a mirror in x alone is left
        ("cartesian", (np.pi / 3, np.pi / 2), {"flip_rows": False, "swap": False}),
        ("cartesian", (np.pi / 3, 2 * np.pi / 3), {"swap": False}),
        ("cylindrical", None, {"periodic": True, "flip_columns": False, "swap": False}),
    ],
)
def test_images_are_those_the_beam_allows(tmp_path, kind, theta, want):
    from caloforge.conditions import Conditions
    from caloforge.metrics.cnn_network import Images
    from caloforge.validation.classifiers import images

    showers = toy_showers.batch(300, 1, kind, theta=theta)
    if theta is not None and theta[1] > np.pi / 2:
        # exactly symmetric about 90 degrees, as a whole campaign is
        showers.incident_theta[:2] = theta
    with ShowerFile(toy_showers.write(tmp_path / "a.h5", showers, kind)) as file:
        found = images(file.detector, Conditions.of(file))
    assert found == Images(toy_showers.detector(kind).shower_shape, **want)


def test_layers_of_different_binning_are_no_images():
    from caloforge.conditions import Conditions
    from caloforge.errors import ConfigError
    from caloforge.validation.classifiers import images

    conditions = Conditions(*(np.ones(3) for _ in range(4)))
    with pytest.raises(ConfigError, match="different binning"):
        images(toy_showers.detector("ragged"), conditions)


def test_the_row_of_the_challenge_needs_its_mesh(files, tmp_path):
    from caloforge.errors import DataError

    with pytest.raises(DataError, match="none of the CaloChallenge"):
        validate_files(
            files[0], files[1:], tmp_path / "r", classifier=False, pdf=False, protocol="calochallenge"
        )
    assert not (tmp_path / "r").exists()


def test_figures_as_pdf(result, tmp_path, monkeypatch, assert_readable):
    """Every kind of figure is drawn, readable, on the pages it should have."""
    drawn = []
    from matplotlib.backends.backend_pdf import PdfPages

    monkeypatch.setattr(PdfPages, "savefig", lambda self, figure: drawn.append(figure))
    document = json.loads((result.report.parent / "figures.json").read_text())
    names = document["samples"]
    for name, pages in (("response", 3), ("layer_energy", 2), ("cell_spectrum", 2), ("resolution", 1)):
        own = [Figure.from_json(f) for f in document["figures"] if f["observable"] == name]
        if not own:
            continue
        drawn.clear()
        write_pdf(tmp_path / f"{name}.pdf", own, names)
        assert len(drawn) == pages
        for figure in drawn:
            assert_readable(figure)
    drawn.clear()
    write_matrices(tmp_path / "m.pdf", document["matrices"])
    assert len(drawn) == len(names)
    drawn.clear()
    write_maps(tmp_path / "s.pdf", document["averages"], document["planes"], document["extents"])
    assert len(drawn) == len(document["averages"])
    across, along = drawn[0].axes[:2]
    mesh = toy_showers.detector().mesh
    half = mesh.nx * mesh.cell_x / 2
    assert (across.get_xlabel(), across.get_ylabel()) == ("x [mm]", "y [mm]")
    assert across.get_xlim() == pytest.approx((-half, half))
    assert (along.get_xlabel(), along.get_ylabel()) == ("layer", "x [mm]")
    assert along.get_xlim() == (-0.5, 24.5) and along.get_ylim() == pytest.approx((-half, half))
    assert_readable(drawn[0])


@pytest.mark.slow
def test_every_figure_is_a_pdf_when_all_is_asked_for(files, tmp_path):
    result = validate_files(files[0], files[1:2], tmp_path / "report")
    document = json.loads((result.report.parent / "figures.json").read_text())
    pdfs = {path.stem for path in (result.report.parent / "figures").glob("*.pdf")}
    assert {f["observable"] for f in document["figures"]} <= pdfs
    assert {"correlation_matrices", "showers_averages", "showers_events"} <= pdfs
    assert all(path.read_bytes().startswith(b"%PDF") for path in (result.report.parent / "figures").iterdir())
    auc = result.metrics["generators"]["equal"]["observables"]["shower"]["inclusive"]["classifier_auc"]
    assert auc["value"] == pytest.approx(0.5, abs=0.1)
