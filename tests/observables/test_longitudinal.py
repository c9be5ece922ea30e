import numpy as np
import pytest
from observable_samples import read_shipped

from caloforge import observables as obs
from caloforge.geometry import load_detector


def gamma_profile(a, b, t):
    """Not normalised: the fit does not care."""
    return (b * t) ** (a - 1) * np.exp(-b * t)


@pytest.mark.parametrize("preset", ["clic-ecal-25", "par04-siw"])
def test_exact_profiles_are_found_exactly(preset):
    depths = load_detector(preset).active_depths_x0()
    rng = np.random.default_rng(1)
    a, b = rng.uniform(2, 7, (50, 1)), rng.uniform(0.4, 0.8, (50, 1))
    fit = obs.gamma_fit(1e3 * gamma_profile(a, b, depths), depths)
    np.testing.assert_allclose(fit.a, a[:, 0])
    np.testing.assert_allclose(fit.b, b[:, 0])
    np.testing.assert_allclose(fit.maximum, ((a - 1) / b)[:, 0])


def test_gflash_showers_with_sampling_fluctuations_are_found_without_bias():
    """Grindhammer and Peters, hep-ex/0001020: ln T and ln alpha of tungsten are normal and correlated."""
    depths = load_detector("clic-ecal-25").active_depths_x0()
    rng = np.random.default_rng(2)
    log_y = np.log(100e3 / 8.3)
    mean_t, spread_t = np.log(log_y - 0.812), 1 / (-1.4 + 1.26 * log_y)
    mean_a, spread_a = np.log(0.81 + (0.458 + 2.26 / 74) * log_y), 1 / (-0.58 + 0.86 * log_y)
    rho = 0.705 - 0.023 * log_y
    u, v = rng.normal(size=(2, 3000, 1))
    maximum = np.exp(mean_t + spread_t * u)
    alpha = np.exp(mean_a + spread_a * (rho * u + np.sqrt(1 - rho**2) * v))
    profile = gamma_profile(alpha, (alpha - 1) / maximum, depths)
    profile *= 1500 / profile.sum(axis=1, keepdims=True)
    # 1500 tracks of a MIP and a half each leave 6 % at the maximum
    layers = rng.poisson(profile) * 0.2
    fit = obs.gamma_fit(layers, depths)
    assert np.mean(fit.maximum - maximum[:, 0]) == pytest.approx(0, abs=0.02)
    assert np.std(fit.maximum - maximum[:, 0]) < 0.5
    assert np.nanmean(fit.b * maximum[:, 0] / (alpha[:, 0] - 1)) == pytest.approx(1, abs=0.02)


def test_showers_that_no_gamma_function_describes_give_their_hottest_layer():
    depths = np.arange(1.0, 11.0)
    layers = np.zeros((4, 10))
    layers[1, 6] = 3.0  # one layer
    layers[2, 2:4] = [1.0, 2.0]  # two
    layers[3] = np.exp(depths)  # rises to the end
    fit = obs.gamma_fit(layers, depths)
    assert fit.maximum[1:].tolist() == [7.0, 4.0, 10.0]
    assert np.isnan(fit.a).all()
    assert np.isnan(fit.b).all()
    assert np.isfinite(fit.maximum).all()


def test_no_shower_however_odd_stops_the_fit():
    depths = load_detector("clic-ecal-25").active_depths_x0()
    rng = np.random.default_rng(3)
    layers = 10 ** rng.uniform(-30, 5, (5000, 25)) * (rng.random((5000, 25)) < rng.random((5000, 1)))
    fit = obs.gamma_fit(layers, depths)
    assert np.isfinite(fit.maximum).all()
    assert ((fit.maximum > 0) & (fit.maximum <= depths[-1])).all()


def test_contrast_of_a_smooth_profile_is_a_half_and_sees_one_weak_layer():
    layers = np.linspace(1.0, 3.0, 12)[None].repeat(2, axis=0)
    layers[1, 5] *= 0.95
    contrast = obs.layer_contrast(layers)
    np.testing.assert_allclose(contrast[0, 1:-1], 0.5)
    assert contrast[1, 5] == pytest.approx(0.95 / 1.95)
    assert obs.layer_contrast(np.zeros((1, 4))).tolist() == [[0.5] * 4]


def test_shower_maximum_of_geant4_grows_like_the_logarithm_of_the_energy():
    """PDG: t_max = ln(E / E_c) - 0.5 for electrons; a sampling calorimeter keeps the slope."""
    batch, detector = read_shipped()
    layers = obs.layer_energies(batch.showers, detector.mesh)
    maximum = obs.gamma_fit(layers, detector.active_depths_x0()).maximum
    log_y = np.log(batch.incident_energy / detector.critical_energy)
    slope, offset = np.polyfit(log_y - log_y.mean(), maximum, 1)
    # 1.5 X0 of fluctuation over 0.85 of spread in ln E leave 0.04 on the slope
    assert slope == pytest.approx(1.0, abs=0.15)
    assert offset == pytest.approx(log_y.mean() - 0.5, abs=0.5)


def test_mean_profile_of_geant4_is_a_gamma_function():
    batch, detector = read_shipped()
    depths = detector.active_depths_x0()
    near = np.abs(batch.incident_energy - 250e3) < 50e3
    mean = obs.layer_energies(batch.showers[near], detector.mesh).mean(axis=0)
    fit = obs.gamma_fit(mean[None], depths)
    # b is near 0.5 in the PDG's figure for heavy elements
    assert 0.4 < fit.b[0] < 0.6
    model = gamma_profile(fit.a[0], fit.b[0], depths)
    bulk = mean > 0.2 * mean.max()
    ratio = (mean / model)[bulk]
    assert np.std(ratio) / np.mean(ratio) < 0.05
