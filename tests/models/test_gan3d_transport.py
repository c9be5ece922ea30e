"""The maps that give hits, and sums of layers and rings, the distribution of training showers."""

import numpy as np
import pytest
import torch

from caloforge.models.gan3d.energy_argument import EnergyArgument, log_widths, powers
from caloforge.models.gan3d.hit_transport import HitTransport
from caloforge.models.gan3d.normal_transport import MapForm, NormalTransport, optimal_map
from caloforge.models.gan3d.sum_transport import SumTransport

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
    z, training_z = torch.randn(2, 4000, 1, generator=rng)
    training = showers(energy, training_z[:, 0], 0.3, -0.8, rng)
    transport = SumTransport(LAYERS, BINS, 1, ARGUMENT)
    transport.fit((showers(energy, z[:, 0], 0.5, 0.0, rng), z), (training, training_z), energy)
    new_energy, new_z = energies(4000, rng), torch.randn(4000, generator=rng)
    wide = showers(new_energy, new_z, 0.5, 0.0, rng)
    moved = wide * transport(wide, new_z[:, None], new_energy)

    def figures(sums, z):
        share = sums / sums.sum((1, 2), keepdim=True)
        front, core = share[:, :2].sum((1, 2)), share[:, :, 0].sum(1)
        return np.array([front.mean(), front.std(), core.mean(), core.std(), slopes(front, z)])

    wanted, found = figures(training, training_z[:, 0]), figures(moved, new_z)
    before = figures(wide, new_z)
    assert found == pytest.approx(wanted, rel=0.08)
    assert before[[1, 3, 4]] != pytest.approx(wanted[[1, 3, 4]], rel=0.3)


@pytest.mark.parametrize("squared", [False, True])
def test_y_follows_the_square_of_the_response_if_it_is_known(squared):
    rng = torch.Generator().manual_seed(5)
    energy = energies(4000, rng)
    z, training_z = torch.randn(2, 4000, 1, generator=rng)

    def noise():
        return torch.randn(4000, 2, generator=rng)

    training = 5 + training_z + 0.5 * training_z.square() + 0.5 * noise()
    transport = NormalTransport(2, 1, ARGUMENT, MapForm(energies=4, squared=squared))
    transport.fit((noise(), z), (training, training_z), energy)
    moved = transport(noise(), z, energy)
    bend, slope, _ = np.polyfit(z[:, 0].numpy(), moved[:, 0].numpy(), 2)
    assert slope == pytest.approx(1, abs=0.08)
    assert bend == pytest.approx(0.5 if squared else 0, abs=0.05)
    assert float(moved.std()) == pytest.approx(float(training.std()), rel=0.05)


def test_nothing_is_moved_before_the_fit():
    rng = torch.Generator().manual_seed(2)
    energy = energies(50, rng)
    sums = showers(energy, torch.zeros(50), 0.3, 0.0, rng)
    factors = SumTransport(LAYERS, BINS, 2, ARGUMENT)(sums, torch.randn(50, 2, generator=rng), energy)
    torch.testing.assert_close(factors, torch.ones_like(factors), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("layers", "bins"), [(1, 1), (1, 3), (2, 1), (7, 2)])
def test_few_layers_few_bins_and_empty_ones(layers, bins):
    rng = torch.Generator().manual_seed(3)
    energy = energies(200, rng)
    sums = torch.rand(2, 200, layers, bins, generator=rng) * (
        torch.rand(200, layers, bins, generator=rng) < 0.7
    )
    z = torch.randn(2, 200, 3, generator=rng)
    # a known number that is always the same
    z[..., 2] = 0
    transport = SumTransport(layers, bins, 3, ARGUMENT)
    transport.fit((sums[0], z[0]), (sums[1], z[1]), energy)
    sums[0, 0] = 0
    factors = transport(sums[0], z[0], energy)
    assert torch.isfinite(factors).all()
    assert (factors > 0).all()


def test_hits_get_the_spread_and_the_dependence_on_the_response_of_the_training():
    rng = torch.Generator().manual_seed(4)
    layers, cells = 5, 400

    def latent(energy, response, coupling, spread):
        common = spread * torch.randn(len(energy), 1, generator=rng) + coupling * response[:, None]
        level = ARGUMENT(energy)[:, None] * 0.3 - 0.5 + common
        return level[..., None] + torch.randn(len(energy), layers, cells, generator=rng)

    energy = energies(3000, rng)
    z, training_z, new_z = torch.randn(3, 3000, generator=rng)
    start, training = latent(energy, z, 0.0, 0.05), latent(energy, training_z, 0.08, 0.1)
    transport = HitTransport(layers, ARGUMENT)
    wanted = transport.hits(training)
    transport.fit((transport.hits(start), z), (wanted, training_z), transport.log_density(start), energy)
    new_energy = energies(3000, rng)
    before = latent(new_energy, new_z, 0.0, 0.05)
    after = before + transport(before, new_z, new_energy)[..., None]

    def figures(hits, energy, z):
        root = hits.sum(1).sqrt()
        design = powers(ARGUMENT(energy), 3)
        rest = root - design @ torch.linalg.lstsq(design, root[:, None]).solution[:, 0]
        return [float(root.mean()), float(rest.std()), slopes(rest, z)]

    found = figures(transport.hits(after), new_energy, new_z)
    expected = figures(wanted, energy, training_z)
    # the slope of the start is known to 0.02 of its width
    assert found == pytest.approx(expected, rel=0.12)
    assert figures(transport.hits(before), new_energy, new_z)[1:] != pytest.approx(expected[1:], rel=0.4)


def test_displaced_hits_have_a_gradient_and_none_before_the_fit():
    rng = torch.Generator().manual_seed(5)
    latent = torch.randn(20, 6, 50, generator=rng).requires_grad_()
    transport = HitTransport(6, ARGUMENT)
    energy = energies(20, rng)
    hits = transport.hits(latent + transport(latent, torch.zeros(20), energy)[..., None])
    hits.sum().backward()
    assert bool(torch.isfinite(latent.grad).all())
    assert float(latent.grad.abs().sum()) > 0


def test_widths_are_those_of_normal_numbers():
    rng = torch.Generator().manual_seed(6)
    argument = torch.rand(20_000, generator=rng) * 2 - 1
    width = (0.3 - 0.5 * argument + 0.2 * argument**2).exp()
    values = width * torch.randn(20_000, generator=rng)
    found = log_widths(powers(argument, 2), values, torch.tensor(1e-4))
    assert found.tolist() == pytest.approx([0.3, -0.5, 0.2], abs=0.03)
