"""Structural similarity against scikit-image's formula written out with SciPy filters."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from caloforge.metrics.ssim import similarity, ssim


def reference(x, y, data_range):
    """skimage.metrics.structural_similarity(x, y, gaussian_weights=True, channel_axis=0, data_range=L).

    Gaussian filter of sigma 1.5, truncated at 3.5 sigma; sample covariance of the 11 x 11 window; a border of
    5 cells cut away; mean over channels.
    """
    values = []
    for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True):

        def mean(image):
            return gaussian_filter(image, 1.5, truncate=3.5, mode="reflect")

        norm = 121 / 120
        ux, uy = mean(a), mean(b)
        vx, vy = norm * (mean(a * a) - ux * ux), norm * (mean(b * b) - uy * uy)
        vxy = norm * (mean(a * b) - ux * uy)
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        s = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux**2 + uy**2 + c1) * (vx + vy + c2))
        values.append(s[5:-5, 5:-5].mean())
    return np.mean(values)


def showers(seed, n, k=0.3):
    rng = np.random.default_rng(seed)
    y, x = np.indices((13, 15)) - 6
    return (rng.gamma(k, size=(n, 4, 13, 15)) * 50 / k * np.exp(-np.hypot(x, y) / 3)).astype(np.float32)


@pytest.mark.parametrize("data_range", [1e3, 10.0, 0.1])
def test_against_the_formula_of_scikit_image(data_range):
    a, b = showers(1, 3), showers(2, 3)
    got = ssim(a, b, data_range)
    np.testing.assert_allclose(
        got, [reference(x, y, data_range) for x, y in zip(a, b, strict=True)], rtol=1e-9
    )


def test_equal_showers_are_at_one_and_blocks_change_nothing(monkeypatch):
    a, b = showers(3, 7), showers(4, 7)
    np.testing.assert_allclose(ssim(a, a, 1.0), 1)
    whole = ssim(a, b, 1.0)
    monkeypatch.setattr("caloforge.metrics.ssim.BLOCK", 3)
    np.testing.assert_array_equal(ssim(a, b, 1.0), whole)


def test_too_narrow_or_different_images_are_refused():
    with pytest.raises(ValueError, match="11 cells"):
        ssim(np.ones((1, 2, 16, 9)), np.ones((1, 2, 16, 9)), 1.0)
    with pytest.raises(ValueError, match="equal shapes"):
        ssim(showers(1, 2), showers(1, 3), 1.0)


def test_pairs_are_of_equal_energy_and_the_floor_is_the_truth():
    rng = np.random.default_rng(5)
    energy = rng.uniform(1, 10, 60)
    truth = showers(1, 60) * energy[:, None, None, None]
    order = rng.permutation(60)
    got = similarity(truth, truth[order], energy, energy[order], 10.0)
    assert got["ssim"].value == pytest.approx(1)  # the same showers find each other
    ranked = truth[np.argsort(energy)]
    assert got["ssim"].floor == pytest.approx(ssim(ranked[:-1:2], ranked[1::2], 10.0).mean())
    assert got["ssim_generated"].value == got["ssim_generated"].floor


def test_smooth_showers_are_too_much_alike():
    energy = np.linspace(1, 10, 200)
    truth, same, smooth = showers(1, 200), showers(2, 200), showers(3, 200, k=20)
    for name, metric in similarity(truth, same, energy, energy, 10.0).items():
        assert abs(metric.value - metric.floor) < 5 * metric.uncertainty, name
    got = similarity(truth, smooth, energy, energy, 10.0)["ssim_generated"]
    assert got.value > got.floor + 20 * got.uncertainty
