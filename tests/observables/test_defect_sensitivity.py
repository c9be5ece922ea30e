"""Which observable sees which defect, and by how many standard errors, with 2000 against 2000 Geant4 showers.

Each defect is planted into a second, independent Geant4 sample. Differences are those of means at the
incident energy of each shower; the tests accept about two thirds of the sizes here. Without a defect every
observable named stays below 3.5.

| defect | observable | standard errors |
|---|---|---|
| energy scale 1 % high | response | 5 |
| layer 12 reads 5 % low | layer_contrast of the layer | 18 |
| | layer_fraction of the layer | 12 |
| voxels shuffled within each layer | neighbour_x, neighbour_y, neighbour_z | 700 and more |
| voxels shuffled within rings of a layer: all profiles the same | neighbour_x, neighbour_y | 33 |
| voxels shuffled among showers of like energy: all mean images the same | neighbour_x, neighbour_y | 59 |
| 1 % more energy at |x| > |y|, 1 % less at |y| > |x| | quadrant_asymmetry | 11 |
| | width_asymmetry | 4 |
| 3 % more hits, of 0.3 to 1 MeV | hits | 13 |
| tilt by 2 degrees | axis_theta | 110 |
| | measured_angle | 43 |
| 100 showers repeated | distinct_showers | 100 of 2000 left |
| library of 1500 showers, nearest in energy, rescaled | distinct_showers | 958 of 2000 left |

The library moves no mean by more than chance: only a measure of repetition can see it.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
from observable_samples import needs_truth, read_truth

from caloforge import observables as obs

pytestmark = [needs_truth, pytest.mark.slow]

N = 500 if os.environ.get("CALOFORGE_SCALE") == "small" else 2000
LAYER = 12


class Samples:
    """The truth, an independent second sample, and what is left for a library."""

    def __init__(self):
        batch, self.detector = read_truth(0, 4500)
        self.truth, self.second, self.rest = batch[:N], batch[N : 2 * N], batch[3000:]
        self.values = self.observe(self.truth)

    def observe(self, batch):
        return obs.observe(batch, self.detector, threshold=0.3)

    def at_fixed_energy(self, batch, values, name):
        """Values less the dependence of the truth on the energy, a quartic in its logarithm."""
        x = [np.log(b.incident_energy.astype(float) / 1e5) for b in (self.truth, batch)]
        trend = np.polynomial.polynomial.polyfit(x[0], self.values[name].astype(float), 4)
        return values[name] - np.polynomial.polynomial.polyval(x[1], trend).T

    def pull(self, values, name, batch=None):
        """Batch less truth in standard errors, (k,) for a profile."""
        want = self.at_fixed_energy(self.truth, self.values, name)
        got = self.at_fixed_energy(batch or self.second, values, name)
        error = np.sqrt(want.var(axis=0) / len(want) + got.var(axis=0) / len(got))
        return (got.mean(axis=0) - want.mean(axis=0)) / error

    def seen(self, values, name):
        """What `pull` would be with 2000 showers."""
        return self.pull(values, name) * np.sqrt(2000 / N)


@pytest.fixture(scope="module")
def samples():
    return Samples()


def planted(samples, showers):
    return samples.observe(replace(samples.second, showers=showers))


def test_no_defect_no_alarm(samples):
    values = samples.observe(samples.second)
    named = ["response", "neighbour_x", "neighbour_y", "neighbour_z", "quadrant_asymmetry", "width_asymmetry"]
    for name in [*named, "hits", "axis_theta", "measured_angle"]:
        assert abs(samples.pull(values, name)) < 3.5, name
    for name in ("layer_contrast", "layer_fraction"):
        assert np.abs(samples.pull(values, name)[3:]).max() < 3.5, name
    assert obs.distinct_showers(values["fingerprint"]) == N


def test_energy_scale(samples):
    values = planted(samples, samples.second.showers * 1.01)
    assert samples.seen(values, "response") > 3


def test_one_layer_low(samples):
    showers = samples.second.showers.copy()
    showers[:, LAYER] *= 0.95
    values = planted(samples, showers)
    for name, size in {"layer_contrast": 13, "layer_fraction": 8}.items():
        pulls = samples.seen(values, name)
        assert pulls[LAYER] < -size, name
        assert np.argmin(pulls) == LAYER, name


def shuffled(samples, rng, how):
    second = samples.second
    if how == "within layers":
        voxels = second.showers.reshape(N, 25, 625)
        return rng.permuted(voxels, axis=2)
    if how == "within rings":
        voxels = second.showers.reshape(N, 25, 625).copy()
        x, y = obs.transverse_positions(samples.detector.mesh)
        radius = np.round(np.hypot(x, y), 4)
        for value in np.unique(radius):
            ring = np.flatnonzero(radius == value)
            voxels[:, :, ring] = rng.permuted(voxels[:, :, ring], axis=2)
        return voxels
    order = np.argsort(second.incident_energy)
    voxels = second.showers.reshape(N, -1)[order]
    for start in range(0, N, 50):
        voxels[start : start + 50] = rng.permuted(voxels[start : start + 50], axis=0)
    return voxels[np.argsort(order)]


@pytest.mark.parametrize("how", ["within layers", "within rings", "among showers"])
def test_shuffled_voxels(samples, how):
    showers = shuffled(samples, np.random.default_rng(1), how).reshape(samples.second.showers.shape)
    values = planted(samples, showers)
    assert samples.seen(values, "neighbour_x") < -25
    assert samples.seen(values, "neighbour_y") < -25
    if how == "within rings":
        # what makes this defect a hard one
        assert np.abs(samples.pull(values, "layer_energy")).max() < 3.5
        assert np.abs(samples.pull(values, "radial_profile")).max() < 3.5
        assert abs(samples.pull(values, "hits")) < 3.5


def test_asymmetry_of_x_and_y(samples):
    signs = obs.quadrant_signs(samples.detector.mesh).reshape(25, 25)
    values = planted(samples, samples.second.showers * (1 + 0.01 * signs))
    assert samples.seen(values, "quadrant_asymmetry") > 8
    assert samples.seen(values, "width_asymmetry") > 3


def test_three_percent_more_hits(samples):
    rng = np.random.default_rng(2)
    voxels = samples.second.showers.reshape(N, -1).copy()
    above = voxels > 0.3
    for shower, high in zip(voxels, above, strict=True):
        below = np.flatnonzero((shower > 0) & ~high)
        chosen = rng.choice(below, min(len(below), round(0.03 * high.sum())), replace=False)
        shower[chosen] = 0.3 * (1 + rng.exponential(size=len(chosen)))
    values = planted(samples, voxels.reshape(samples.second.showers.shape))
    assert values["hits"].sum() == pytest.approx(1.03 * above.sum(), rel=2e-3)
    assert samples.seen(values, "hits") > 10
    assert samples.seen(values, "sparsity") < -10


def test_tilt_by_two_degrees(samples):
    """Each layer moved along y by its distance from the crossing layer times tan 2 degrees."""
    detector, showers = samples.detector, samples.second.showers
    depth = detector.active_depths() - detector.layer_fronts()[detector.axis_layer]
    moved = np.zeros_like(showers)
    for layer, shift in enumerate(depth * np.tan(np.radians(2)) / detector.mesh.cell_y):
        whole = int(np.floor(shift))
        for step, share in ((whole, 1 - shift + whole), (whole + 1, shift - whole)):
            moved[:, layer] += np.float32(share) * np.roll(showers[:, layer], step, axis=1)
    values = planted(samples, moved)
    # theta below pi/2 leans towards positive y
    tilt = np.degrees(values["measured_angle"].mean() - samples.values["measured_angle"].mean())
    assert tilt == pytest.approx(-2, abs=0.2)
    assert samples.seen(values, "axis_theta") < -70
    assert samples.seen(values, "measured_angle") < -30
    assert abs(samples.pull(values, "axis_phi")) < 3.5


def test_collapse_to_a_hundred_showers(samples):
    repeated = samples.second[np.random.default_rng(3).integers(0, 100, N)]
    assert obs.distinct_showers(samples.observe(repeated)["fingerprint"]) == 100


def test_library_of_frozen_showers(samples):
    """At the energies of the truth, the nearest of 1500 showers, rescaled."""
    wanted, library = samples.truth.incident_energy, samples.rest
    nearest = np.abs(wanted[:, None] - library.incident_energy).argmin(axis=1)
    factor = (wanted / library.incident_energy[nearest])[:, None, None, None]
    frozen = replace(samples.truth, showers=library.showers[nearest] * factor)
    values = samples.observe(frozen)
    assert obs.distinct_showers(values["fingerprint"]) == pytest.approx(len(np.unique(nearest)), abs=3)
    # no mean sees it
    for name in ("response", "hits", "neighbour_x", "width_z"):
        assert abs(samples.pull(values, name, frozen)) < 4, name
