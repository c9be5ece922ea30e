"""The map that gives sums of layers and rings of generated showers the distribution of training showers."""

import numpy as np
import pytest
import torch

from caloforge.models.gan3d.energy_argument import EnergyArgument
from caloforge.models.gan3d.sum_transport import SumTransport, optimal_map

ARGUMENT = EnergyArgument(offset=float(np.log(7e4)), scale=2 / float(np.log(50)))
LAYERS, BINS = 6, 3


def energies(count, rng):
    return 1e4 * 50 ** torch.rand(count, generator=rng)


def showers(energy, response, width, coupling, rng):
    """Sums of layers and bins, (N, L, B): a depth and a radius that fluctuate, fewer at high energies."""
    shape = (len(energy), 1)
    spread = width * (1e5 / energy[:, None]) ** 0.25
    depth = 2 + spread * (torch.randn(shape, generator=rng) + coupling * response[:, None])
    radius = spread * torch.randn(shape, generator=rng)
    layer = torch.exp(-0.3 * (torch.arange(LAYERS) - depth) ** 2)
    ring = torch.exp(-torch.arange(BINS) * (1 + 0.5 * radius))
    noise = 1 + 0.05 * torch.randn(len(energy), LAYERS, BINS, generator=rng)
    return layer[..., None] * ring[:, None] * noise.clamp_min(0.1) * energy[:, None, None]


def slopes(values, response):
    return np.polyfit(response.numpy(), values.numpy(), 1)[0]


def test_optimal_map_takes_one_covariance_to_the_other():
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(4, 20, generator=rng).double() for _ in range(2))
    source, target = first @ first.T, second @ second.T
    found = optimal_map(source, target)
    torch.testing.assert_close(found @ source @ found.T, target, rtol=0.02, atol=0.1)
    # nothing to do, nothing done
    torch.testing.assert_close(optimal_map(source, source), torch.eye(4, dtype=torch.float64))


def test_widths_correlations_and_the_dependence_on_the_response_become_those_of_the_training():
    rng = torch.Generator().manual_seed(1)
    energy = energies(4000, rng)
    z, training_z = torch.randn(2, 4000, generator=rng)
    training = showers(energy, training_z, 0.3, -0.8, rng)
    transport = SumTransport(LAYERS, BINS, ARGUMENT)
    transport.fit(showers(energy, z, 0.5, 0.0, rng), training, energy, (z, training_z))
    new_energy, new_z = energies(4000, rng), torch.randn(4000, generator=rng)
    wide = showers(new_energy, new_z, 0.5, 0.0, rng)
    moved = wide * transport(wide, new_energy, new_z)

    def figures(sums, z):
        share = sums / sums.sum((1, 2), keepdim=True)
        front, core = share[:, :2].sum((1, 2)), share[:, :, 0].sum(1)
        return np.array([front.mean(), front.std(), core.mean(), core.std(), slopes(front, z)])

    wanted, found = figures(training, training_z), figures(moved, new_z)
    before = figures(wide, new_z)
    assert found == pytest.approx(wanted, rel=0.08)
    assert before[[1, 3, 4]] != pytest.approx(wanted[[1, 3, 4]], rel=0.3)


def test_nothing_is_moved_before_the_fit():
    rng = torch.Generator().manual_seed(2)
    energy = energies(50, rng)
    sums = showers(energy, torch.zeros(50), 0.3, 0.0, rng)
    factors = SumTransport(LAYERS, BINS, ARGUMENT)(sums, energy, torch.randn(50, generator=rng))
    torch.testing.assert_close(factors, torch.ones_like(factors), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("layers", "bins"), [(1, 1), (1, 3), (2, 1), (7, 2)])
def test_few_layers_few_bins_and_empty_ones(layers, bins):
    rng = torch.Generator().manual_seed(3)
    energy = energies(200, rng)
    sums = torch.rand(2, 200, layers, bins, generator=rng) * (
        torch.rand(200, layers, bins, generator=rng) < 0.7
    )
    z = torch.randn(2, 200, generator=rng)
    transport = SumTransport(layers, bins, ARGUMENT)
    transport.fit(sums[0], sums[1], energy, (z[0], z[1]))
    sums[0, 0] = 0
    factors = transport(sums[0], energy, z[0])
    assert torch.isfinite(factors).all()
    assert (factors > 0).all()
