import numpy as np
import pytest
from observable_samples import read_shipped

from caloforge import observables as obs


def test_direct_bins_are_those_of_numpy_also_on_the_edges():
    edges = obs.SPECTRUM_EDGES
    rng = np.random.default_rng(1)
    near = edges[1:-1].astype(np.float32)
    values = np.concatenate(
        [
            near,
            np.nextafter(near, np.float32(0)),
            np.nextafter(near, np.float32(1e9)),
            np.float32([0, 2e-4, 3e5]),
        ]
    )
    values = np.concatenate([values, rng.lognormal(0, 4, 3000).astype(np.float32)])
    wide = np.append(edges[:-1], np.inf)
    np.testing.assert_array_equal(obs.cell_spectrum(values[None], edges)[0], np.histogram(values, wide)[0])


def test_split_spectrum_divides_the_spectrum():
    showers = np.random.default_rng(2).lognormal(size=(5, 4, 3, 6)).astype(np.float32)
    region = np.arange(18) % 3 == 0
    both = obs.split_spectrum(showers, obs.SPECTRUM_EDGES, region)
    np.testing.assert_array_equal(both.sum(axis=1), obs.cell_spectrum(showers, obs.SPECTRUM_EDGES))
    inside = showers.reshape(5, 4, 18)[:, :, region]
    np.testing.assert_array_equal(both[:, 1], obs.cell_spectrum(inside, obs.SPECTRUM_EDGES))


def spectrum_with_bump(position, strength, rng, n=200_000):
    falling = np.exp(rng.uniform(np.log(0.01), np.log(100), n))  # dN/dE as 1/E
    bump = rng.lognormal(np.log(position), 0.15, int(strength * n))
    return np.histogram(np.concatenate([falling, bump]), obs.SPECTRUM_EDGES)[0]


@pytest.mark.parametrize("position", [0.08, 0.15, 1.3])
def test_a_bump_on_a_falling_spectrum_is_found(position):
    rng = np.random.default_rng(3)
    peaks = [obs.mip_peak(spectrum_with_bump(position, 0.2, rng), obs.SPECTRUM_EDGES) for _ in range(15)]
    positions = np.array([peak.position for peak in peaks])
    # the most probable value of the lognormal, and the slope below pulls a little further
    assert positions.mean() == pytest.approx(position * np.exp(-(0.15**2)), rel=0.06)
    errors = np.mean([peak.uncertainty for peak in peaks])
    assert 0.4 * errors < positions.std() < 2.5 * errors


def test_a_falling_spectrum_has_no_peak():
    rng = np.random.default_rng(4)
    assert obs.mip_peak(spectrum_with_bump(1.0, 0.0, rng), obs.SPECTRUM_EDGES) is None
    assert obs.mip_peak(np.zeros(160), obs.SPECTRUM_EDGES) is None


def test_mip_peak_of_half_a_millimetre_of_silicon():
    """Landau's most probable loss with the density effect (PDG, passage of particles, eq. 34.12)."""
    thickness, a, plasma = 0.05 * 2.33, 0.153537 * 14 / 28.0855, 31.05e-6
    xi = a * thickness
    most_probable = xi * (np.log(2 * 0.511 * xi / plasma**2) + 0.2)
    assert most_probable == pytest.approx(0.145, abs=0.002)
    batch, detector = read_shipped()
    values = obs.observe(batch, detector, threshold=0.3)
    for name in ("cell_spectrum", "tail_spectrum"):
        peak = obs.mip_peak(values[name].sum(axis=0), obs.SPECTRUM_EDGES)
        # tracks that cross at an angle leave more
        assert most_probable < peak.position < 1.25 * most_probable, name
        assert peak.uncertainty < 0.01
