"""The parts of a training on their own."""

import json
import math

import numpy as np
import pytest
import torch
from toy import DETECTOR, make_showers

from caloforge.config import build
from caloforge.errors import ConfigError, MissingDependencyError
from caloforge.geometry import load_detector
from caloforge.models.base import TrainingBatch
from caloforge.models.layered.model import Layered
from caloforge.models.symmetries import Symmetry, symmetries
from caloforge.models.training_metadata import TrainedRange
from caloforge.observables import measured_angle
from caloforge.training.augment import augment
from caloforge.training.config import OptimizerConfig
from caloforge.training.loop import train_model
from caloforge.training.optimizers import (
    build_optimizers,
    ema_weights,
    learning_rate,
    make_ema,
    update_ema,
)
from caloforge.training.precision import choose_precision
from caloforge.training.preflight import try_step

HALF = math.pi / 2


def ranges(theta=(HALF, HALF), phi=(0.0, 0.0), **impacts):
    return TrainedRange(energy=(1e3, 1e4), theta=theta, phi=phi, pdg_ids=(11,), **impacts)


@pytest.mark.parametrize(
    ("detector", "theta", "phi", "count"),
    [
        ("clic-ecal-25", (HALF, HALF), (0, 0), 8),
        ("clic-ecal-25", (HALF - 0.5, HALF + 0.5), (0, 0), 4),
        ("clic-ecal-25", (1.0, HALF), (0, 0), 2),
        ("clic-ecal-25", (1.0, HALF), (0, 0.2), 1),
        ("clic-ecal-25", (HALF, HALF), (-0.2, 0.2), 4),
        ("par04-siw", (HALF, HALF), (0, 0), 2),
        ("par04-siw", (1.0, 2.0), (0, 0), 1),
    ],
)
def test_how_many_symmetries(detector, theta, phi, count):
    group = symmetries(load_detector(detector), ranges(theta, phi))
    assert len(set(group)) == count
    assert group[0] == Symmetry()


def test_rectangular_cells_cannot_be_swapped():
    detector = load_detector("clic-ecal-25", ("mesh.cell_x=4 mm",))
    assert len(symmetries(detector, ranges())) == 4


def test_impact_points_on_one_side_break_the_symmetries():
    detector = load_detector("clic-ecal-25")
    count = [
        len(symmetries(detector, ranges(impact_x=x, impact_y=y)))
        for x, y in (((0, 1), (0, 0)), ((-1, 1), (0, 0)), ((-1, 1), (-1, 1)), ((0, 1), (0, 1)))
    ]
    # y alone; x and y; all; the exchange alone
    assert count == [2, 4, 8, 2]


def test_the_eight_images_are_different_and_keep_the_energy():
    detector = load_detector(DETECTOR)
    batch = make_showers(1)
    batch.showers[:] = np.random.default_rng(0).exponential(1, batch.showers.shape)
    group = symmetries(detector, ranges())
    many = batch[np.zeros(400, int)]
    images = augment(many, detector, group, np.random.default_rng(1))
    distinct, counts = np.unique(images.showers.reshape(400, -1), axis=0, return_counts=True)
    assert len(distinct) == 8
    assert counts.min() > 25
    assert np.allclose(np.sort(distinct, axis=1), np.sort(distinct[0]))
    # the depth of every deposit stays
    assert np.allclose(images.showers.sum(axis=(2, 3)), batch.showers.sum(axis=(2, 3)), rtol=1e-5)


def test_the_angle_moves_with_the_shower():
    detector = load_detector(DETECTOR)
    batch = make_showers(300)
    # lean each shower by its angle: y = z / tan(theta) in cells
    rng = np.random.default_rng(3)
    theta = rng.uniform(HALF - 0.6, HALF + 0.6, 300).astype(np.float32)
    z, y, x = np.meshgrid(np.arange(6) - 2.5, np.arange(8) - 3.5, np.arange(8) - 3.5, indexing="ij")
    lean = (z / np.tan(theta)[:, None, None, None]) - y
    batch.showers = np.exp(-(lean**2) - x**2).astype(np.float32)
    batch.incident_theta = theta
    group = symmetries(detector, ranges(theta=(HALF - 0.6, HALF + 0.6)))
    moved = augment(batch, detector, group, np.random.default_rng(4))
    flipped = moved.incident_theta != theta
    assert 100 < flipped.sum() < 200
    measured = measured_angle(moved.showers)
    assert np.abs(measured - moved.incident_theta).max() < 0.15
    assert np.abs(measured[flipped] - theta[flipped]).max() > 0.5


