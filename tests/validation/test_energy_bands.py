"""Boosted trees by energy and particle: which bands there are, and a defect that a spectrum hides."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import toy_showers

from caloforge.validation import energy_bands as bands
from caloforge.validation import validate_files
from caloforge.validation.conditions import INCLUSIVE, make_bins
from caloforge.validation.in_memory import _sample
from caloforge.validation.response import position_resolution

DETECTOR = toy_showers.detector()


@pytest.fixture(scope="module")
def few():
    """Four toy showers; tests replace their incident energies, their voxels do not matter."""
    return _sample(toy_showers.batch(4, 1), "few", DETECTOR, 0.3, False)


def of(few, energy):
    energy = np.asarray(energy, float)
    rows = np.zeros(len(energy), int)
    values = {name: value[rows] for name, value in few.values.items()}
    return replace(few, conditions=replace(few.conditions[rows], energy=energy), values=values)


def found(*samples):
    bins = make_bins(samples[0].conditions, [s.conditions for s in samples[1:]])
    return bands.energy_bands(samples, bins)


def test_bands_of_a_log_flat_spectrum_are_equal_in_the_logarithm(few):
    samples = [of(few, np.geomspace(1e3, 1e6, n)) for n in (3000, 2000)]
    labels = [b.label for b in found(*samples)]
    edges = ["1", "3.16", "10", "31.6", "100", "316", "1000"]
    assert labels == [f"{low}–{high} GeV" for low, high in pairwise(edges)]
    counts = np.array([[b.select(s.conditions).sum() for b in found(*samples)] for s in samples])
    assert counts.sum(axis=1).tolist() == [3000, 2000]
    assert counts.min() >= 300


def test_bands_with_few_showers_are_joined(few):
    flat = of(few, np.linspace(1e4, 5e5, 3000))
    chosen = found(flat, flat)
    assert [b.label for b in chosen] == ["10–70.7 GeV", "70.7–136 GeV", "136–261 GeV", "261–500 GeV"]
    # all energies are in a band, also those beyond the range of the truth
    beyond = of(few, [9e3, 6e5])
    assert sum(b.select(beyond.conditions) for b in chosen).tolist() == [1, 1]
    # the last ones as well
    low = of(few, np.concatenate([np.geomspace(1e3, 1e4, 3000), np.geomspace(1e4, 1e6, 50)]))
    assert min(b.select(low.conditions).sum() for b in found(low, low)) >= 300
    assert found(flat, of(few, np.linspace(1e4, 5e5, 500))) == []
    assert found(of(few, np.full(900, 1e4)), of(few, np.full(900, 1e4))) == []


def test_listed_energies_are_bands_of_their_own(few):
    truth = of(few, np.repeat([1e3, 1e4, 1e5], [400, 200, 300]))
    assert [b.key for b in found(truth, truth)] == ["energy-1", "energy-100"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Validation of three energies of two particles with impact points; only the lowest energy is wrong."""
    folder = tmp_path_factory.mktemp("bands")

    def showers(seed):
        batch = toy_showers.batch(900, seed)
        scale = np.repeat([1e4, 5e4, 1e5], 300) / batch.incident_energy
        batch.showers *= scale[:, None, None, None].astype(np.float32)
        batch.incident_energy *= scale.astype(np.float32)
        batch.pdg_id[::2] = 22
        batch.impact_x = np.random.default_rng(seed).uniform(-2.5, 2.5, 900).astype(np.float32)
        return batch

    wrong = showers(3)
    wrong.showers[:300] *= np.float32(1.15)
    files = [
        toy_showers.write(folder / f"{name}.h5", batch)
        for name, batch in (("truth", showers(1)), ("wrong", wrong))
    ]
    return validate_files(files[0], files[1:], folder / "report", thresholds="strict", pdf=False, workers=1)


def test_a_defect_at_the_edge_is_seen_there(result):
    shower = result.metrics["generators"]["wrong"]["observables"]["shower"]
    at = {
        where: metrics["classifier_auc"] for where, metrics in shower.items() if "classifier_auc" in metrics
    }
    energies, particles = ["energy-10", "energy-50", "energy-100"], ["particle-e-", "particle-gamma"]
    assert list(at) == [*energies, *particles, "inclusive"]
    assert at["energy-10"]["value"] > max(0.8, at["inclusive"]["value"] + 0.1)
    assert at["energy-10"]["status"] == "fail"
    for where in ("energy-50", "energy-100"):
        assert at[where]["value"] == pytest.approx(0.5, abs=4 * at[where]["uncertainty"])
        # undecided or pass, by the rule of all metrics
        assert at[where]["status"] != "fail"
    assert {"key": "energy-10", "label": "10 GeV", "axis": "energy"} in result.metrics["bins"]


def test_report_has_the_figure_and_a_row_for_each_energy(result):
    page = result.report.read_text(encoding="utf-8")
    assert "AUC of boosted trees" in page
    assert "wrong: by energy" in page and "AUC of full simulation" in page
    assert "position resolution" in page
    assert "wrong: by particle" in page and "wrong: particles told apart" in page
    observables = result.metrics["generators"]["wrong"]["observables"]
    apart = observables["particles"]["particle-e--or-gamma"]["particle_auc"]
    assert abs(apart["value"]) < 5 * apart["uncertainty"]


def test_table_leaves_out_what_was_not_measured(few):
    truth, other = (of(few, np.geomspace(1e3, 1e6, 2000)) for _ in range(2))
    area = bands.Metric(0.6, 0.02, 0.5)
    chosen = found(truth, other)
    areas = [bands.BandArea("few", band, 1e4 * 3**n, area, 0.03) for n, band in enumerate(chosen)]
    figure = bands.band_figure([other], areas)
    assert figure.log_x and figure.difference and figure.bin is INCLUSIVE
    np.testing.assert_allclose(figure.truth.value, 0.5)
    np.testing.assert_allclose(figure.generated[0].error, 0.02)
    assert bands.band_figure([other], areas[:1]) is None


def test_position_resolution(few):
    rng = np.random.default_rng(1)
    samples = []
    for width in (1.0, 0.8):
        sample = of(few, rng.uniform(1e4, 1e5, 2000))
        sample.values["impact_residual_x"] = rng.normal(0, width, 2000).astype(np.float32)
        # the response must vary for its curve, which gives the energies
        sample.values["response"] = rng.normal(0.02, 0.001, 2000).astype(np.float32)
        samples.append(sample)
    figure, facts = position_resolution(samples, "impact_residual_x")
    np.testing.assert_allclose(figure.truth.value, 1.0, atol=0.2)
    np.testing.assert_allclose(figure.generated[0].value, 0.8, atol=0.16)
    # the error of a standard deviation of 200 showers
    np.testing.assert_allclose(figure.truth.error, 1 / np.sqrt(400), rtol=0.5)
    assert [line.startswith("few: ") and " mm over all showers" in line for line in facts] == [True, True]
    assert position_resolution([of(few, [1e4] * 500)], "centre_x")[0] is None
