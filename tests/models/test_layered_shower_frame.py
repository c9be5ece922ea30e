"""The layered family around the axes of inclined and displaced showers, against plain loops."""

import functools
import math

import numpy as np
import pytest
import torch

from caloforge.errors import ConfigError
from caloforge.geometry import load_detector
from caloforge.models.base import Condition, TrainingBatch
from caloforge.models.layered.features import layer_features
from caloforge.models.layered.shower_frame import AxisPosition, ShowerFrame, follows_axis, growth
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerBatch
from caloforge.testing.model_contract import fit_to_made_up, made_up_batch

ORTHOGONAL = {"theta": (math.pi / 2,) * 2, "phi": (0.0, 0.0)}
ANY = {
    "theta": (math.radians(60), math.radians(120)),
    "phi": (-0.5, 0.5),
    "impact_x": (-2.5, 2.5),
    "impact_y": (-2.5, 2.5),
}
MESHES = {
    "square": ("mesh.nx=9", "mesh.ny=9"),
    "even": ("mesh.nx=8", "mesh.ny=10"),
    "oblong": ("mesh.nx=9", "mesh.ny=7", "mesh.cell_x=4 mm"),
}


@functools.cache
def model_of(overrides=MESHES["square"], *, trained=True, **ranges):
    ranges = TrainedRange(energy=(1e4, 5e5), pdg_ids=(11,), **(ANY | ranges))
    config = read_model_config({"family": "layered", "preset": "debug"}, "model")
    facts = DataFacts(ranges=ranges, response_fit=(0.02, -0.002))
    model = fit_to_made_up(build_model(config, load_detector("clic-ecal-25", overrides), facts, seed=1))
    with torch.no_grad():
        torch.manual_seed(3)
        for parameter in model.cell_sampler.parameters():
            parameter.add_(trained * 0.05 * torch.randn_like(parameter))
    return model.eval()


def one(theta=math.pi / 2, phi=0.0, impact_x=0.0, impact_y=0.0, energy=1e5):
    columns = [torch.tensor([x], dtype=torch.float32) for x in (energy, theta, phi, impact_x, impact_y)]
    return Condition(*columns[:3], torch.tensor([11], dtype=torch.int32), *columns[3:])


def crossing(detector, condition, layer, number):
    """The point of the mesh that a track crosses, in cells from the first one."""
    theta, phi = float(condition.theta[number]), float(condition.phi[number])
    direction = (math.sin(theta) * math.sin(phi), math.cos(theta), math.sin(theta) * math.cos(phi))
    run = detector.active_depths()[layer] - detector.layer_fronts()[detector.axis_layer]
    x = float(condition.impact_x[number]) + run * direction[0] / direction[2]
    y = float(condition.impact_y[number]) + run * direction[1] / direction[2]
    mesh = detector.mesh
    return x / mesh.cell_x + (mesh.nx - 1) / 2, y / mesh.cell_y + (mesh.ny - 1) / 2


# ---- geometry


@pytest.mark.parametrize("mesh", MESHES)
def test_windows_are_centred_on_the_cells_that_the_axis_crosses(mesh):
    model = model_of(MESHES[mesh])
    detector, frame, batch = model.detector, model.windows.frame, made_up_batch(model, 5)
    position = frame.position(batch.condition)
    windows = frame.windows(batch.showers, position).view(5, 25, model.geometry.rows, model.geometry.columns)
    available = frame.available(position).view(windows.shape)
    back = frame.showers(windows.flatten(2), position)
    layers, rows, columns = detector.shower_shape
    for n in range(5):
        for layer in range(0, layers, 6):
            x, y = crossing(detector, batch.condition, layer, n)
            column, row = math.floor(x + 0.5), math.floor(y + 0.5)
            assert position.cell[n, layer].tolist() == [column, row]
            want = (2 * (x - column), 2 * (y - row))
            assert position.remainder[n, layer].tolist() == pytest.approx(want, abs=1e-4)
            for i in range(model.geometry.rows):
                for j in range(model.geometry.columns):
                    r, c = row + i - frame.reach[1], column + j - frame.reach[0]
                    inside = 0 <= r < rows and 0 <= c < columns
                    assert available[n, layer, i, j] == inside
                    assert windows[n, layer, i, j] == (batch.showers[n, layer, r, c] if inside else 0)
                    if inside:
                        assert back[n, layer, r, c] == batch.showers[n, layer, r, c]
    # cells of the mesh beyond the window are lost, and no others
    assert ((back == batch.showers) | (back == 0)).all()