def test_the_impact_point_moves_with_the_shower():
    detector = load_detector(DETECTOR)
    batch = make_showers(400)
    rng = np.random.default_rng(3)
    half = detector.mesh.cell_x / 2
    batch.impact_x, batch.impact_y = rng.uniform(-half, half, (2, 400)).astype(np.float32)
    # a shower around the impact point, wide enough for its centre of gravity to follow
    y, x = np.meshgrid(detector.mesh.y_centres(), detector.mesh.x_centres(), indexing="ij")
    away = (x - batch.impact_x[:, None, None]) ** 2 + (y - batch.impact_y[:, None, None]) ** 2
    batch.showers = np.repeat(np.exp(-away / 50)[:, None], 6, axis=1).astype(np.float32)
    group = symmetries(detector, ranges(impact_x=(-half, half), impact_y=(-half, half)))
    assert len(group) == 8
    images = augment(batch, detector, group, rng)
    assert len({tuple(row) for row in np.sign(np.stack([images.impact_x, images.impact_y], 1))}) == 4
    assert 150 < (np.abs(images.impact_x) != np.abs(batch.impact_x)).sum() < 250
    total = images.showers.sum(axis=(1, 2, 3))
    for impact, centres in ((images.impact_x, x), (images.impact_y, y)):
        centre = (images.showers * centres).sum(axis=(1, 2, 3)) / total
        assert np.abs(centre - impact).max() < 0.1 * half


def test_cylindrical_showers_are_turned_and_mirrored():
    detector = load_detector("par04-siw")
    rng = np.random.default_rng(0)
    showers = rng.exponential(1, (1, *detector.shower_shape)).astype(np.float32)
    batch = make_showers(64)
    batch.showers = np.repeat(showers, 64, axis=0)
    images = augment(batch, detector, symmetries(detector, ranges()), rng).showers
    turns = [np.roll(showers[0], k, axis=1) for k in range(16)]
    turns += [np.roll(showers[0][:, ::-1], k, axis=1) for k in range(16)]
    found = {next(i for i, turn in enumerate(turns) if np.array_equal(turn, image)) for image in images}
    assert len(found) > 20


def test_average_and_swap():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = make_ema(module)
    start = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.add_(1.0)
        module[1].running_mean.fill_(3.0)
    update_ema(average, module, decay=0.9, step=1000)
    assert torch.allclose(average[0].weight, start + 0.1)
    assert torch.equal(average[1].running_mean, module[1].running_mean)
    with ema_weights(module, average):
        assert torch.allclose(module[0].weight, start + 0.1)
    assert torch.allclose(module[0].weight, start + 1)
    # what is fitted to weights that are saved does not change the training
    for weights in (average, None):
        with ema_weights(module, weights):
            module[1].running_mean.fill_(7.0)
        assert torch.equal(module[1].running_mean, torch.full((2,), 3.0))
    # the first weights are forgotten quickly
    fresh = make_ema(torch.nn.Linear(1, 1))
    other = torch.nn.Linear(1, 1)
    for step in range(50):
        update_ema(fresh, other, decay=0.999, step=step)
    assert torch.allclose(fresh.weight, other.weight, atol=0.01)


