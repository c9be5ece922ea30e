"""The compact networks: their closed-form start, symmetries, features, energy distance and training step."""

import copy
import math

import numpy as np
import pytest
import torch

from caloforge.conditions import Conditions
from caloforge.config import build
from caloforge.errors import ConfigError, TrainingError
from caloforge.geometry import load_detector
from caloforge.models.base import Condition, TrainingBatch
from caloforge.models.gan3d.cell_field import DIPOLES, KNOTS, TABLE_ENERGIES, CellField, table_knots
from caloforge.models.gan3d.cell_field_fit import fit_cell_field
from caloforge.models.gan3d.compact_generator import NeighbourMaps, SymmetricConv3d
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.energy_argument import powers
from caloforge.models.gan3d.energy_distance import energy_distance
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.registry import build_model, create_model
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerFile
from caloforge.testing import check_model

ORTHOGONAL = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2, math.pi / 2), phi=(0.0, 0.0), pdg_ids=(11,))
FACTS = DataFacts(ranges=ORTHOGONAL, response_fit=(0.02, -0.002))
SMALL = {
    "generator": {"factors": 3, "width": 8, "channels": [2, 2, 2]},
    "discriminator": {"channels": [2, 4], "width": 8},
    "adversarial_after": 1,
}


def make(
    detector="clic-ecal-25", overrides=("mesh.nx=9", "mesh.ny=9"), facts=FACTS, preset="compact", **changes
):
    config = build(Gan3dConfig, {"preset": preset, **SMALL, **changes}, "model")
    return build_model(config, load_detector(detector, tuple(overrides)), facts, seed=1)


@pytest.fixture(scope="module")
def sample(electrons):
    with ShowerFile(electrons) as file:
        return file.read(0, len(file))


@pytest.fixture(scope="module")
def fitted(electrons, sample):
    """A model after the closed-form fit to 400 Geant4 electrons, before any step of training."""
    torch.set_num_threads(1)
    model = create_model(build(Gan3dConfig, {"preset": "compact"}, "model"), electrons, seed=1)
    model.fit([sample], np.random.default_rng(0))
    return model.eval()


# ---- parts


@pytest.mark.parametrize("overrides", [("mesh.nx=9", "mesh.ny=9"), ("mesh.nx=9", "mesh.ny=7")])
def test_contract(overrides):
    check_model(lambda: make(overrides=overrides, adversarial_after=0))


INCLINED = ORTHOGONAL.model_copy(
    update={"theta": (1.1, math.pi - 1.1), "impact_x": (-2.5, 2.5), "impact_y": (-2.5, 2.5)}
)


@pytest.mark.parametrize("overrides", [("mesh.nx=9", "mesh.ny=9"), ("mesh.nx=9", "mesh.ny=8")])
def test_contract_of_inclined_showers(overrides):
    facts = FACTS.model_copy(update={"ranges": INCLINED})
    changes = {"generator": {**SMALL["generator"], "window": 7}, "adversarial_after": 0}
    check_model(lambda: make(overrides=overrides, facts=facts, preset="compact-angle", **changes))


def test_energy_distance_is_the_mean_over_pairs():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 3, generator=rng), torch.randn(5, 3, generator=rng) + 1
    across = (x[:, None] - y).abs().mean((0, 1))
    own_x = (x[:, None] - x).abs().sum((0, 1)) / (7 * 6)
    own_y = (y[:, None] - y).abs().sum((0, 1)) / (5 * 4)
    torch.testing.assert_close(energy_distance(x, y), 2 * across - own_x - own_y)


def test_energy_distance_of_equal_distributions_is_0_on_average():
    rng = torch.Generator().manual_seed(0)
    equal = energy_distance(*torch.randn(2, 64, 4000, generator=rng))
    assert abs(float(equal.mean())) < 4 * float(equal.std()) / math.sqrt(4000)


