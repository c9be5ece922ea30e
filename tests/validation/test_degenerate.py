"""Samples with little in them: copies, equal responses, one layer, few showers."""

import json
import re

import numpy as np
import pytest
import toy_showers

from caloforge.metrics.definitions import features
from caloforge.metrics.diversity import neighbour_spacing
from caloforge.metrics.resampling import Metric
from caloforge.observables.resolution import fit_resolution, response_curve
from caloforge.validation import validate_files


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))
        yield


def compare(folder, truth, generated, **options):
    files = [toy_showers.write(folder / f"{n}.h5", b, **options) for n, b in (("t", truth), ("g", generated))]
    # warnings are errors here
    return validate_files(files[0], files[1:], folder / "report", classifier=False, pdf=False, workers=1)


def cards(result):
    text = result.report.read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1].replace("<\\/", "</"))
    return {card["name"]: card["facts"] for card in data["cards"]}, {f["observable"] for f in data["figures"]}


def test_a_truth_of_copies_is_noted_and_compared_without_warnings(tmp_path):
    truth = toy_showers.batch(300, 1)[np.arange(300) % 30]
    generated = toy_showers.batch(300, 2)
    generated.incident_energy[:] = truth.incident_energy
    result = compare(tmp_path, truth, generated)
    assert any(
        note.startswith("Geant4: 270 of 300 showers repeat the layer") for note in result.metrics["notes"]
    )
    spacing = result.metrics["generators"]["g"]["observables"]["shower"]["inclusive"]["neighbour_spacing"]
    assert spacing["value"] is not None


def test_a_truth_of_one_shower_is_compared_by_its_means(tmp_path):
    truth = toy_showers.batch(150, 1)[np.zeros(150, int)]
    generated = toy_showers.batch(150, 2)
    generated.incident_energy[:] = truth.incident_energy
    result = compare(tmp_path, truth, generated)
    found = result.metrics["generators"]["g"]["observables"]
    want = generated.showers.sum(axis=(1, 2, 3)).mean() / truth.showers[0].sum() - 1
    shift = found["visible_energy"]["inclusive"]["mean_shift"]
    assert shift["value"] == pytest.approx(want, rel=1e-3) and shift["uncertainty"] > 0
    assert "neighbour_spacing" not in found["shower"]["inclusive"]
    assert any("Not measured here" in note and "width_shift" in note for note in result.metrics["notes"])
    assert result.verdict == "not within"


def test_spacing_counts_copies_and_has_no_value_where_all_are_alike():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(200, 3))
    assert np.isnan(neighbour_spacing(np.ones((200, 3)), truth).value)
    assert neighbour_spacing(truth[np.arange(200) % 20], truth).value > 10


def test_bins_without_spread_are_left_out_of_the_fit_of_the_resolution():
    rng = np.random.default_rng(1)
    energy = np.repeat([1e4, 2e4, 4e4, 8e4, 1.6e5], 200)
    response = 0.02 * (1 + rng.normal(size=1000) * 0.2 / np.sqrt(energy / 1e3))
    edges = np.array([1e4, 2e4, 4e4, 8e4, 1.6e5, 1.7e5])
    want = fit_resolution(response_curve(energy[200:], response[200:], edges[1:]))
    response[:200] = 0.02
    assert fit_resolution(response_curve(energy, response, edges)) == want
    with pytest.raises(ValueError, match="got 0 energy bins with spread"):
        fit_resolution(response_curve(energy, np.full(1000, 0.02), edges))


def test_the_report_says_which_energies_the_fit_lacks(tmp_path):
    truth, generated = toy_showers.batch(480, 1), toy_showers.batch(480, 2)
    for batch in (truth, generated):
        batch.incident_energy[:] = np.repeat([1e4, 2e4, 4e4, 8e4], 120)
    truth.showers[:120] = truth.showers[0]
    facts, drawn = cards(compare(tmp_path, truth, generated))
    assert "left out: at 10 GeV all showers have the same response" in facts["resolution"][0]
    assert "left out" not in facts["resolution"][1] and "resolution" in drawn


def test_figures_that_need_more_showers_say_so(tmp_path):
    result = compare(tmp_path, toy_showers.batch(120, 1), toy_showers.batch(120, 2))
    facts, drawn = cards(result)
    assert "resolution" not in drawn
    assert "needs at least 4 energies, or 400 showers of a spectrum; Geant4 has 120" in facts["resolution"][0]
    assert "The mean against the incident energy needs 180 showers; Geant4 has 120." in facts["hits"]
    assert any("bins of energy need 300 showers" in note for note in result.metrics["notes"])


def test_one_layer_draws_no_constants(tmp_path):
    truth, detector = toy_showers.one_layer(150, 1)
    result = compare(tmp_path, truth, toy_showers.one_layer(150, 2)[0], detector=detector)
    facts, drawn = cards(result)
    assert not {"centre_z", "width_z", "layer_energy", "layer_hits"} & drawn
    assert "The same in all showers: 0." in facts["width_z"]
    assert "One bin: no profile to draw." in facts["layer_energy"]
    assert {"response", "hits", "radial_profile"} <= drawn
    found = result.metrics["generators"]["g"]
    assert not found["failures"] and "centre_z" not in found["observables"]
    for figure in json.loads((result.report.parent / "figures.json").read_text())["figures"]:
        assert figure["edges"][0] < figure["edges"][-1]
