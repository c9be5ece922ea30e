"""The layer sampler keeps marginal distributions and dependences of the features it was fitted to."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from caloforge.geometry import load_detector
from caloforge.models.base import Condition
from caloforge.models.layered.constants import NEIGHBOURS, RESAMPLER_NOISE
from caloforge.models.layered.features import EDGE, FeatureLayout, feature_images
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.layered.layer_flow import LayerFlow
from caloforge.models.layered.layer_sampler import LayerSampler
from caloforge.models.layered.neighbour_resampler import NeighbourResampler, uniform_from_normal
from caloforge.models.symmetries import symmetries
from caloforge.models.training_metadata import TrainedRange

RANGES = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))


def electrons(energy):
    energy = torch.as_tensor(energy, dtype=torch.float32)
    return Condition(
        energy,
        torch.full_like(energy, math.pi / 2),
        torch.zeros_like(energy),
        torch.full(energy.shape, 11, dtype=torch.int32),
    )


def test_samples_keep_means_widths_and_correlations():
    rng = np.random.default_rng(1)
    n = 6000
    energy = rng.uniform(1e4, 5e5, n)
    log = np.log(energy / 7e4)
    shared = rng.standard_normal(n)
    truth = np.stack(
        [
            0.02 * log + (0.02 + 0.01 / (1 + log**2)) * shared,
            np.exp(0.5 * log) * np.cbrt(rng.gamma(4 + shared.clip(-2, 2), size=n)),
            rng.exponential(size=n) + 0.3 * shared,
        ],
        axis=1,
    ).astype(np.float32)
    sampler = LayerSampler(torch.tensor([0, 0, -1]), RANGES)
    sampler.fit(truth, electrons(energy), torch.arange(n), 4096)
    condition = electrons(energy)
    scores = sampler.normal_scores(torch.from_numpy(truth), condition)
    assert torch.allclose(sampler.features(scores, condition), torch.from_numpy(truth), rtol=1e-3, atol=0.02)
    noise = torch.randn((n, RESAMPLER_NOISE), generator=torch.Generator().manual_seed(2))
    drawn = sampler.features(sampler.sample_scores(noise, condition), condition).numpy()
    for low, high in ((1e4, 1.5e5), (1.5e5, 3e5), (3e5, 5e5)):
        rows = (energy > low) & (energy < high)
        error = truth[rows].std(0) * math.sqrt(2 / rows.sum())
        assert (np.abs(drawn[rows].mean(0) - truth[rows].mean(0)) < 4 * error).all()
        ratio = drawn[rows].std(0) / truth[rows].std(0)
        # of the widths of two samples, by the kurtosis
        error = np.sqrt((stats.kurtosis(truth[rows], fisher=False) - 1) / (2 * rows.sum()))
        assert (np.abs(ratio - 1) < 3 * error).all()
        assert np.abs(ratio - 1).mean() < 0.05
    want, got = (np.corrcoef(stats.rankdata(x, axis=0).T) for x in (truth, drawn))
    assert np.abs(want - got).max() < 0.05


def test_samples_keep_dependences_without_covariance():
    """Points on a circle: uncorrelated, but not independent."""
    rng = np.random.default_rng(5)
    energy, angle = rng.uniform(1e4, 5e5, 4000), rng.uniform(0, 2 * np.pi, 4000)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.05 * rng.standard_normal((4000, 2))
    sampler = LayerSampler(torch.tensor([0, 0]), RANGES)
    sampler.fit(ring.astype(np.float32), electrons(energy), torch.arange(4000), 4096)
    noise = torch.randn((4000, RESAMPLER_NOISE), generator=torch.Generator().manual_seed(0))
    drawn = sampler.features(sampler.sample_scores(noise, electrons(energy)), electrons(energy)).numpy()
    inside = np.mean(np.hypot(*drawn.T) < 0.4)
    apart = np.mean(np.hypot(drawn[:, 0], rng.permutation(drawn[:, 1])) < 0.4)
    assert inside < 0.8 * apart


def test_stored_showers_are_drawn_by_particle_and_energy():
    ranges = RANGES.model_copy(update={"pdg_ids": (11, 22)})
    rng = np.random.default_rng(6)
    energy = torch.from_numpy(rng.uniform(1e4, 5e5, 3000).astype(np.float32))
    pdg_id = torch.where(torch.arange(3000) % 3 == 0, 22, 11).int()
    condition = Condition(energy, torch.full_like(energy, math.pi / 2), torch.zeros_like(energy), pdg_id)
    sampler = LayerSampler(torch.tensor([0, -1]), ranges)
    sampler.fit(rng.standard_normal((3000, 2)).astype(np.float32), condition, torch.arange(3000), 600)
    resampler = sampler.resampler
    assert len(resampler.normal_scores) == 600
    # mark stored showers with particle and rank, and let parts agree without a shift
    half = len(resampler.normal_scores) // 2
    resampler.normal_scores[:half, 0], resampler.normal_scores[half:, 0] = 0, 1
    resampler.normal_scores[:, 1] = torch.linspace(-1, 1, half).repeat(2)
    resampler.coordinates.zero_()
    asked = condition[:400]
    noise = torch.randn((400, RESAMPLER_NOISE), generator=torch.Generator().manual_seed(1))
    for drawn in (
        sampler.sample_scores(noise, asked),
        sampler.sample_scores(6 * torch.ones(400, RESAMPLER_NOISE), asked),
    ):
        assert torch.equal(drawn[:, 0], (asked.pdg_id == 22).float())
        # energies are uniform, and so are their ranks
        place = 2 * (asked.energy - 1e4) / 4.9e5 - 1
        assert (drawn[:, 1] - place).abs().max() < 0.15


def test_all_showers_of_a_single_energy_are_drawn():
    resampler, energy_argument = NeighbourResampler(torch.tensor([-1]), particles=1), torch.zeros(64)
    scores = torch.linspace(-2, 2, 64)[:, None]
    resampler.fit(scores, energy_argument[:, None], 0, torch.zeros(64, dtype=torch.int64), torch.arange(64))
    noise = torch.randn((4000, RESAMPLER_NOISE), generator=torch.Generator().manual_seed(0))
    # no shift between the parts
    resampler.coordinates.zero_()
    drawn = resampler(noise, torch.zeros(4000, 1), torch.zeros(4000, dtype=torch.int64))
    counts = torch.bincount(((drawn[:, 0] + 2) * 63 / 4).round().long(), minlength=64)
    assert counts.min() > 10
    # for another energy they are the nearest as well
    far = resampler(noise, torch.full((4000, 1), 0.8), torch.zeros(4000, dtype=torch.int64))
    assert torch.equal(far, drawn)


def test_spliced_parts_agree_at_the_joints_and_are_no_copies():
    """Features that are independent between layers, but for one direction that all share."""
    rng = torch.Generator().manual_seed(0)
    layer = torch.arange(20).repeat_interleave(5)
    depth, noise = torch.randn((1500, 1), generator=rng), torch.randn((1500, 100), generator=rng)
    resampler, energy_argument = NeighbourResampler(layer, particles=1), torch.linspace(-1, 1, 1500)
    scores = depth + 0.2 * noise
    shower = torch.arange(1500)
    resampler.fit(scores, energy_argument[:, None], 0, torch.zeros(1500, dtype=torch.int64), shower)
    assert resampler.neighbours.shape == (1500, NEIGHBOURS)
    assert (resampler.neighbours != shower[:, None]).all()
    numbers = torch.randn((3000, RESAMPLER_NOISE), generator=rng)
    asked = torch.rand(3000, generator=rng) * 2 - 1
    drawn = resampler(numbers, asked[:, None], torch.zeros(3000, dtype=torch.int64))
    layers = drawn.view(-1, 20, 5).mean(2)
    assert (layers[:, 1:] - layers[:, :-1]).std() == pytest.approx(0.2 * math.sqrt(2 / 5), rel=0.05)
    assert drawn.std() == pytest.approx(float(scores.std()), rel=0.05)
    # a spliced shower is about as far from stored ones as they are from each other
    new = torch.cdist(drawn, resampler.normal_scores.float()).min(1).values
    real = torch.cdist(scores[:500], scores[500:]).min(1).values
    assert new.median() > 0.7 * real.median()


def test_uniform_numbers_from_normal_ones():
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert stats.kstest(uniform_from_normal(x).numpy(), "uniform").pvalue > 1e-3


def test_extrapolates_smoothly_beyond_the_trained_range():
    rng = np.random.default_rng(4)
    energy = rng.uniform(1e4, 5e5, 2000)
    truth = (np.log(energy)[:, None] + 0.1 * rng.standard_normal((2000, 2))).astype(np.float32)
    sampler = LayerSampler(torch.tensor([0, 0]), RANGES)
    sampler.fit(truth, electrons(energy), torch.arange(2000), 64)
    drawn = sampler.features(torch.zeros(2, 2), electrons([8e3, 6e5]))
    assert torch.allclose(drawn[:, 0], torch.log(torch.tensor([8e3, 6e5])), atol=0.2)


def test_a_learned_density_follows_conditions_and_bends():
    """A skew leading coordinate, a feature that bends with it, one whose width grows with the energy."""
    rng = np.random.default_rng(3)
    n = 8000
    energy = rng.uniform(1e4, 5e5, n)
    depth, noise = rng.gamma(2, size=n), rng.standard_normal((n, 4))
    wide = noise[:, 3] * np.where(energy > 2e5, 2.0, 0.5)
    truth = np.stack([depth + 0.1 * noise[:, 0], depth + 0.1 * noise[:, 1], depth - 2 + 0.1 * noise[:, 2]], 1)
    truth = np.column_stack([truth, (depth - 2) ** 2 + 0.2 * noise[:, 0], wide]).astype(np.float32)
    sampler = LayerSampler(torch.tensor([0, 1, 2, 3, 3]), RANGES, "flow")
    sampler.fit(truth, electrons(energy), torch.arange(n), 4096)
    assert sampler.resampler is None
    numbers = torch.randn((n, sampler.noise_size), generator=torch.Generator().manual_seed(2))
    drawn = sampler.features(sampler.sample_scores(numbers, electrons(energy)), electrons(energy)).numpy()
    want, got = (np.corrcoef(stats.rankdata(x, axis=0).T) for x in (truth, drawn))
    assert np.abs(want - got).max() < 0.06
    for columns in (truth, drawn):
        # not by chance: deep and shallow showers both have a large fourth feature
        middle = np.abs(columns[:, 0] - 1.6) < 0.4
        assert columns[middle, 3].mean() < 0.4 * columns[~middle, 3].mean()
        high = energy > 3e5
        assert columns[high, 4].std() > 2.5 * columns[energy < 1e5, 4].std()
    # the same noise makes the same features, other noise others
    again = sampler.features(sampler.sample_scores(numbers, electrons(energy)), electrons(energy)).numpy()
    assert np.array_equal(drawn, again)
    # no copies but by rounding
    assert len(np.unique(drawn[:, 0])) > 0.99 * n


def test_a_learned_density_keeps_correlations_of_few_showers_in_bounds():
    flow = LayerFlow(40, columns=1)
    scores = torch.randn((12, 40), generator=torch.Generator().manual_seed(0))
    columns, none = torch.linspace(-1, 1, 12)[:, None], torch.zeros(12, dtype=torch.int64)
    flow.fit(scores, columns, 0, none, torch.arange(12))
    noise = torch.randn((2000, flow.noise_size), generator=torch.Generator().manual_seed(1))
    drawn = flow(noise, torch.zeros(2000, 1), torch.zeros(2000, dtype=torch.int64))
    assert drawn.isfinite().all()
    assert drawn.std(0).max() < 3


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_roots_of_bins_lead_back_to_features(bins):
    layout = FeatureLayout(3, bins)
    features = torch.rand((50, layout.size), generator=torch.Generator().manual_seed(0)) * 3 + 0.2
    roots = layout.bin_roots(features)
    assert roots.shape == features.shape
    sums = (roots[:, 1 : layout.log_ratios.stop] ** 3).view(50, 3, bins).sum(2)
    assert torch.allclose(sums, features[:, layout.layer_energies] ** 3, rtol=1e-4)
    assert torch.allclose(layout.from_bin_roots(roots), features, rtol=1e-3, atol=1e-4)


def test_enough_showers_are_near_an_energy_that_parts_do_not_come_again_and_again():
    """One energy at the edge of the range."""
    resampler, energy_argument = (
        NeighbourResampler(torch.tensor([-1]), particles=1),
        torch.linspace(-1, 1, 4000),
    )
    none = torch.zeros(4000, dtype=torch.int64)
    resampler.fit(torch.randn(4000, 1), energy_argument[:, None], 0, none, torch.arange(4000))
    first, last = resampler.windows[0, :, 0].tolist()
    assert last - first + 1 >= 250
    # of few showers only the nearest are near
    few = NeighbourResampler(torch.tensor([-1]), particles=1)
    few.fit(torch.randn(80, 1), torch.linspace(-1, 1, 80)[:, None], 0, none[:80], torch.arange(80))
    first, last = few.windows[0, :, 0].tolist()
    assert last - first + 1 == 5


def test_means_do_not_follow_noise_where_few_showers_are():
    """Of energies flat in 10 to 500 GeV, one in fifty is below 20 GeV."""
    rng = np.random.default_rng(2)
    energy = rng.uniform(1e4, 5e5, 1500)
    place = np.log(energy / 7.07e4) / 1.956
    noise = rng.uniform(size=(1500, 100))
    bent = np.sin(4 * place)[:, None] + 0.3 * rng.standard_normal((1500, 50))
    sampler = LayerSampler(torch.zeros(150, dtype=torch.int64), RANGES)
    features = np.concatenate([noise, bent], axis=1).astype(np.float32)
    sampler.fit(features, electrons(energy), torch.arange(1500), 64)
    means = sampler.features(torch.zeros(2, 150), electrons([1e4, 1e5])).numpy()
    # in standard deviations; without a penalty it is 0.5
    assert np.sqrt((((means[0, :100] - 0.5) / noise.std()) ** 2).mean()) < 0.35
    # what bends is followed
    assert np.abs(means[1, 100:].mean() - math.sin(4 * math.log(100 / 70.7) / 1.956)) < 0.05


def test_images_of_a_shower_have_the_same_hits_and_noise_of_their_own():
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
    geometry, group = layer_geometry(detector, RANGES, (0, 1)), symmetries(detector, RANGES)
    layout = FeatureLayout(25, 2)
    rng = np.random.default_rng(0)
    showers = rng.uniform(size=(40, 25, 5, 5)).astype(np.float32)
    features = np.ones((40, layout.size), np.float32)
    hits = rng.integers(0, 9, (40, 50))
    features[:, layout.root_counts] = np.sqrt(hits + rng.uniform(EDGE, 1 - EDGE, (40, 50)))
    images = feature_images(features, showers, geometry, group, rng).reshape(len(group), 40, -1)
    roots = images[:, :, layout.root_counts]
    assert (np.floor(roots**2) == hits).all()
    assert (roots[0] == features[:, layout.root_counts]).all()
    assert (roots.std(axis=0) > 0).all()
