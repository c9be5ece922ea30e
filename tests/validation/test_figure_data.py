"""Numbers of the figures, axis titles for the browser, pictures of showers."""

import base64

import numpy as np
import pytest
import toy_showers

from caloforge.observables import Observable, catalogue
from caloforge.validation import mathtext
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.event_displays import encode_map, encode_voxels, planes, projections
from caloforge.validation.figure_data import Figure, Series, common_edges, histogram, profile, shares, trend
from caloforge.validation.formatting import format_number, format_sigma, with_error
from caloforge.validation.in_memory import _sample
from caloforge.validation.pdf_figures import against_truth


@pytest.fixture(scope="module")
def sample():
    return _sample(toy_showers.batch(400, 1), "truth", toy_showers.detector(), 0.3)


@pytest.fixture(scope="module")
def by_name():
    return {o.name: o for o in catalogue(toy_showers.detector(), threshold=0.3)}


def test_a_histogram_counts_every_shower_it_shows():
    values = np.random.default_rng(1).normal(size=5000)
    edges = common_edges(values, [values + 1])
    found = shares(values, edges)
    inside = ((values >= edges[0]) & (values <= edges[-1])).mean()
    assert found.value.sum() == pytest.approx(inside)
    # Poisson: a share of 1 % of 5 000 is known to 50^-1/2
    place = np.argmin(np.abs(found.value - 0.01))
    assert found.error[place] / found.value[place] == pytest.approx((5000 * found.value[place]) ** -0.5)
    # the range follows the generator, by half the range of the truth at most
    far = common_edges(values, [values + 100])
    assert far[-1] - edges[0] < 2 * np.ptp(values)


def test_counts_get_whole_steps():
    edges = common_edges(np.arange(500.0), [])
    assert np.all(np.diff(edges) == np.round(np.diff(edges))) and edges[0] % 1 == 0.5


def test_a_figure_survives_its_json(sample, by_name):
    figure = histogram(by_name["hits"], sample, [sample], INCLUSIVE)
    again = Figure.from_json(figure.to_json())
    np.testing.assert_allclose(again.truth.value, figure.truth.value, rtol=1e-3)
    assert again.to_json() == figure.to_json()


def test_profiles_are_means_and_empty_ends_are_cut(sample, by_name):
    spectrum = sample.values["cell_spectrum"]
    figure = profile(by_name["cell_spectrum"], INCLUSIVE, [spectrum, spectrum])
    filled = np.flatnonzero(spectrum.sum(axis=0))
    np.testing.assert_allclose(
        figure.truth.value, spectrum.mean(axis=0)[filled[0] : filled[-1] + 1], rtol=1e-6
    )
    assert len(figure.edges) == len(figure.truth.value) + 1
    np.testing.assert_array_equal(against_truth(figure, figure.generated[0]).value[figure.truth.value > 0], 1)


def test_trends_compare_at_equal_energies(sample, by_name):
    """The same showers 10 % higher: the ratio is 1.1 everywhere, whatever the energies."""
    value = sample.values["response"]
    figure = trend(by_name["response"], (sample, value), [(sample, 1.1 * value)])
    np.testing.assert_allclose(against_truth(figure, figure.generated[0]).value, 1.1, rtol=1e-5)
    assert np.all(np.diff(figure.edges) > 0) and 10 < figure.edges[0] < figure.edges[-1] < 100


def test_no_trend_at_one_energy(by_name):
    batch = toy_showers.batch(200, 1, low=5e4, high=5e4)
    fixed = _sample(batch, "truth", toy_showers.detector(), 0.3)
    assert trend(by_name["response"], (fixed, fixed.values["response"]), []) is None


def test_signed_observables_are_shown_as_differences():
    observable = Observable("x", "x", "mm", "lateral", "profile", signed=True, axis=None)
    assert observable.signed
    figure = Figure(
        "x", INCLUSIVE, "trend", "", "", np.arange(3.0), False, False, True,
        Series(np.zeros(3), np.ones(3)), (Series(np.full(3, 2.0), np.ones(3)),),
    )  # fmt: skip
    np.testing.assert_array_equal(against_truth(figure, figure.generated[0]).value, 2.0)


@pytest.mark.parametrize(
    ("label", "runs"),
    [
        ("hits", [("hits", "")]),
        (r"$E_\mathrm{vis} / E$", [("E", "i"), ("vis", "sub"), (" / ", ""), ("E", "i")]),
        (r"share of $\langle x \rangle$", [("share of ⟨ ", ""), ("x", "i"), (" ⟩", "")]),
        (r"$\sigma_{xy}^2$", [("σ", ""), ("xy", "sub"), ("2", "sup")]),
    ],
)
def test_titles_for_the_browser(label, runs):
    assert mathtext.runs(label) == runs
    assert mathtext.plain(label) == "".join(text for text, _ in runs)


def test_every_title_of_the_catalogue_is_understood():
    for kind in ("cartesian", "cylindrical", "ragged"):
        for observable in catalogue(toy_showers.detector(kind), threshold=0.3):
            text = mathtext.plain(observable.label)
            assert text and not set(text) & set("\\{}$^_"), observable.name


