"""The layered family: its density, its second stage and its training keep their promises."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from caloforge.geometry import load_detector
from caloforge.models.layered.constants import CHOICES
from caloforge.models.layered.density import CellDensity, Cells, Given, gumbel_of_normal
from caloforge.models.layered.shape import HitShape
from caloforge.models.layered.spectrum import HitSpectrum
from caloforge.models.layered.summary import summarise
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
        for parameter in model.cell_stage.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def given(model):
    condition = made_up_batch(model, 6).condition
    noise = torch.randn((6, CHOICES), generator=torch.Generator().manual_seed(0))
    return model.draw_layers(condition, noise)


def cell_noise(model, count, seed=1):
    shape, generator = (count, model.layout.layers, model.plane.cells), torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def cells_of(coordinate):
    return Cells((coordinate > 0).to(coordinate.dtype), coordinate)


# ---- density


def test_gumbel_number_of_a_normal_one():
    score = np.linspace(-4.5, 4.5, 91)
    error = np.abs(
        gumbel_of_normal(torch.from_numpy(score)).numpy() - stats.gumbel_r.ppf(stats.norm.cdf(score))
    )
    assert error.max() < 0.003


def density_of(number, mean, width, count=1):
    return CellDensity(*(torch.full((count, 1, 1), x, dtype=torch.float64) for x in (number, mean, width)))


def test_a_cell_is_hit_as_often_as_its_number_says():
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    for number in (0.003, 0.3, 2.0):
        hits = (number * gumbel_of_normal(x).exp() > 1).double().mean()
        want = 1 - math.exp(-number)
        assert float(hits) == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / len(x)))


@pytest.mark.parametrize("together", [2, 5, 1000])
def test_density_integrates_to_one(together):
    density = density_of(0.74, 1.4, -1.1)
    grid = torch.linspace(-3, 6, 9001, dtype=torch.float64)
    step = float(grid[1] - grid[0])
    hits = torch.full((1, 1, 1), float(together), dtype=torch.float64)
    # coordinates of hits are positive; what lies below 0 belongs to no real hit
    kept = grid[grid > 0]
    chances = torch.tensor(
        [math.exp(-float(density.negative_log_likelihood(cells_of(x.view(1, 1, 1)), hits)[0])) for x in kept]
    )
    empty = cells_of(torch.zeros(1, 1, 1, dtype=torch.float64))
    none = math.exp(-float(density.negative_log_likelihood(empty, hits)[0]))
    assert none + float(chances.sum()) * step == pytest.approx(1.0, abs=1e-3)
    # those that make a known sum vary less
    mean = float((chances * kept).sum() / chances.sum())
    variance = float((chances * (kept - mean) ** 2).sum() / chances.sum())
    assert variance == pytest.approx(math.exp(-2.2) * (together - 1) / together, rel=1e-2)


def test_the_energy_of_a_single_hit_teaches_nothing():
    density, alone = density_of(0.74, 1.4, -1.1), torch.ones(1, 1, 1, dtype=torch.float64)
    hits = [cells_of(torch.full((1, 1, 1), x, dtype=torch.float64)) for x in (0.7, 1.4)]
    values = [math.exp(-float(density.negative_log_likelihood(cells, alone)[0])) for cells in hits]
    assert values == pytest.approx([1 - math.exp(-0.74)] * 2)


def test_shape_of_hits_takes_their_skewness_over(model):
    rng = np.random.default_rng(0)
    layers, cells = model.layout.layers, model.plane.cells
    shape, plain = HitShape(layers, model.plane), HitShape(layers, model.plane)
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


def test_spectrum_is_invertible_and_makes_hits_normal():
    rng = np.random.default_rng(0)
    # an exponential with a peak, as single particles leave
    energies = np.concatenate([rng.exponential(0.33, 40_000), rng.normal(0.15, 0.04, 6_000)])
    energies = energies[energies > 1e-3].astype(np.float32)
    spectrum = HitSpectrum()
    spectrum.fit(energies)
    values = torch.from_numpy(energies)
    coordinate = spectrum.coordinate(values)
    first = torch.zeros(len(coordinate), dtype=torch.int64)
    error = (spectrum.energy(coordinate[None], first)[0] / values - 1).abs()
    assert error[values > 0.01].max() < 0.03
    assert error[values > 0.1].mean() < 0.01
    assert abs(float(stats.skew(coordinate.numpy()))) < 0.1
    assert abs(float(stats.kurtosis(coordinate.numpy()))) < 0.2
    assert spectrum.coordinate(torch.zeros(3)).tolist() == [0, 0, 0]
    assert spectrum.energy(torch.zeros(1, 3), first[:3]).tolist() == [[0, 0, 0]]


def test_spectrum_bends_until_hits_are_as_real_ones():
    rng = np.random.default_rng(1)
    real = np.concatenate([rng.exponential(0.33, 40_000), rng.normal(0.15, 0.03, 9_000)]).astype(np.float32)
    real = real[real > 1e-3]
    spectrum, zone = HitSpectrum(zones=2), torch.ones(len(real), dtype=torch.int64)
    spectrum.fit(real)
    normal = torch.from_numpy(rng.normal(0.15, 1.1, len(real)).astype(np.float32)) * 0.365
    coordinates = (1.56 + normal).clamp_min(spectrum.smallest)

    def made(index):
        return spectrum.energy(coordinates[None], index * zone)[0]

    def distance(index):
        return stats.ks_2samp(made(index).numpy(), real).statistic

    before, wanted = distance(1), spectrum.coordinate(torch.from_numpy(real))
    for _ in range(30):
        # the first zone has nothing to learn from
        spectrum.bend([wanted[:5], spectrum.coordinate(made(1))], [wanted[:5], wanted], 0.3)
    assert before > 0.05
    assert distance(1) < 0.02
    assert distance(0) == before


# ---- summary


def test_summary_counts_and_sums(model):
    rng = np.random.default_rng(0)
    showers = made_up_batch(model, 5).showers.numpy()
    row = summarise(showers, np.full(5, 1e5, np.float32), model.plane, 0.2, rng)
    rows = torch.from_numpy(row)
    assert np.allclose(model.layout.zone_energy(rows, 1e-3).sum((1, 2)), showers.sum((1, 2, 3)), rtol=1e-4)
    hits = model.layout.zone_hits(rows)
    assert (hits.sum(2).numpy() == (showers > 0).sum((2, 3))).all()
    assert np.allclose(np.exp(row[:, 0]) * 1e5, showers.sum((1, 2, 3)), rtol=1e-4)


class AtTheEdge:
    """Random numbers that are as large, or as small, as they can be."""

    def __init__(self, largest):
        self.largest = largest

    def normal(self, centre, _width, shape):
        return np.full(shape, centre)

    def uniform(self, low, high, shape):
        return np.full(shape, np.nextafter(high, low) if self.largest else low)


@pytest.mark.parametrize("largest", [False, True])
def test_whole_numbers_of_a_summary_survive_rounding(model, largest):
    """One hit more than a zone has cells would be a probability above one."""
    showers = np.ones((len(model.plane.ring) + 1, *model.detector.shower_shape), np.float32)
    for number, shower in enumerate(showers):
        shower.reshape(len(shower), -1)[:, number:] = 0
    row = summarise(showers, np.full(len(showers), 1e5, np.float32), model.plane, 0.2, AtTheEdge(largest))
    found = model.layout.zone_hits(torch.from_numpy(row)).numpy()
    assert (found == (showers.reshape(*showers.shape[:2], -1) > 0) @ model.plane.members).all()


# ---- second stage


def test_zones_have_their_energy_exactly(model, given):
    cells = model.cell_stage.draw(given, cell_noise(model, 6))
    energy = model.cell_stage.showers(cells, given)
    zones = energy @ model.cell_stage.member
    assert torch.allclose(zones, given.zone_energy, rtol=1e-4, atol=1e-5)
    assert ((energy > 0).sum(2) >= (given.zone_energy > 0).sum(2)).all()


def test_zones_have_their_hits_exactly(model, given):
    cells = model.cell_stage.draw(given, cell_noise(model, 6))
    assert torch.equal(cells.hits.detach() @ model.cell_stage.member, given.hits)
    assert torch.equal(cells.hits, (model.cell_stage.showers(cells, given) > 0).float())


def corrections(context, cells, changed):
    """Where the corrections change with the cells."""
    pairs = zip(context(cells.hits, cells.coordinate), context(changed.hits, changed.coordinate), strict=True)
    return sum((before - after).abs().sum(0) for before, after in pairs) > 0


@pytest.fixture
def changed_cell(model):
    torch.manual_seed(0)
    hits = (torch.rand(4, model.layout.layers, model.plane.cells) < 0.3).float()
    cells = Cells(hits, hits * torch.randn(hits.shape))
    changed = Cells(hits.clone(), cells.coordinate.clone())
    changed.hits[:, 3, model.plane.cells // 2] = 1 - changed.hits[:, 3, model.plane.cells // 2]
    changed.coordinate[:, 3, model.plane.cells // 2] += 1.0
    return cells, changed


def test_teacher_sees_only_cells_before(model, changed_cell):
    """A change of one cell moves nothing before it: the density of all cells is a proper one."""
    moved = corrections(model.cell_stage.teacher, *changed_cell)
    cell = model.plane.cells // 2
    assert not moved[:3].any() and not moved[4:].any()
    assert not moved[3, : cell + 1].any()
    assert moved[3, cell + 1] and moved[3, cell + model.plane.columns]


def test_student_sees_cells_on_every_side(model, changed_cell):
    moved = corrections(model.cell_stage.student, *changed_cell)
    cell, row = model.plane.cells // 2, model.plane.columns
    assert not moved[3, cell]
    assert all(moved[3, cell + step] for step in (-row, -1, 1, row))


def test_images_of_cells_are_drawn_alike(model, given):
    """Mirrored noise makes the mirrored shower: no average can tell left from right."""
    straight = Given(given.zone_energy, given.hits, torch.zeros_like(given.transverse), given.argument)
    noise = cell_noise(model, 6)
    shape = (6, model.layout.layers, model.plane.rows, model.plane.columns)
    for mirror in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT):
        images = tuple(mirror(x.view(shape)).flatten(2) for x in noise)
        one = mirror(model.cell_stage.draw(straight, noise).coordinate.view(shape)).flatten(2)
        other = model.cell_stage.draw(straight, images).coordinate
        # rounding may move a cell at the threshold
        assert ((one - other).abs() > 1e-3).float().mean() < 2e-3


def test_a_graduate_says_of_pairs_what_its_teacher_said(model):
    stage = model.cell_stage
    stage.graduate()
    kernels = [context.kernel()[0].detach().view(7, 7) for context in (stage.teacher, stage.student)]
    assert float(kernels[1].sum()) == pytest.approx(1.3 * float(kernels[0].sum()), rel=1e-5)
    # (the student's is larger, for hits that are there only with neighbours)
    assert torch.allclose(kernels[1], kernels[1].flip(0)) and torch.allclose(kernels[1], kernels[1].T)


def test_hits_say_more_along_the_direction_from_the_axis(model):
    student, plane = model.cell_stage.student, model.plane
    assert plane.rows == plane.columns and plane.rows % 2
    with torch.no_grad():
        student.turned[0] = 0.5
        student.turning[0] = 0.0
        student.amplitude[0] = 0.0
        student.kernels[0] = 1.0
    middle, size = plane.rows // 2, plane.rows
    hits = torch.zeros(1, model.layout.layers, size, size)
    # east of the axis, and north-east of it
    hits[:, 0, middle, middle + 2] = hits[:, 1, middle + 2, middle + 2] = 1
    added = student(hits.flatten(2), torch.zeros_like(hits.flatten(2)))[0].detach().view_as(hits)[0]
    along, across = added[0, middle, middle + 1], added[0, middle + 1, middle + 2]
    assert float(along / across) == pytest.approx(3.0, rel=1e-5)
    along, across = added[1, middle + 1, middle + 1], added[1, middle + 1, middle + 3]
    assert float(along / across) == pytest.approx(3.0, rel=1e-5)
    assert float(added[1, middle + 2, middle + 1]) == pytest.approx(float(added[1, middle + 1, middle + 2]))


def test_levels_go_with_the_energy(model):
    student, shape = model.cell_stage.student, (3, model.layout.layers, model.plane.cells)
    nothing = torch.zeros(shape)
    flat = CellDensity(torch.full(shape, 0.5), nothing, nothing)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
        student.level[:, :, 4, 2] = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.0, 0.4], [0.0, 0.0, 0.2]])
        found = student.density(flat, nothing, nothing, torch.tensor([-1.0, 0.0, 1.0]))
    cell = np.flatnonzero(model.plane.orbit == 2)
    # 1, x and (3 x^2 - 1) / 2
    for values, want in (
        (torch.log(found.number / 0.5), [-0.1, 0.1, 0.3]),
        (found.width, [0.2, -0.1, 0.2]),
        (found.mean / found.deviation(), [0.7, 0.1, 0.7]),
    ):
        for shower in range(3):
            assert values[shower, 4, cell].numpy() == pytest.approx(want[shower], abs=1e-6)
    others = np.flatnonzero(model.plane.orbit != 2)
    assert (found.mean[:, 4, others] == 0).all() and (found.mean[:, 3] == 0).all()


def test_passes_of_the_teacher_come_to_rest(model, given):
    """But for single cells at the threshold, whose zones are counted anew in every pass."""
    noise = cell_noise(model, 6)
    with torch.no_grad():
        model.cell_stage.teacher.kernels.add_(1.0)
        draws = [model.cell_stage.draw_by_teacher(given, noise, n).coordinate for n in (0, 2, 8, 40)]
    changes = [float((one - draws[-1]).abs().mean()) for one in draws]
    assert changes[0] > 5 * changes[2]
    assert changes[0] > changes[1]


def test_pairs_of_hits_are_counted_by_their_displacement(model):
    student, plane = model.cell_stage.student, model.plane
    field = torch.randn(3, 2, plane.cells, generator=torch.Generator().manual_seed(0))
    grid = field.view(3, 2, plane.rows, plane.columns)
    sums = [(grid[..., :-1] * grid[..., 1:]).sum(), (grid[..., :-1, :] * grid[..., 1:, :]).sum()]
    pairs, _, _ = student.pairs(field)
    beside = student.place[24 + 1]
    assert float(pairs[beside]) == pytest.approx(float(sum(sums)) / field.numel(), rel=1e-4)
    # every displacement of the kernel once, but for the cell itself
    ones = student.pairs(torch.ones(1, 1, plane.cells))[0]
    counts = sum((plane.rows - abs(y)) * (plane.columns - abs(x)) for y in range(-3, 4) for x in range(-3, 4))
    assert float(ones.sum()) * plane.cells == pytest.approx((counts - plane.cells) / 2, rel=1e-5)
    # east of the axis pairs that lie east of each other count in full, those that lie across it are taken off
    middle = plane.rows // 2
    for axis, sign in ((1, 1), (0, -1)):
        pair = torch.zeros(plane.rows, plane.columns)
        pair[middle, middle + 1] = pair[middle + 1 - axis, middle + 1 + axis] = 1
        _, turned, turning = student.pairs(pair.view(1, 1, -1))
        assert float(turned[beside]) == pytest.approx(sign / plane.cells)
        assert float(turning[1]) == pytest.approx(sign / plane.cells)


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


def test_zones_must_rise(make_model):
    with pytest.raises(Exception, match="rise from 0"):
        make_model("debug", family="layered", zones=(0, 3, 2))