def test_neighbour_maps_have_the_symmetries():
    noise = torch.randn(2, 1, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    maps = NeighbourMaps()
    for image in (lambda t: t.flip(-1), lambda t: t.transpose(-1, -2), lambda t: t.flip(-3)):
        for found, moved in zip(maps(noise), maps(image(noise)), strict=True):
            torch.testing.assert_close(moved.unflatten(2, (9, 9)), image(found.unflatten(2, (9, 9))))


def geometry(nx=9, ny=9, facts=FACTS):
    return layer_geometry(
        load_detector("clic-ecal-25", (f"mesh.nx={nx}", f"mesh.ny={ny}")), facts.ranges, (0, 1, 2)
    )


def test_fit_recovers_tables_and_dipoles_that_depend_on_the_energy():
    layers, own = 2, geometry()
    planted, found = (CellField(layers, own, 2, energy_dependent=True) for _ in range(2))
    rng = torch.Generator().manual_seed(3)
    argument = 2 * torch.rand(4000, generator=rng) - 1
    energies = torch.linspace(-1, 1, TABLE_ENERGIES)

    def draw(field):
        _, aside, rest = field.factor_field(argument, torch.zeros(4000, 2), noise(rng, 4000, DIPOLES, 2))
        local = sum(way * field.of_bins(part) for way, part in zip(field.direction, aside, strict=True))
        moments, zero = field.class_moments(argument), torch.zeros(4000, layers, 3)
        latent = field.latent(moments, argument, zero, rest, noise(rng, 4000, layers, 81), local)
        return field.energies(latent, argument)

    def widths(cells):
        """Interquartile ranges of the logarithm of the energy of hits, at low and at high energies."""
        quartiles = torch.tensor([0.25, 0.75])
        parts = [cells[argument < -0.6], cells[argument > 0.6]]
        return torch.stack([part[part > 0][:200_000].log().quantile(quartiles).diff() for part in parts])

    with torch.no_grad():
        planted.mean[:] = 1.0
        # hits vary more at high energies; showers move to one side at low ones
        slope = 2 + 0.8 * energies[:, None, None, None]
        planted.log_energy[:] = slope * table_knots().clamp_max(4) + 1e-3 * torch.arange(KNOTS)
        planted.dipole[:, 0] = (0.4 - 0.3 * energies)[:, None, None]
        cells = draw(planted)
        fit_cell_field(found, cells, argument.exp(), argument)
        # of the mean displacement of all bins; noise of the fit averages out
        aside = [f.dipole[..., 1:].mean((2, 3)).square().sum(1).sqrt() for f in (planted, found)]
        of_hits = [widths(cells), widths(draw(found))]
    assert float(of_hits[0][1] / of_hits[0][0]) > 1.5
    torch.testing.assert_close(of_hits[1], of_hits[0], rtol=0.03, atol=0)
    torch.testing.assert_close(aside[1], aside[0], atol=0.06, rtol=0)


def noise(rng, *shape):
    return torch.randn(shape, generator=rng)


def test_convolution_commutes_with_the_symmetries():
    conv = SymmetricConv3d(2, 3, geometry())
    x = torch.randn(2, 2, 5, 9, 9, generator=torch.Generator().manual_seed(0))
    for image in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(-1, -2)):
        torch.testing.assert_close(conv(image(x)), image(conv(x)))


def test_convolution_on_a_rectangle_is_not_transposed():
    # only reflections are symmetries of a window of 9 x 7 cells
    weight = SymmetricConv3d(1, 1, geometry(ny=7)).symmetric_weight()
    torch.testing.assert_close(weight, weight.flip(-1).flip(-2))
    assert not torch.allclose(weight, weight.transpose(-1, -2))


def test_neighbour_maps_have_variance_1_and_begin_with_the_noise():
    maps = NeighbourMaps()
    noise = torch.randn(400, 1, 6, 9, 9, generator=torch.Generator().manual_seed(0))
    found = torch.stack(maps(noise), 1)
    assert found.shape == (400, 3, 6, 81)
    torch.testing.assert_close(found[:, 0], noise.flatten(3)[:, 0])
    inside = found.unflatten(3, (9, 9))[:, :, 1:-1, 1:-1, 1:-1]
    assert inside.std((0, 2, 3, 4)) == pytest.approx(np.ones(3), abs=0.03)