def test_an_orthogonal_track_through_the_centre_of_an_odd_mesh_has_no_remainder():
    position = model_of().windows.frame.position(one())
    assert (position.cell == 4).all()
    assert position.remainder.abs().max() < 1e-5
    assert float(position.inclination) == 1.0
    assert position.direction().tolist() == [[1.0, 0.0]]


def test_without_angles_and_impact_points_rings_stay_those_of_the_mesh():
    detector, centre = load_detector("clic-ecal-25"), {"impact_x": (0.0, 0.0), "impact_y": (0.0, 0.0)}

    def ranges(**limits):
        return TrainedRange(energy=(1e4, 5e5), pdg_ids=(11,), **(ORTHOGONAL | centre | limits))

    assert not follows_axis(detector, ranges())
    assert not follows_axis(load_detector("par04-siw"), ranges())
    assert follows_axis(detector, ranges(phi=(0.1, 0.1)))
    assert follows_axis(detector, ranges(theta=(1.5, math.pi / 2)))
    assert follows_axis(detector, ranges(impact_x=(-2.5, 2.5)))
    assert not ShowerFrame(detector, ranges(impact_x=(-2.5, 2.5))).inclined
    assert ShowerFrame(detector, ranges(phi=(0.0, 0.1))).inclined


def test_cards_of_earlier_releases_keep_the_rings_of_the_mesh():
    document = {"family": "layered", "preset": "debug"}
    assert read_model_config(document, "model").frame == "shower"
    assert read_model_config(document, "config", of_card=True).frame == "mesh"
    assert read_model_config({**document, "frame": "shower"}, "config", of_card=True).frame == "shower"


def test_impact_points_need_windows():
    config = read_model_config({"family": "layered", "preset": "debug", "frame": "mesh"}, "model")
    ranges = TrainedRange(energy=(1e4, 5e5), pdg_ids=(11,), **ANY)
    with pytest.raises(ConfigError, match="frame: shower"):
        build_model(config, load_detector("clic-ecal-25"), DataFacts(ranges=ranges, response_fit=(0.02,)))


# ---- terms


def position_of(remainder, slope):
    return AxisPosition(torch.zeros(1, 25, 2, dtype=torch.int64), remainder, slope, torch.ones(1))