def test_learning_rates():
    config = build(
        OptimizerConfig,
        {"learning_rate": 0.1, "schedule": "cosine", "warmup_steps": 10, "rates": {"generator": 0.2}},
        "optimizer",
    )
    rate = [learning_rate(config, "discriminator", step, 110) for step in range(111)]
    assert rate[0] == pytest.approx(0.01)
    assert rate[9] == pytest.approx(0.1)
    assert rate[10] == pytest.approx(0.1)
    assert rate[60] == pytest.approx(0.1 * (0.01 + 0.99 / 2))
    assert rate[110] == pytest.approx(0.001)
    assert learning_rate(config, "generator", 10, 110) == pytest.approx(0.2)
    constant = OptimizerConfig()
    assert learning_rate(constant, "x", 500, 1000) == constant.learning_rate


def test_a_rate_for_a_part_that_does_not_exist(new_model):
    config = build(OptimizerConfig, {"rates": {"generater": 1e-4}}, "optimizer")
    with pytest.raises(ConfigError, match="Did you mean 'generator'"):
        build_optimizers(new_model(), config)


def test_the_choice_of_arithmetic_leaves_no_trace(new_model):
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    batch = TrainingBatch.of(make_showers(4))
    assert choose_precision(model, batch, "auto") in ("fp32", "bf16")
    assert choose_precision(model, batch, "bf16") == "bf16"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("seconds", "chosen"), [(0.5, "bf16"), (0.9, "fp32")])
def test_bf16_is_chosen_if_it_is_clearly_faster(seconds, chosen, new_model, monkeypatch):
    times = iter([1.0, seconds])
    monkeypatch.setattr("caloforge.training.precision._bf16_is_usable", lambda _device: True)
    monkeypatch.setattr("caloforge.training.precision._time", lambda _action: next(times))
    batch = TrainingBatch.of(make_showers(2))
    assert choose_precision(new_model(), batch, "auto") == chosen
    # moments of the layered family are small differences of large sums: with bf16 its couplings ran away
    assert not Layered.trains_in_bf16
    monkeypatch.setattr(type(new_model()), "trains_in_bf16", False)
    assert choose_precision(new_model(), batch, "auto") == "fp32"
    with pytest.raises(ConfigError, match=r"training\.precision: got bf16.*expected fp32 or auto"):
        choose_precision(new_model(), batch, "bf16")


def test_slow_bf16_is_not_tried_further(new_model, monkeypatch):
    monkeypatch.setattr("caloforge.training.precision._bf16_is_usable", lambda _device: False)
    assert choose_precision(new_model(), TrainingBatch.of(make_showers(2)), "auto") == "fp32"


def test_bf16_trains(new_model, data, settings, tmp_path):
    result = train_model(new_model(), data, settings(precision="bf16", max_steps=6), tmp_path, seed=1)
    assert result.steps == 6
    assert np.isfinite(result.best)


def test_tensorboard_shows_what_the_metrics_say(new_model, data, settings, tmp_path):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    train_model(new_model(), data, settings(trackers=["tensorboard"]), tmp_path, seed=1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # as `tensorboard --logdir RUN/trackers` reads it
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "trackers")).Reload()
    [run] = [name for name, found in events.Runs().items() if "eval_merit" in found["scalars"]]
    for name in ("eval_merit", "eval_response_ratio", "learning_rate"):
        expected = {line["step"]: line[name] for line in lines if name in line}
        assert {e.step: e.value for e in events.Scalars(run, name)} == pytest.approx(expected, rel=1e-6)
        assert expected


def test_a_missing_tracker_says_what_to_install(new_model, data, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"caloforge\[track\]"):
        train_model(new_model(), data, settings(trackers=["mlflow"]), tmp_path, seed=1)


def test_preflight_with_and_without_data(new_model, data, settings):
    from caloforge.beam import BeamConfig

    model = new_model()
    beam = build(BeamConfig, {"energy": {"kind": "fixed", "value": "20 GeV"}}, "beam")
    for source in (None, data):
        trial = try_step(model.config, settings(), model.detector, beam, source, seed=0)
        assert trial.parameters == sum(p.numel() for p in model.parameters())
        assert trial.seconds > 0
        assert trial.memory_bytes > 12 * 4 * np.prod(model.detector.shower_shape)