def test_size_is_estimated_from_above_without_building_the_networks():
    model = make()
    held = sum(part.numel() for part in (*model.parameters(), *model.buffers()))
    estimate = type(model).count_numbers(model.config, model.detector, model.facts)
    assert held < estimate < 100 * held
    huge = {"channels": [1024] * 3, "width": 1024}
    config = build(Gan3dConfig, {"preset": "compact", "generator": huge}, "model")
    assert type(model).count_numbers(config, model.detector, model.facts) > 50e6


# ---- the closed-form start


def test_fit_recovers_a_planted_field():
    """Showers of a fitted field have the hits, spectrum and correlations of those it was fitted to."""
    layers, shape = 4, geometry()
    planted, found = (CellField(layers, shape, 2) for _ in range(2))
    rng = torch.Generator().manual_seed(3)
    depth = torch.arange(layers)[:, None]
    with torch.no_grad():
        level = 1.5 - 0.2 * torch.arange(shape.symmetry_classes) - 0.1 * depth
        planted.mean[:] = level[..., None] + 0.3 * torch.linspace(-1, 1, planted.mean.shape[-1])
        planted.loadings[0, :, :, 0] = 0.6
        planted.loadings[1, :2, :, 0] = -0.4
        planted.dipole[0] = 0.3 * torch.tensor([0.0, 1, 1])
        planted.log_energy[:] = torch.linspace(-3, 4, planted.log_energy.shape[-1])

    def draw(field, count=3000):
        argument = torch.rand(count, generator=rng) * 2 - 1
        mean, sigma = field.moments(argument)
        factors = torch.randn(count, 2, generator=rng), torch.randn(count, DIPOLES, 2, generator=rng)
        common, aside, rest = field.factor_field(argument, *factors)
        own = torch.randn(mean.shape, generator=rng) * rest[..., field.radial_bin]
        own = own + (aside[..., field.radial_bin] * field.direction[:, None, None]).sum(0)
        return field.energies(mean + sigma * (own + common[..., field.radial_bin]), argument), argument

    with torch.no_grad():
        showers, argument = draw(planted)
        energy = (argument * 2 + 11).exp()
        fit_cell_field(found, showers, energy, argument)
        again, _ = draw(found)
    assert (again > 0).float().mean(0).numpy() == pytest.approx(
        (showers > 0).float().mean(0).numpy(), abs=0.05
    )
    for chance in (0.1, 0.5, 0.9):
        spectrum = [float(torch.quantile(x[x > 0][:200_000].log(), chance)) for x in (again, showers)]
        assert spectrum[0] == pytest.approx(spectrum[1], abs=0.1)
    hits = [np.corrcoef((x > 0).float().sum(2).T.numpy()) for x in (again, showers)]
    assert hits[0] == pytest.approx(hits[1], abs=0.06)
    # hits on the right less those on the left vary together in all layers
    sides = [((x > 0).float() @ found.direction[0]).T.numpy() for x in (again, showers)]
    assert np.cov(sides[0]) == pytest.approx(np.cov(sides[1]), rel=0.1)
    assert np.corrcoef(sides[1])[0, 1] > 0.3