@pytest.mark.parametrize("mesh", ["square", "oblong"])
def test_polynomials_of_cells_are_reflected_and_rotated_with_the_axis(mesh):
    model = model_of(MESHES[mesh])
    terms, generator = model.windows.terms, torch.Generator().manual_seed(0)
    remainder = (2 * torch.rand((1, 25, 2), generator=generator) - 1).double().float()
    slope, change = torch.tensor([[0.7, -0.4]]), torch.randn((1, 25), generator=generator)
    weights = torch.randn((terms.count, 25, model.geometry.symmetry_classes), generator=generator)
    argument, grid = torch.tensor([0.3]), (25, model.geometry.rows, model.geometry.columns)

    def values(turn):
        moved = position_of(remainder @ turn.T, slope @ turn.T)
        return terms.values(terms(moved, change, argument), weights).view(grid)

    plain = values(torch.eye(2))
    assert plain.std() > 1
    flip_x, flip_y = torch.diag(torch.tensor([-1.0, 1.0])), torch.diag(torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(values(flip_x), plain.flip(2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(values(flip_y), plain.flip(1), atol=1e-4, rtol=1e-4)
    if mesh == "square":
        swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        torch.testing.assert_close(values(swap), plain.mT, atol=1e-4, rtol=1e-4)


def test_polynomial_of_a_cell_is_the_sum_of_its_terms():
    model = model_of()
    terms, geometry = model.windows.terms, model.geometry
    generator = torch.Generator().manual_seed(0)
    remainder, slope = torch.rand((1, 25, 2), generator=generator) - 0.4, torch.tensor([[0.6, 0.2]])
    change, t = torch.randn((1, 25), generator=generator), 0.3
    weights = torch.randn((terms.count, 25, geometry.symmetry_classes), generator=generator)
    values = terms.values(terms(position_of(remainder, slope), change, torch.tensor([t])), weights)[0]
    # three columns to the left of the centre and one row above it: (3, 1) rotated by 180 degrees
    cell = (geometry.rows // 2 - 1) * geometry.columns + geometry.columns // 2 - 3
    for layer in (0, 7, 24):
        a, b = (-remainder[0, layer]).tolist()
        c, d = (-slope[0]).tolist()
        g = float(change[0, layer])
        want = [a, b, a * a, a * b, b * b, a**3, a * a * b, a * b * b, b**3]
        want += [c, d, c * c, c * d, d * d, g * c, g * d, t * c, t * d]
        own = weights[:, layer, geometry.symmetry_class[cell]].tolist()
        assert float(values[layer, cell]) == pytest.approx(
            sum(map(math.prod, zip(want, own, strict=True))), abs=1e-4
        )


def test_sums_of_terms_are_the_gradients_of_the_polynomials():
    model = model_of()
    terms, batch = model.windows.terms, made_up_batch(model, 4)
    position = model.windows.frame.position(batch.condition)
    found = terms(position, torch.randn(4, 25), torch.rand(4))
    field = torch.rand(4, 25, model.geometry.cells)
    weights = torch.zeros(terms.count, 25, model.geometry.symmetry_classes, requires_grad=True)
    (terms.values(found, weights) * field).sum().div(4).backward()
    torch.testing.assert_close(terms.sums(found, field), weights.grad, atol=1e-4, rtol=1e-3)


def test_growth_is_the_slope_of_the_logarithm():
    energy = torch.exp(0.2 * torch.arange(6.0))[None]
    change = growth(energy, torch.tensor(0.0))[0]
    assert change[1:-1].tolist() == pytest.approx([0.2] * 4)
    assert float(change[0]) == pytest.approx(0.1)
    assert growth(torch.tensor([[0.0, 1e9, 0.0]]), torch.tensor(1e-3)).abs().max() <= 1.5


# ---- what the axis predicts


def test_shares_are_those_of_the_cells_in_the_mesh():
    model = model_of()
    expectation, geometry, batch = model.windows.expectation, model.geometry, made_up_batch(model, 3)
    window = model.windows.window(batch.condition)
    for layer in (0, 10, 24):
        for radial_bin in range(model.layout.radial_bins):
            own = geometry.radial_bin == radial_bin
            number = geometry.symmetry_class[own]
            inside = window.available[1, layer].numpy()[own]
            hits = expectation.class_hits[layer].numpy()[number]
            energy = expectation.class_energy[layer].numpy()[number]
            want = [(x * inside).sum() / x.sum() for x in (energy, hits)]
            got = [float(x[1, layer, radial_bin]) for x in (window.shares.energy, window.shares.hits)]
            assert got == pytest.approx([max(x, 0.05) for x in want], rel=1e-4)
            assert float(window.shares.cells[1, layer, radial_bin]) == inside.sum()
    # somewhere the mesh ends
    assert window.shares.hits.min() < 0.5
    assert window.shares.hits.max() == pytest.approx(1.0)


def test_features_follow_from_what_is_left_of_them():
    model = model_of()
    windows, batch = model.windows, made_up_batch(model, 6)
    position = windows.frame.position(batch.condition)
    features = 1 + torch.rand(6, model.layout.size)
    argument = model.layer_sampler.energy_argument(batch.condition.energy)
    rest = windows.expectation.rest(features, position, argument)
    back = windows.expectation.features(rest, position, argument)
    want = windows.expectation.position_rest(features, position, argument)
    torch.testing.assert_close(back, want, atol=1e-4, rtol=1e-4)
    # along the inclination and across it
    direction, place = position.direction(), model.layout.position
    along = (want[:, place][:, :2] * direction).sum(1)
    torch.testing.assert_close(rest[:, place][:, 0], along, atol=1e-4, rtol=1e-4)


def test_what_the_axis_predicts_is_fitted():
    model = model_of(trained=False)
    windows, layout = model.windows, model.layout
    rng, count = torch.Generator().manual_seed(0), 4000
    columns = [low + (high - low) * torch.rand(count, generator=rng) for low, high in ANY.values()]
    condition = Condition(
        torch.full((count,), 1e5), *columns[:2], torch.full((count,), 11, dtype=torch.int32), *columns[2:]
    )
    position, argument = windows.frame.position(condition), torch.rand(count, generator=rng)
    features, noise = torch.randn((2, count, layout.size), generator=rng)
    ratio, layer = layout.log_ratios.start, 0
    square = position.remainder[:, layer].square().sum(1)
    # the innermost cell loses what lies beyond its edge; the centre is drawn to that of the cell
    features[:, ratio] = -2 * square + 0.3 * noise[:, 0] * (0.5 * square).exp()
    features[:, layout.position.start] = 0.4 * position.slope[:, 0] + 0.1 * noise[:, 1]
    features[:, layout.position.start + 1] = 0.4 * position.slope[:, 1] + 0.1 * noise[:, 2]
    windows.expectation.fit(features, position, argument)
    rest = windows.expectation.rest(features, position, argument)
    near, far = square < 0.4, square > 1.0
    for mean in (rest[near, ratio].mean(), rest[far, ratio].mean()):
        assert abs(float(mean)) < 0.15
    spreads = [float(rest[part, ratio].std()) for part in (near, far)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.15)
    place = layout.position.start
    assert float(rest[:, place : place + 2].std()) == pytest.approx(0.1, rel=0.1)


def test_features_of_windows_are_those_of_loops():
    model = model_of()
    windows, batch, geometry = model.windows, made_up_batch(model, 3), model.geometry
    cells, window = windows.cut(batch.showers.numpy(), batch.condition)
    energy = batch.condition.energy.numpy()
    facts, rng = window.facts(), np.random.default_rng(0)
    features = layer_features(cells, energy, geometry, 0.1, rng, window=facts)
    bin_energy, hits = windows.sums(torch.from_numpy(features), window, 1e-9)
    n, layer = 1, 12
    for radial_bin in range(model.layout.radial_bins):
        own = (geometry.radial_bin == radial_bin).reshape(geometry.rows, geometry.columns)
        inside = cells[n, layer][own]
        assert hits[n, layer, radial_bin] == (inside > 0).sum()
        whole = inside.sum() / float(window.shares.energy[n, layer, radial_bin])
        assert float(bin_energy[n, layer, radial_bin]) == pytest.approx(whole, rel=1e-3)
    # energy-weighted centre of the core from the axis
    moment, total = np.zeros(2), 0.0
    for layer in range(25):
        axis = window.position.remainder[n, layer].numpy() / 2
        for i, j in np.argwhere(geometry.ring.reshape(geometry.rows, -1) <= 2):
            place = np.array([j - geometry.columns // 2, i - geometry.rows // 2]) - axis
            moment += cells[n, layer, i, j] * place
            total += cells[n, layer, i, j]
    assert features[n, model.layout.position][:2] == pytest.approx(moment / total, abs=1e-4)


# ---- the model


def sums_of(model, showers, condition):
    cells, _ = model.windows.cut(showers.numpy(), condition)
    flat = cells.reshape(*cells.shape[:2], -1)
    return flat @ model.geometry.bin_membership, (flat > 0) @ model.geometry.bin_membership


@pytest.mark.parametrize("mesh", MESHES)
def test_generated_showers_have_exactly_the_sums_of_their_features(mesh):
    model = model_of(MESHES[mesh])
    batch, noise = made_up_batch(model, 6), model.example_noise(6)
    with torch.inference_mode():
        showers = model.generate(batch.condition, noise)
        asked = model.sample_features(batch.condition, noise[:, :4])
    energies, hits = sums_of(model, showers, batch.condition)
    np.testing.assert_array_equal(hits, asked.hit_counts.numpy())
    np.testing.assert_allclose(energies, asked.bin_energy.numpy(), rtol=1e-3, atol=1e-4)
    assert showers.shape == batch.showers.shape


def test_a_bin_is_hit_where_that_of_the_stored_shower_is():
    # the axis stays near the centre of the mesh
    near = {"theta": (1.5, 1.64), "phi": (-0.05, 0.05)}
    model = model_of.__wrapped__(trained=False, **near)
    batch = made_up_batch(model, 200)
    condition = batch.condition
    cell = model.windows.frame.position(condition).cell
    rng = np.random.default_rng(0)
    showers = np.zeros(batch.showers.shape, np.float32)
    rows, columns = np.mgrid[:9, :9]
    for n in range(200):
        for layer in range(0, 25, 2):
            distance = np.maximum(abs(rows - int(cell[n, layer, 1])), abs(columns - int(cell[n, layer, 0])))
            # the cell of the axis always; cells around it now and then, and never from the second ring on
            hit = (distance == 0) | ((distance == 1) & (rng.uniform(size=distance.shape) < 0.3))
            showers[n, layer] = hit * rng.uniform(1, 9, distance.shape)
    conditions = [getattr(condition, name).numpy() for name in ("energy", "theta", "phi", "pdg_id")]
    impacts = {name: getattr(condition, name).numpy() for name in ("impact_x", "impact_y")}
    model.fit([ShowerBatch(showers, *conditions, **impacts)], rng)
    hits = model.sample_features(condition, model.example_noise(200)[:, :4]).hit_counts
    assert (hits[:, ::2, 0] == 1).all()
    assert 1 < hits[:, ::2, 1].mean() < 4
    assert (hits[:, 1::2] == 0).all()
    # rings from the fifth on are outside of the mesh
    assert (hits[:, :, 2:4] == 0).all()


def test_no_cell_outside_of_the_mesh_is_hit_or_counted():
    model = model_of()
    batch = made_up_batch(model, 4)
    condition, cells = model.condition_and_cells(batch)
    outside = condition.window.available == 0
    assert outside.any()
    assert (cells.hit_mask[outside] == 0).all()
    sampler = model.cell_sampler
    independent = sampler.independent(condition)
    for density in (independent, sampler.teacher_density(cells, independent, condition)):
        assert density.rate[outside].max() < 1e-6
        assert torch.isfinite(
            density.negative_log_likelihood(cells, condition.hit_counts @ sampler.bin_membership.T)
        ).all()
    drawn = sampler.draw(condition, (torch.randn_like(cells.hit_mask), torch.randn_like(cells.hit_mask)))
    assert (drawn.hit_mask[outside] == 0).all()


def test_densities_of_a_mirror_image_are_the_mirror_image():
    model = model_of()
    batch = made_up_batch(model, 4)
    c = batch.condition
    mirrored = Condition(c.energy, math.pi - c.theta, -c.phi, c.pdg_id, -c.impact_x, -c.impact_y)
    grid = (4, 25, model.geometry.rows, model.geometry.columns)
    found = []
    for showers, condition in ((batch.showers, c), (batch.showers.flip(2, 3), mirrored)):
        torch.manual_seed(0)
        asked, _ = model.condition_and_cells(TrainingBatch(showers, condition))
        found.append(model.cell_sampler.independent(asked))
    for name in ("rate", "mean", "log_sigma"):
        plain, image = (getattr(density, name).view(grid) for density in found)
        torch.testing.assert_close(image, plain.flip(2, 3), atol=1e-3, rtol=1e-3)


def test_training_learns_where_the_axis_lies():
    # all energy of each layer lies in the cell next to the axis, on its side
    model = model_of(("mesh.nx=5", "mesh.ny=5"), trained=False, **ORTHOGONAL)
    rng, count = np.random.default_rng(0), 24
    shifts = rng.uniform(-2.4, 2.4, (2, count)).astype(np.float32)
    showers = np.zeros((count, *model.detector.shower_shape), np.float32)
    showers[:, :, 2, 2] = 5.0
    side = 2 + np.sign(shifts[0]).astype(int)
    showers[np.arange(count), :, 2, side] = 2.0
    plain = [np.full(count, x, np.float32) for x in (1e5, math.pi / 2, 0.0)]
    batch = ShowerBatch(showers, *plain, np.full(count, 11, np.int32), impact_x=shifts[0], impact_y=shifts[1])
    model.fit([batch], rng)
    for _ in range(5):
        for phase in model.step(TrainingBatch.of(batch)):
            parameters = list(model.optimized()["teacher"].parameters())
            slopes = torch.autograd.grad(phase.loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    if slope is not None:
                        parameter -= 0.25 * slope.sign()
    condition, _ = model.condition_and_cells(TrainingBatch.of(batch))
    rate = model.cell_sampler.independent(condition).rate
    centre = model.geometry.cells // 2
    left, right = rate[:, 12, centre - 1], rate[:, 12, centre + 1]
    towards = torch.from_numpy(shifts[0]) > 0.6
    assert (right[towards] > 3 * left[towards]).all()
    away = torch.from_numpy(shifts[0]) < -0.6
    assert (left[away] > 3 * right[away]).all()