def test_numbers_as_they_are_written():
    assert with_error(-0.0123456, 0.0034, "mean_shift") == "(−1.23 ± 0.34) %"
    assert with_error(0.5, 0.012, "classifier_auc") == "0.500 ± 0.012"
    assert format_number(float("inf"), "mean_shift") == "∞"
    assert format_sigma(5.04) == "5.0 σ" and format_sigma(-1) == "" and format_sigma(1e4) == "> 100 σ"


def test_projections_hold_all_the_energy(sample):
    for kind, number in (("cartesian", 3), ("cylindrical", 3), ("ragged", 0)):
        where = toy_showers.detector(kind)
        shower = toy_showers.batch(2, 1, kind).showers[0]
        images = projections(shower, where)
        assert len(images) == len(planes(where)) == number
        for image in images:
            assert image.sum() == pytest.approx(shower.sum(dtype=float))


def test_maps_keep_four_decades():
    image = np.array([[0.0, 1e-5], [1e-2, 1.0]])
    encoded = encode_map(image, 1.0)
    levels = np.frombuffer(base64.b64decode(encoded["d"]), np.uint8).reshape(2, 2)
    # empty, below the scale, half way up in the logarithm, the top
    np.testing.assert_array_equal(levels, [[0, 1], [128, 255]])


@pytest.mark.parametrize("kind", ["cartesian", "cylindrical", "ragged"])
def test_voxels_in_space_are_where_the_detector_has_them(kind):
    where, shower = toy_showers.detector(kind), toy_showers.batch(2, 1, kind).showers[0]
    encoded = encode_voxels(shower, where)
    points = np.array(encoded["p"]).reshape(-1, 3) / 10
    energy = 10 ** (np.array(encoded["e"]) / 100)
    brightest = np.sort(shower[shower > 0])[::-1][: len(energy)]
    np.testing.assert_allclose(energy, brightest, rtol=0.012)
    assert np.hypot(points[:, 0], points[:, 1]).max() <= np.sqrt(2) * where.mesh.half_extent() + 0.1
    assert points[:, 2].min() >= 0
    if kind == "cartesian":
        # the brightest voxel lies in the layer where it was found
        layer = np.unravel_index(shower.argmax(), shower.shape)[0]
        assert points[0, 2] == pytest.approx(where.active_depths()[layer], abs=0.06)


def test_the_table_of_the_challenge_puts_ours_first():
    from caloforge.metrics.resampling import Metric
    from caloforge.metrics.submission import Submission
    from caloforge.validation.report_sections import protocol_table

    ours = Submission("2", {"fpd_1e3": Metric(30.0, 1.0, 10.0), "precision": Metric(0.2, 0.01, 0.24)}, {})
    table = protocol_table("2", [("ours", ours)])
    assert table.rows[0][:3] == ("ours", "30 ± 1", "–") and table.marked == {0}
    # published: Geant4 against itself, then by FPD; 18 rows in data set 2 (arXiv:2410.21611)
    assert [row[0] for row in table.rows[1:3]] == ["GEANT4", "CaloDREAM"] and len(table.rows) == 19
    assert table.rows[2][1] == "24.65 ± 1"
    assert "2410.21611" in table.note


def test_reconstruction_becomes_cards_and_tables():
    from caloforge.validation.reconstruction import add_reconstruction
    from caloforge.validation.report_model import Contents
    from caloforge.validation.triforce_result import Applied, compare

    rng = np.random.default_rng(1)

    def applied(shift):
        energy, label = rng.uniform(1e4, 1e5, 600), np.repeat([0, 1], 300)
        right = rng.beta(5, 2, 600)
        scores = np.stack([right, 1 - right], 1)
        scores[label == 1] = scores[label == 1, ::-1]
        theta = rng.uniform(1.0, 2.0, 600)
        found = energy * (1 + shift + 0.05 * rng.normal(size=600))
        return Applied(energy, theta, label, scores, found, theta + 0.01 * rng.normal(size=600))

    result = compare(applied(0.0), applied(0.1), classes=(11, 22), seed=0)
    sample_ = _sample(toy_showers.batch(200, 1), "truth", toy_showers.detector(), 0.3)
    contents = Contents(sample_, [sample_], (), [INCLUSIVE], [])
    add_reconstruction(contents, {"gan": result})
    names = [card.name for card in contents.cards]
    assert names == [
        "triforce_bias", "triforce_resolution", "triforce_accuracy", "triforce_energy", "triforce_angle",
        "triforce_roc_11", "triforce_roc_22",
    ]  # fmt: skip
    bias = contents.figures[0]
    np.testing.assert_allclose(against_truth(bias, bias.generated[0]).value, 0.1, atol=0.03)
    roc = contents.figures[-1]
    assert roc.truth.value[0] <= roc.truth.value[50] <= roc.truth.value[-1] == 1.0
    assert contents.tables[0].rows[0][0] == "energy bias"