def test_start_has_the_hits_layers_and_response_of_the_training_showers(fitted, sample):
    condition = Condition.of(sample)
    torch.manual_seed(0)
    with torch.no_grad():
        fake = torch.cat(
            [
                fitted.generate(condition[rows], fitted.example_noise(100))
                for rows in (slice(i, i + 100) for _ in range(4) for i in range(0, 400, 100))
            ]
        ).numpy()
    # each condition four times
    real = np.tile(sample.showers, (4, 1, 1, 1))
    energy = np.tile(sample.incident_energy, 4)
    assert (fake > 0).sum() / (real > 0).sum() == pytest.approx(1, abs=0.03)
    profile = fake.sum((0, 2, 3)) / real.sum((0, 2, 3))
    heavy = real.sum((0, 2, 3)) > 0.02 * real.sum()
    assert profile[heavy] == pytest.approx(np.ones(heavy.sum()), abs=0.06)
    response = [x.sum((1, 2, 3)) / energy for x in (fake, real)]
    assert response[0].mean() == pytest.approx(response[1].mean(), rel=0.005)
    assert response[0].std() == pytest.approx(response[1].std(), rel=0.15)
    # neighbouring cells, halo included
    for near in (slice(1, None), slice(None, -1)):
        pairs = [np.sqrt(x[..., :-1] * x[..., 1:]).sum((0, 2, 3))[near].sum() for x in (fake, real)]
        assert pairs[0] == pytest.approx(pairs[1], rel=0.03)
    # depth fluctuates as a whole: neighbouring layers move together, front against back
    layers = [np.log(x.sum((2, 3))[:, [5, 6, 18]] + 1e-3) for x in (fake, real)]
    design = powers(fitted.generator.argument(torch.from_numpy(energy)), 3).numpy()
    rest = [x - design @ np.linalg.lstsq(design, x, rcond=None)[0] for x in layers]
    correlation = [np.corrcoef(x.T)[[0, 0], [1, 2]] for x in rest]
    # measured: 0.81 and -0.49, real 0.94 and -0.69
    assert correlation[0] == pytest.approx(correlation[1], abs=0.25)


def test_refit_brings_hits_and_sums_of_changed_weights_back(fitted, sample):
    model = copy.deepcopy(fitted)
    condition = Condition.of(sample)
    real = model.cells(TrainingBatch.of(sample))

    def figures():
        torch.manual_seed(1)
        with torch.no_grad():
            cells = torch.cat(
                [
                    model.generator(condition[rows], model.example_noise(100))[0]
                    for rows in (slice(i, i + 100) for i in range(0, 400, 100))
                ]
            )
        layers = cells.sum((0, 2)) / real.sum((0, 2))
        return float((cells > 0).sum() / (real > 0).sum()), float(layers[4] / layers[14])

    with torch.no_grad():
        model.generator.field.mean[:8] += 0.3
        model.generator.field.mean[12:] -= 0.2
    changed = figures()
    held = dict(model.named_buffers())
    model.refit([sample])
    assert all(held[name] is buffer for name, buffer in model.named_buffers())
    again = figures()
    assert abs(changed[0] - 1) > 0.05 or abs(changed[1] - 1) > 0.1
    assert again == pytest.approx((1, 1), abs=0.04)


def test_features_of_training_showers_are_standardised(fitted, sample):
    condition = Condition.of(sample)
    cells = fitted.cells(TrainingBatch.of(sample))
    values = fitted.feature_scale(fitted.features(cells, condition.energy), condition.energy)
    assert values.mean(0).abs().max() < 0.3
    assert float(values.std(0).median()) == pytest.approx(1, abs=0.1)


def test_discriminator_knows_the_energy_of_a_sum(fitted, sample):
    # before training, the energy is the visible energy times a constant
    condition = Condition.of(sample)
    showers = fitted.cells(TrainingBatch.of(sample))
    _, found = fitted.discriminator(showers, (showers > 0).float(), condition.energy)
    torch.testing.assert_close(
        found.exp() / showers.sum((1, 2)), (found.exp() / showers.sum((1, 2))).mean().expand(len(found))
    )


# ---- the step


def test_discriminator_takes_part_after_the_energy_distance_alone():
    model = make()
    batch = TrainingBatch.of(_showers(model))
    model.fit([_showers(model)], np.random.default_rng(0))
    names = [[phase.optimizer for phase in model.step(batch)] for _ in range(2)]
    assert names == [["generator"], ["discriminator", "generator"]]


def test_a_training_lowers_the_energy_distance():
    model = make(overrides=("mesh.nx=9", "mesh.ny=9", "mesh.layers_per_voxel=5"), adversarial_after=1000)
    showers = _showers(model, 128)
    model.fit([showers], np.random.default_rng(0))
    # a defect that the training must find: too many hits
    with torch.no_grad():
        model.generator.field.mean += 0.3
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.generator.parameters(), 3e-3)
    found = []
    for _ in range(30):
        for phase in model.step(TrainingBatch.of(showers)):
            optimizer.zero_grad()
            phase.loss.backward()
            optimizer.step()
            found.append(float(phase.logs["g_energy_distance"]))
    assert np.mean(found[-5:]) < 0.6 * np.mean(found[:3])


