"""The layered family: each stage keeps its promises, checked against numbers that are not its own."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from caloforge.models.base import Condition
from caloforge.models.facts import TrainedRange
from caloforge.models.layered.density import CellDensity, normal_of_exponential, step
from caloforge.models.layered.layers import LayerStage
from caloforge.models.layered.model import matching
from caloforge.models.layered.spectrum import HitSpectrum
from caloforge.models.layered.summary import summarise
from caloforge.testing.model_contract import fit_to_made_up, made_up_batch

MESH = ("mesh.nx=9", "mesh.ny=9")
RANGES = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))


def electrons(energy):
    energy = torch.as_tensor(energy, dtype=torch.float32)
    return Condition(
        energy,
        torch.full_like(energy, math.pi / 2),
        torch.zeros_like(energy),
        torch.full(energy.shape, 11, dtype=torch.int32),
    )


@pytest.fixture
def model(make_model):
    # weights as after a training: nothing is zero
    model = fit_to_made_up(make_model("debug", overrides=MESH, family="layered"))
    with torch.no_grad():
        torch.manual_seed(3)
        for parameter in model.cell_stage.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def given(model):
    condition = electrons(torch.linspace(2e4, 4e5, 6))
    noise = torch.randn((6, model.layout.size), generator=torch.Generator().manual_seed(0))
    return model.draw_layers(condition, noise)


def cell_noise(model, count, seed=1):
    shape = (count, model.layout.layers, model.plane.cells)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- density


def test_normal_number_of_an_exponential_one():
    score = np.linspace(-3, 3, 61)
    exponential = torch.from_numpy(-stats.norm.logsf(score))
    assert np.abs(normal_of_exponential(exponential).numpy() - score).max() < 0.011


def test_density_integrates_to_one():
    density = CellDensity(*(torch.full((1, 1, 1), x, dtype=torch.float64) for x in (-0.3, 1.4, -1.1)))
    grid = torch.linspace(-3, 6, 9001, dtype=torch.float64)
    step = float(grid[1] - grid[0])
    # coordinates of hits are positive; what lies below 0 belongs to no real hit
    hits = sum(math.exp(-float(density.negative_log_likelihood(x.view(1, 1, 1))[0])) for x in grid if x > 0)
    none = math.exp(-float(density.negative_log_likelihood(torch.zeros(1, 1, 1, dtype=torch.float64))[0]))
    assert none + hits * step == pytest.approx(1.0, abs=1e-3)


def test_divergence_is_the_mean_of_the_log_ratio():
    torch.manual_seed(0)
    one, two = (
        CellDensity(*(torch.tensor(x, dtype=torch.float64).view(1, 1, 1) for x in numbers))
        for numbers in ((-0.2, 1.5, -1.2), (0.1, 1.4, -1.0))
    )
    n = 200_000
    hit = torch.rand(n) < float(one.hit_probability())
    x = torch.where(hit, (1.5 + math.exp(-1.2) * torch.randn(n)), 0.0).double().view(n, 1, 1)
    wide = [CellDensity(*(p.expand(n, 1, 1) for p in (d.rate, d.mean, d.width))) for d in (one, two)]
    ratio = wide[1].negative_log_likelihood(x) - wide[0].negative_log_likelihood(x)
    error = float(ratio.std()) / math.sqrt(n)
    assert float(two.divergence_from(one)) == pytest.approx(float(ratio.mean()), abs=4 * error)


def test_spectrum_is_invertible_and_makes_hits_normal():
    rng = np.random.default_rng(0)
    # an exponential with a peak, as single particles leave
    energies = np.concatenate([rng.exponential(0.33, 40_000), rng.normal(0.15, 0.04, 6_000)])
    energies = energies[energies > 1e-3].astype(np.float32)
    spectrum = HitSpectrum()
    spectrum.fit(energies)
    values = torch.from_numpy(energies)
    coordinate = spectrum.coordinate(values)
    error = (spectrum.energy(coordinate) / values - 1).abs()
    assert error[values > 0.01].max() < 0.03
    assert error[values > 0.1].mean() < 0.01
    assert abs(float(stats.skew(coordinate.numpy()))) < 0.1
    assert abs(float(stats.kurtosis(coordinate.numpy()))) < 0.2
    assert spectrum.coordinate(torch.zeros(3)).tolist() == [0, 0, 0]
    assert spectrum.energy(torch.zeros(3)).tolist() == [0, 0, 0]


# ---- first stage


def test_first_stage_keeps_means_widths_and_correlations():
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
    stage = LayerStage(3, RANGES)
    stage.fit(truth, electrons(energy))
    condition = electrons(energy)
    scores = stage.normal_scores(torch.from_numpy(truth), condition)
    assert torch.allclose(stage.summary(scores, condition), torch.from_numpy(truth), rtol=1e-3, atol=0.02)
    noise = torch.randn((n, 3), generator=torch.Generator().manual_seed(2))
    drawn = stage.summary(stage.from_noise(noise), condition).numpy()
    for low, high in ((1e4, 1.5e5), (1.5e5, 3e5), (3e5, 5e5)):
        rows = (energy > low) & (energy < high)
        error = truth[rows].std(0) * math.sqrt(2 / rows.sum())
        assert (np.abs(drawn[rows].mean(0) - truth[rows].mean(0)) < 4 * error).all()
        ratio = drawn[rows].std(0) / truth[rows].std(0)
        assert np.abs(ratio - 1).max() < 0.08
    want, got = (np.corrcoef(stats.rankdata(x, axis=0).T) for x in (truth, drawn))
    assert np.abs(want - got).max() < 0.05


def test_first_stage_goes_beyond_the_trained_range_without_surprise():
    rng = np.random.default_rng(4)
    energy = rng.uniform(1e4, 5e5, 2000)
    truth = (np.log(energy)[:, None] + 0.1 * rng.standard_normal((2000, 2))).astype(np.float32)
    stage = LayerStage(2, RANGES)
    stage.fit(truth, electrons(energy))
    drawn = stage.summary(torch.zeros(2, 2), electrons([8e3, 6e5]))
    assert torch.allclose(drawn[:, 0], torch.log(torch.tensor([8e3, 6e5])), atol=0.2)


def test_summary_counts_and_sums(model):
    rng = np.random.default_rng(0)
    showers = made_up_batch(model, 5).showers.numpy()
    row = summarise(showers, np.full(5, 1e5, np.float32), model.plane, 0.2, rng)
    rows = torch.from_numpy(row)
    assert np.allclose(model.layout.zone_energy(rows, 1e-3).sum((1, 2)), showers.sum((1, 2, 3)), rtol=1e-4)
    hits = model.layout.zone_hits(rows)
    assert (hits.sum(2).numpy() == (showers > 0).sum((2, 3))).all()
    assert np.allclose(np.exp(row[:, 0]) * 1e5, showers.sum((1, 2, 3)), rtol=1e-4)


# ---- second stage


def test_zones_have_their_energy_exactly(model, given):
    coordinate = model.cell_stage.draw(given, cell_noise(model, 6))
    energy = model.cell_stage.showers(coordinate, given)
    zones = energy @ model.cell_stage.member
    assert torch.allclose(zones, given.zone_energy, rtol=1e-4, atol=1e-5)
    assert ((energy > 0).sum(2) >= (given.zone_energy > 0).sum(2)).all()


def test_zones_have_about_their_hits(model, given):
    """The shift of the log odds brings the counts near what was asked for; by chance they would be far."""
    stage, noise = model.cell_stage, cell_noise(model, 6)
    counts = step(stage.draw(given, noise)) @ stage.member
    chance = (stage.alone(given).hit_probability() - torch.rand(noise.shape) > 0).float() @ stage.member
    errors = [(x - given.hits).abs().mean().item() for x in (counts.detach(), chance.detach())]
    assert errors[0] < 0.6 * errors[1]
    assert ((counts > 0) >= (given.hits > 0)).all()


def test_teacher_sees_only_cells_before(model, given):
    """A change of one cell moves nothing before it: the density of all cells is a proper one."""
    coordinate = model.cell_stage.draw(given, cell_noise(model, 6)).detach()
    layer, cell = 3, model.plane.cells // 2
    changed = coordinate.clone()
    changed[:, layer, cell] += 1.0
    before, after = (model.cell_stage.teacher(x, given.condition).rate for x in (coordinate, changed))
    moved = (before - after).abs().sum(0) > 0
    assert not moved[:layer].any()
    assert not moved[layer, : cell + 1].any()
    assert moved[layer, cell + 1]
    assert moved[layer + 1].any()


def test_student_sees_cells_on_every_side(model, given):
    coordinate = model.cell_stage.draw(given, cell_noise(model, 6)).detach()
    changed = coordinate.clone()
    changed[:, 3, model.plane.cells // 2] += 1.0
    before, after = (model.cell_stage.student(x, given.condition).rate for x in (coordinate, changed))
    moved = (before - after).abs().sum(0) > 0
    assert moved[2].any() and moved[4].any() and not moved[3, model.plane.cells // 2]


def test_passes_of_the_teacher_come_to_rest(model, given):
    """But for single cells at the threshold, whose zones are counted anew in every pass."""
    noise = cell_noise(model, 6)
    with torch.no_grad():
        model.cell_stage.teacher.out.add_(0.3)
        draws = [model.cell_stage.draw_by_teacher(given, noise, passes) for passes in (0, 2, 8, 40)]
    changes = [float((one - draws[-1]).abs().mean()) for one in draws]
    assert changes[0] > 10 * changes[2]
    assert changes[0] > changes[1]


def test_matching_is_unbiased():
    torch.manual_seed(0)
    values = [float(matching(torch.randn(16, 50), torch.randn(16, 50))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    shifted = [float(matching(torch.randn(16, 50), 0.5 + torch.randn(16, 50))) for _ in range(400)]
    assert np.mean(shifted) == pytest.approx(0.25, abs=4 * np.std(shifted) / 20)


# ---- training


def test_phases_follow_each_other_and_the_likelihood_improves(make_model):
    model = fit_to_made_up(
        make_model("debug", overrides=MESH, family="layered", likelihood_steps=30, lesson_steps=2)
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
    assert seen == ["teacher"] * 30 + ["student"] * 2 + ["critic", "student"] * 2
    assert losses[29] < 0.95 * losses[0]
    # the student began as the teacher, blind where the teacher is
    assert int(model.steps) == 34


def test_rates_fall_within_a_phase(make_model):
    model = make_model("debug", family="layered", likelihood_steps=10, lesson_steps=10)
    first = model.rate("teacher")
    model.steps += 10
    assert first == 1.0
    assert model.rate("teacher") == pytest.approx(0.02)
    assert model.rate("student") == 1.0
    model.steps += 10
    assert model.rate("student") == pytest.approx(0.1)


def test_zones_must_rise(make_model):
    with pytest.raises(Exception, match="rise from 0"):
        make_model("debug", family="layered", zones=(0, 3, 2))
