"""The layered family: layer features, density and draws of the cells, training."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from caloforge.errors import ConfigError
from caloforge.geometry import load_detector
from caloforge.models.layered.cell_density import (
    CellCondition,
    CellDensity,
    Cells,
    gumbel_from_normal,
    heaviside,
)
from caloforge.models.layered.constants import RESAMPLER_NOISE
from caloforge.models.layered.energy_transform import LARGEST_SHIFT, SPLIT, EnergyTransform
from caloforge.models.layered.features import FeatureLayout, layer_features
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.layered.independent_cells import PARAMETER_SCALE
from caloforge.models.layered.residual_skewness import ResidualSkewness
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.testing.model_contract import fit_to_made_up, made_up_batch

MESH = ("mesh.nx=9", "mesh.ny=9")
RANGES = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))


@pytest.fixture
def model():
    # weights as after a training: nothing is zero
    config = read_model_config({"family": "layered", "preset": "debug"}, "model")
    facts = DataFacts(ranges=RANGES, response_fit=(0.02, -0.002))
    model = fit_to_made_up(build_model(config, load_detector("clic-ecal-25", MESH), facts, seed=1))
    with torch.no_grad():
        torch.manual_seed(3)
        for parameter in model.cell_sampler.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def condition(model):
    condition = made_up_batch(model, 6).condition
    noise = torch.randn((6, RESAMPLER_NOISE), generator=torch.Generator().manual_seed(0))
    return model.sample_features(condition, noise)


def cell_noise(model, count, seed=1):
    shape, generator = (count, model.layout.layers, model.geometry.cells), torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def cells_of(transformed):
    return Cells((transformed > 0).to(transformed.dtype), transformed)


# ---- density


def test_gumbel_numbers_from_normal_ones():
    score = np.linspace(-4.5, 4.5, 91)
    error = np.abs(
        gumbel_from_normal(torch.from_numpy(score)).numpy() - stats.gumbel_r.ppf(stats.norm.cdf(score))
    )
    assert error.max() < 0.003


def density_of(rate, mean, log_sigma, count=1):
    return CellDensity(*(torch.full((count, 1, 1), x, dtype=torch.float64) for x in (rate, mean, log_sigma)))


def test_hit_probability_follows_from_the_rate():
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    for rate in (0.003, 0.3, 2.0):
        hits = (rate * gumbel_from_normal(x).exp() > 1).double().mean()
        want = 1 - math.exp(-rate)
        assert float(hits) == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / len(x)))


@pytest.mark.parametrize("bin_hits", [2, 5, 1000])
def test_density_integrates_to_one(bin_hits):
    density = density_of(0.74, 1.4, -1.1)
    grid = torch.linspace(-3, 6, 9001, dtype=torch.float64)
    step = float(grid[1] - grid[0])
    hits = torch.full((1, 1, 1), float(bin_hits), dtype=torch.float64)
    # transformed energies of hits are positive
    kept = grid[grid > 0]
    chances = torch.tensor(
        [math.exp(-float(density.negative_log_likelihood(cells_of(x.view(1, 1, 1)), hits)[0])) for x in kept]
    )
    empty = cells_of(torch.zeros(1, 1, 1, dtype=torch.float64))
    none = math.exp(-float(density.negative_log_likelihood(empty, hits)[0]))
    assert none + float(chances.sum()) * step == pytest.approx(1.0, abs=1e-3)
    # hits that add up to a known sum vary less
    mean = float((chances * kept).sum() / chances.sum())
    variance = float((chances * (kept - mean) ** 2).sum() / chances.sum())
    assert variance == pytest.approx(math.exp(-2.2) * (bin_hits - 1) / bin_hits, rel=1e-2)


def test_the_energy_of_a_single_hit_is_no_part_of_the_likelihood():
    density, single = density_of(0.74, 1.4, -1.1), torch.ones(1, 1, 1, dtype=torch.float64)
    hits = [cells_of(torch.full((1, 1, 1), x, dtype=torch.float64)) for x in (0.7, 1.4)]
    values = [math.exp(-float(density.negative_log_likelihood(cells, single)[0])) for cells in hits]
    assert values == pytest.approx([1 - math.exp(-0.74)] * 2)


def test_residuals_have_the_skewness_of_observed_hits(model):
    rng = np.random.default_rng(0)
    layers, cells = model.layout.layers, model.geometry.cells
    shape, plain = ResidualSkewness(layers, model.geometry), ResidualSkewness(layers, model.geometry)
    for _ in range(10):
        scores = torch.from_numpy(rng.gamma(49.0, size=(60, layers, cells)).astype(np.float32) / 7 - 7)
        shape.observe(scores, torch.ones_like(scores))
    shape.fit()
    noise = torch.from_numpy(rng.standard_normal((60, layers, cells)).astype(np.float32))
    assert torch.equal(plain(noise.clamp(-3, 3)), noise.clamp(-3, 3))
    made, want = shape(noise).numpy(), stats.gamma(49.0, scale=1 / 7, loc=-7)
    levels = [0.01, 0.1, 0.5, 0.9, 0.99]
    assert np.abs(np.quantile(made, levels) - want.ppf(levels)).max() < 0.05
    # normal numbers would be off by more
    assert np.abs(stats.norm.ppf(levels) - want.ppf(levels)).max() > 0.15


def test_energy_transform_is_invertible_and_makes_hits_normal():
    rng = np.random.default_rng(0)
    # an exponential with a peak, as single particles leave
    energies = np.concatenate([rng.exponential(0.33, 40_000), rng.normal(0.15, 0.04, 6_000)])
    energies = energies[energies > 1e-3].astype(np.float32)
    transform = EnergyTransform()
    transform.fit(energies)
    values = torch.from_numpy(energies)
    transformed = transform.transformed_energy(values)
    first = torch.zeros(len(transformed), dtype=torch.int64)
    error = (transform.energy(transformed[None], first)[0] / values - 1).abs()
    assert error[values > 0.01].max() < 0.03
    assert error[values > 0.1].mean() < 0.01
    assert abs(float(stats.skew(transformed.numpy()))) < 0.1
    assert abs(float(stats.kurtosis(transformed.numpy()))) < 0.2
    assert transform.transformed_energy(torch.zeros(3)).tolist() == [0, 0, 0]
    assert transform.energy(torch.zeros(1, 3), first[:3]).tolist() == [[0, 0, 0]]


def test_energies_are_rounded_as_single_operations_are():
    """Powers of the distance from a knot would cancel, with a rounding that differs between runtimes."""
    transform = EnergyTransform()
    transform.fit(np.random.default_rng(0).exponential(0.33, 20_000).astype(np.float32))
    transform.shift.copy_(0.1 * torch.sin(torch.linspace(0, 40, transform.shift.shape[2])))
    transform.fit_polynomials()
    loaded = EnergyTransform()
    loaded.load_state_dict(transform.state_dict())
    values = torch.linspace(transform.minimum, float(transform.knots[-1]), 500)
    low, high = (
        table.flatten().double().numpy() for table in (transform.low_polynomial, transform.high_polynomial)
    )
    distance = (values - transform.knots[SPLIT]).double().numpy()
    above = distance.clip(0)
    root = np.polynomial.polynomial.polyval(distance.clip(None, 0), low)
    root += above * np.polynomial.polynomial.polyval(above, high)
    want = float(transform.median_energy) * root**3
    got = loaded.energy(values[None], torch.zeros(500, dtype=torch.int64))[0]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-6)


def test_matching_of_quantiles_brings_the_spectrum_to_that_of_real_hits():
    rng = np.random.default_rng(1)
    real = np.concatenate([rng.exponential(0.33, 40_000), rng.normal(0.15, 0.03, 9_000)]).astype(np.float32)
    real = real[real > 1e-3]
    transform, radial_bin = EnergyTransform(radial_bins=2), torch.ones(len(real), dtype=torch.int64)
    transform.fit(real)
    normal = torch.from_numpy(rng.normal(0.15, 1.1, len(real)).astype(np.float32)) * 0.365
    transformed = (1.56 + normal).clamp_min(transform.minimum)

    def made(index):
        return transform.energy(transformed[None], index * radial_bin)[0]

    def distance(index):
        return stats.ks_2samp(made(index).numpy(), real).statistic

    before, wanted = distance(1), transform.transformed_energy(torch.from_numpy(real))
    for _ in range(30):
        # the first radial bin has too few hits
        transform.match_quantiles(
            [wanted[:5], transform.transformed_energy(made(1))], [wanted[:5], wanted], 0.3
        )
    assert before > 0.05
    assert distance(1) < 0.02
    assert distance(0) == before


# ---- layer features


def test_features_keep_sums_and_counts(model):
    rng = np.random.default_rng(0)
    showers = made_up_batch(model, 5).showers.numpy()
    row = layer_features(showers, np.full(5, 1e5, np.float32), model.geometry, 0.2, rng)
    rows = torch.from_numpy(row)
    assert np.allclose(model.layout.bin_energy(rows, 1e-3).sum((1, 2)), showers.sum((1, 2, 3)), rtol=1e-4)
    hits = model.layout.hit_counts(rows)
    assert (hits.sum(2).numpy() == (showers > 0).sum((2, 3))).all()
    assert np.allclose(np.exp(row[:, 0]) * 1e5, showers.sum((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(("cells", "inner"), [(9, 0.0), (8, 0.5)], ids=["odd", "even"])
def test_the_innermost_cells_count_at_their_distance_from_the_axis(cells, inner):
    """With an even number of cells none is on the axis: the inner four are half a cell away."""
    detector = load_detector("clic-ecal-25", (f"mesh.nx={cells}", f"mesh.ny={cells}"))
    geometry = layer_geometry(detector, RANGES, (0, 1, 2))
    showers = np.zeros((2, *detector.shower_shape), np.float32)
    # one shower in the innermost cell of positive x and y, one a cell further out
    for shower, step in zip(showers, (0, 1), strict=True):
        shower[:, cells // 2 + step, cells // 2 + step] = 1.0
    features = layer_features(showers, np.full(2, 1e5, np.float32), geometry, 0.2, np.random.default_rng(0))
    layout = FeatureLayout(len(showers[0]), 3)
    distance = np.hypot(*features[:, layout.position].T[:2])
    assert distance == pytest.approx([inner, 1.0])


class AtTheEdge:
    """Random numbers that are as large, or as small, as they can be."""

    def __init__(self, largest):
        self.largest = largest

    def normal(self, centre, _width, shape):
        return np.full(shape, centre)

    def uniform(self, low, high, shape):
        return np.full(shape, np.nextafter(high, low) if self.largest else low)


@pytest.mark.parametrize("largest", [False, True])
def test_dequantised_counts_survive_rounding(model, largest):
    """One hit more than a radial bin has cells would be a probability above one."""
    showers = np.ones((len(model.geometry.ring) + 1, *model.detector.shower_shape), np.float32)
    for number, shower in enumerate(showers):
        shower.reshape(len(shower), -1)[:, number:] = 0
    row = layer_features(
        showers, np.full(len(showers), 1e5, np.float32), model.geometry, 0.2, AtTheEdge(largest)
    )
    found = model.layout.hit_counts(torch.from_numpy(row)).numpy()
    assert (found == (showers.reshape(*showers.shape[:2], -1) > 0) @ model.geometry.bin_membership).all()


# ---- cell sampler


def test_radial_bins_have_their_energy_exactly(model, condition):
    cells = model.cell_sampler.draw(condition, cell_noise(model, 6))
    energy = model.cell_sampler.cell_energies(cells, condition)
    bins = energy @ model.cell_sampler.bin_membership
    assert torch.allclose(bins, condition.bin_energy, rtol=1e-4, atol=1e-5)
    assert ((energy > 0).sum(2) >= (condition.bin_energy > 0).sum(2)).all()


def test_radial_bins_have_their_hits_exactly(model, condition):
    cells = model.cell_sampler.draw(condition, cell_noise(model, 6))
    assert torch.equal(cells.hit_mask.detach() @ model.cell_sampler.bin_membership, condition.hit_counts)
    assert torch.equal(cells.hit_mask, (model.cell_sampler.cell_energies(cells, condition) > 0).float())


def corrections(coupling, cells, changed):
    """Where the couplings change with the cells."""
    pairs = zip(
        coupling(cells.hit_mask, cells.transformed_energy),
        coupling(changed.hit_mask, changed.transformed_energy),
        strict=True,
    )
    return sum((before - after).abs().sum(0) for before, after in pairs) > 0


@pytest.fixture
def changed_cell(model):
    torch.manual_seed(0)
    hits = (torch.rand(4, model.layout.layers, model.geometry.cells) < 0.3).float()
    cells = Cells(hits, hits * torch.randn(hits.shape))
    changed = Cells(hits.clone(), cells.transformed_energy.clone())
    changed.hit_mask[:, 3, model.geometry.cells // 2] = 1 - changed.hit_mask[:, 3, model.geometry.cells // 2]
    changed.transformed_energy[:, 3, model.geometry.cells // 2] += 1.0
    return cells, changed


def test_teacher_is_coupled_to_cells_before_only(model, changed_cell):
    """A change of one cell changes nothing before it, so the product of densities is one of all cells."""
    moved = corrections(model.cell_sampler.teacher, *changed_cell)
    cell = model.geometry.cells // 2
    assert not moved[:3].any() and not moved[4:].any()
    assert not moved[3, : cell + 1].any()
    assert moved[3, cell + 1] and moved[3, cell + model.geometry.columns]


def test_student_is_coupled_to_cells_on_every_side(model, changed_cell):
    moved = corrections(model.cell_sampler.student, *changed_cell)
    cell, row = model.geometry.cells // 2, model.geometry.columns
    assert not moved[3, cell]
    assert all(moved[3, cell + step] for step in (-row, -1, 1, row))


def test_mirrored_noise_makes_the_mirrored_shower(model, condition):
    """No average can tell left from right."""
    straight = CellCondition(
        condition.bin_energy,
        condition.hit_counts,
        torch.zeros_like(condition.position),
        condition.energy_argument,
    )
    noise = cell_noise(model, 6)
    shape = (6, model.layout.layers, model.geometry.rows, model.geometry.columns)
    for mirror in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT):
        images = tuple(mirror(x.view(shape)).flatten(2) for x in noise)
        one = mirror(model.cell_sampler.draw(straight, noise).transformed_energy.view(shape)).flatten(2)
        other = model.cell_sampler.draw(straight, images).transformed_energy
        # rounding may move a cell at the threshold
        assert ((one - other).abs() > 1e-3).float().mean() < 2e-3


def test_student_starts_with_the_symmetrised_kernel_of_the_teacher(model):
    sampler = model.cell_sampler
    sampler.start_student()
    kernels = [coupling.kernel()[0].detach().view(7, 7) for coupling in (sampler.teacher, sampler.student)]
    assert float(kernels[1].sum()) == pytest.approx(1.3 * float(kernels[0].sum()), rel=1e-5)
    # (the student's is larger, as its draw without couplings has fewer hits)
    assert torch.allclose(kernels[1], kernels[1].flip(0)) and torch.allclose(kernels[1], kernels[1].T)


def test_anisotropy_couples_more_along_the_direction_from_the_axis(model):
    student, geometry = model.cell_sampler.student, model.geometry
    assert geometry.rows == geometry.columns and geometry.rows % 2
    with torch.no_grad():
        student.anisotropy[0] = 0.5
        student.ring_anisotropy[0] = 0.0
        student.log_gain[0] = 0.0
        student.kernels[0] = 1.0
    middle, size = geometry.rows // 2, geometry.rows
    hits = torch.zeros(1, model.layout.layers, size, size)
    # east of the axis, and north-east of it
    hits[:, 0, middle, middle + 2] = hits[:, 1, middle + 2, middle + 2] = 1
    added = student(hits.flatten(2), torch.zeros_like(hits.flatten(2)))[0].detach().view_as(hits)[0]
    along, across = added[0, middle, middle + 1], added[0, middle + 1, middle + 2]
    assert float(along / across) == pytest.approx(3.0, rel=1e-5)
    along, across = added[1, middle + 1, middle + 1], added[1, middle + 1, middle + 3]
    assert float(along / across) == pytest.approx(3.0, rel=1e-5)
    assert float(added[1, middle + 2, middle + 1]) == pytest.approx(float(added[1, middle + 1, middle + 2]))


def test_hits_of_the_first_draw_stay_however_strong_the_coupling_is(model, condition):
    """What a hit adds to its neighbours comes beside it, not in its place."""
    sampler, noise = model.cell_sampler, cell_noise(model, 6)
    with torch.no_grad():
        sampler.student.kernels[0], sampler.student.log_gain[0] = 2.0, 2.0
        inverse_exponential = gumbel_from_normal(noise[0]).exp()
        first = heaviside(sampler.independent(condition).rate * inverse_exponential - 1)
        drawn = sampler.draw(condition, noise).hit_mask
    bins = first @ sampler.bin_membership
    room = (bins <= condition.hit_counts) & (bins > 0)
    # where no other cell is left to be hit, all stay in any case
    room &= condition.hit_counts < sampler.bin_membership.sum(0)
    assert room.sum() > 20
    lost = (first * (1 - drawn)) @ sampler.bin_membership
    assert not lost[room].any()


def test_weights_that_prefer_no_hits_still_load(model):
    """In models of earlier releases hits of the first draw are like others."""
    student = model.cell_sampler.student
    assert student.preference > 0
    state = student.state_dict()
    del state["preference"]
    student.load_state_dict(state)
    assert student.preference == 0


def test_offsets_are_legendre_polynomials_of_the_energy(model):
    student, shape = model.cell_sampler.student, (3, model.layout.layers, model.geometry.cells)
    nothing = torch.zeros(shape)
    flat = CellDensity(torch.full(shape, 0.5), nothing, nothing)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
        student.offsets[:, :, 4, 2] = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.0, 0.4], [0.0, 0.0, 0.2]])
        condition = CellCondition(nothing, nothing, nothing, torch.tensor([-1.0, 0.0, 1.0]))
        found = student.density(flat, nothing, nothing, condition)
    cell = np.flatnonzero(model.geometry.symmetry_class == 2)
    # 1, x and (3 x^2 - 1) / 2
    for values, want in (
        (torch.log(found.rate / 0.5), [-0.1, 0.1, 0.3]),
        (found.log_sigma, [0.2, -0.1, 0.2]),
        (found.mean / found.sigma(), [0.7, 0.1, 0.7]),
    ):
        for shower in range(3):
            assert values[shower, 4, cell].numpy() == pytest.approx(want[shower], abs=1e-6)
    others = np.flatnonzero(model.geometry.symmetry_class != 2)
    assert (found.mean[:, 4, others] == 0).all() and (found.mean[:, 3] == 0).all()


def test_a_position_shifts_cube_roots_in_proportion_to_the_energy_of_a_hit(model):
    independent, geometry = model.cell_sampler.independent, model.geometry
    shape = (2, model.layout.layers, model.layout.radial_bins)
    # 8 times the energy of a hit, twice its cube root
    energy = torch.tensor([1.0, 8.0])[:, None, None].expand(shape)
    condition = CellCondition(energy, torch.ones(shape), torch.zeros(2, 4), torch.zeros(2))
    aside = CellCondition(energy, torch.ones(shape), torch.tensor([[0.3, 0, 0, 0]] * 2), torch.zeros(2))
    with torch.no_grad():
        independent.position_coefficients.zero_()
        independent.scaled_position_coefficients[0] = 0.1
        independent.scaled_position_coefficients[1] = 0.0
        shift = independent(aside).mean - independent(condition).mean
        rates = independent(aside).rate - independent(condition).rate
    assert torch.allclose(shift[1], 2 * shift[0], atol=1e-5)
    along = torch.from_numpy(geometry.direction[0])
    want = 0.1 * PARAMETER_SCALE * 0.3 * along / independent.energy_transform.median_energy ** (1 / 3)
    assert torch.allclose(shift[0, 3], want, atol=1e-5)
    assert (rates == 0).all()


def test_a_common_shift_of_energies_leaves_the_room_of_the_others():
    transform = EnergyTransform()
    wave = 0.12 * torch.sin(torch.linspace(0, 6.2832, transform.shift.shape[2]))
    transform.shift.copy_(0.4 + wave)
    transform.match_quantiles([torch.zeros(0)], [torch.zeros(0)], 0.03)
    assert float(transform.shift.mean()) == pytest.approx(LARGEST_SHIFT, abs=1e-3)
    assert torch.allclose(transform.shift - transform.shift.mean(), wave - wave.mean(), atol=1e-4)


def test_passes_of_the_teacher_converge(model, condition):
    """But for single cells at the threshold, as each pass draws the hits of a bin anew."""
    noise = cell_noise(model, 6)
    with torch.no_grad():
        model.cell_sampler.teacher.kernels.add_(1.0)
        draws = [
            model.cell_sampler.draw_by_teacher(condition, noise, n).transformed_energy for n in (0, 2, 8, 40)
        ]
    changes = [float((one - draws[-1]).abs().mean()) for one in draws]
    assert changes[0] > 5 * changes[2]
    assert changes[0] > changes[1]


def test_pair_products_are_summed_by_displacement(model):
    student, geometry = model.cell_sampler.student, model.geometry
    field = torch.randn(3, 2, geometry.cells, generator=torch.Generator().manual_seed(0))
    grid = field.view(3, 2, geometry.rows, geometry.columns)
    sums = [(grid[..., :-1] * grid[..., 1:]).sum(), (grid[..., :-1, :] * grid[..., 1:, :]).sum()]
    pairs, _, _ = student.pair_products(field)
    beside = student.kernel_class[0, 24 + 1]
    assert float(pairs[beside]) == pytest.approx(float(sum(sums)) / field.numel(), rel=1e-4)
    # every displacement of the kernel once, without the cell itself
    ones = student.pair_products(torch.ones(1, 1, geometry.cells))[0]
    counts = sum(
        (geometry.rows - abs(y)) * (geometry.columns - abs(x)) for y in range(-3, 4) for x in range(-3, 4)
    )
    assert float(ones.sum()) * geometry.cells == pytest.approx((counts - geometry.cells) / 2, rel=1e-5)
    # east of the axis pairs along that direction count with 1, pairs across it with -1
    middle = geometry.rows // 2
    for axis, sign in ((1, 1), (0, -1)):
        pair = torch.zeros(geometry.rows, geometry.columns)
        pair[middle, middle + 1] = pair[middle + 1 - axis, middle + 1 + axis] = 1
        _, anisotropy, ring_anisotropy = student.pair_products(pair.view(1, 1, -1))
        assert float(anisotropy[beside]) == pytest.approx(sign / geometry.cells)
        assert float(ring_anisotropy[1]) == pytest.approx(sign / geometry.cells)


# ---- training


def test_phases_follow_each_other_and_the_likelihood_improves(make_model):
    model = fit_to_made_up(
        make_model("debug", overrides=MESH, family="layered", likelihood_steps=30, matching_steps=4)
    )
    batch = made_up_batch(model, 16)
    optimizers = {n: torch.optim.Adam(p.parameters(), lr=5e-3) for n, p in model.optimized().items()}
    seen, losses = [], []
    torch.manual_seed(0)
    for _ in range(34):
        for phase in model.step(batch):
            optimizers[phase.optimizer].zero_grad()
            phase.loss.backward()
            optimizers[phase.optimizer].step()
            seen.append(phase.optimizer)
            losses.append(float(phase.logs.get("cells_nll", 0)))
    assert seen == ["teacher"] * 30 + ["student"] * 4
    assert losses[29] < 0.95 * losses[0]
    assert int(model.steps) == 34


def test_rates_fall_within_a_phase(make_model):
    model = make_model("debug", family="layered", likelihood_steps=10, matching_steps=10)
    first = model.rate("teacher")
    model.steps += 10
    assert first == 1.0
    assert model.rate("teacher") == pytest.approx(0.02)
    assert model.rate("student") == 1.0
    model.steps += 10
    assert model.rate("student") == pytest.approx(0.02)


def test_radial_bins_must_rise(make_model):
    with pytest.raises(Exception, match="rise from 0"):
        make_model("debug", family="layered", radial_bins=(0, 3, 2))


def test_old_names_of_settings_are_accepted():
    old = read_model_config({"family": "layered", "preset": "debug", "zones": (0, 2), "donors": 64}, "model")
    assert old.radial_bins == (0, 2)
    assert old.stored_showers == 64
    both = {"family": "layered", "zones": (0, 2), "radial_bins": (0, 2)}
    with pytest.raises(ConfigError, match="old name of radial_bins"):
        read_model_config(both, "model")