def _part(batch, rows):
    return Conditions.of(batch)[rows].with_showers(batch.showers[rows], detector=batch.detector)


def _showers(model, count=64):
    rng = np.random.default_rng(0)
    shape = (count, *model.detector.shower_shape)
    cells = (rng.exponential(1.0, shape) * (rng.random(shape) < 0.3)).astype(np.float32)
    energy = rng.uniform(1e4, 5e5, count).astype(np.float32)
    cells *= (0.02 * energy / cells.sum((1, 2, 3)))[:, None, None, None]
    straight = np.full(count, np.pi / 2, np.float32)
    conditions = Conditions(energy, straight, np.zeros(count, np.float32), np.full(count, 11, np.int32))
    return conditions.with_showers(cells, detector=model.detector)


def test_more_factors_than_radial_bins():
    # 2 layers of 3 bins have 6 shifts, and the response
    model = make(
        overrides=("mesh.nx=9", "mesh.ny=9", "mesh.layers_per_voxel=5"),
        generator={"factors": 40, "width": 8, "channels": [2, 2, 2], "radial_bins": [0, 1, 3]},
    )
    model.fit([_showers(model)], np.random.default_rng(0))
    loadings = model.generator.field.loadings.flatten(1).abs().sum(1)
    assert int((loadings > 0).sum()) <= 16
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_long_sample_is_fitted_by_some_of_its_showers(monkeypatch):
    model = make()
    showers = _showers(model, 60)
    monkeypatch.setattr("caloforge.models.gan3d.model.FEWEST_FIT", 10)
    monkeypatch.setattr("caloforge.models.gan3d.model.FIT_NUMBERS", 0)
    seen = []
    monkeypatch.setattr(model.generator, "fit", lambda cells, condition: seen.append(condition.energy))
    rows = [slice(first, first + 7) for first in range(0, 60, 7)]
    model.fit([_part(showers, part) for part in rows], np.random.default_rng(0))
    # however the sample is divided into batches
    assert seen[0].tolist() == showers.incident_energy[::6].tolist()


# ---- what it does not do


def test_too_few_showers_are_refused():
    model = make()
    with pytest.raises(TrainingError, match="3 showers to fit to, expected at least 4; give more data"):
        model.fit([_showers(model, 3)], np.random.default_rng(0))


def test_one_direction_has_no_angle_to_regress():
    with pytest.raises(ConfigError, match=r"weights.angle: the showers have one direction"):
        make(weights={"angle": 0.1})


def test_published_networks_refuse_showers_off_the_axis():
    ranges = ORTHOGONAL.model_copy(update={"impact_x": (-2.5, 2.5)})
    config = build(Gan3dConfig, {"preset": "debug"}, "model")
    with pytest.raises(
        ConfigError,
        match=r"up to 2\.5 mm beside the axis of the mesh, and this model makes them on the axis alone",
    ):
        build_model(
            config, load_detector("clic-ecal-25"), FACTS.model_copy(update={"ranges": ranges}), seed=1
        )


def test_cylinders_are_refused():
    with pytest.raises(ConfigError, match="need a cartesian mesh, par04-siw has a cylindrical"):
        make("par04-siw", ())


def test_a_mesh_smaller_than_the_convolutions_is_refused():
    with pytest.raises(ConfigError, match="too small for 2 convolutions of stride 2"):
        make(overrides=("mesh.nx=3", "mesh.ny=3"))


def test_networks_of_two_kinds_are_refused():
    other = build(Gan3dConfig, {"preset": "debug"}, "model").model_dump(mode="json")["discriminator"]
    with pytest.raises(ConfigError, match="expected the same"):
        build(Gan3dConfig, {"preset": "compact", "discriminator": other}, "model")
