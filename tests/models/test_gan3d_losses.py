"""The loss terms against NumPy and by hand."""

import math

import numpy as np
import pytest
import torch

from caloforge.models.base import TrainingBatch
from caloforge.models.gan3d.losses import measured_angle, percentage_error, spectrum_counts
from caloforge.models.gan3d.published_step import PublishedStep
from caloforge.observables import measured_angle as numpy_angle
from caloforge.testing.model_contract import made_up_batch


def test_percentage_error_by_hand():
    # |2 - 1| / 2 and |4 - 5| / 4 in percent
    assert float(percentage_error(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 4.0]))) == pytest.approx(37.5)


def test_percentage_error_is_relative_to_the_target():
    low, high = torch.tensor([1.0]), torch.tensor([4.0])
    assert float(percentage_error(low, high)) == pytest.approx(75)
    assert float(percentage_error(high, low)) == pytest.approx(300)


def test_percentage_error_refuses_to_compare_all_pairs():
    with pytest.raises(ValueError, match="target"):
        percentage_error(torch.ones(3), torch.ones(3, 1))


def test_angle_agrees_with_the_observable():
    rng = np.random.default_rng(0)
    showers = (rng.exponential(1.0, (20, 9, 11, 7)) * (rng.random((20, 9, 11, 7)) < 0.2)).astype(np.float32)
    showers[3] = 0
    showers[4, 2:5] = 0
    found = measured_angle(torch.from_numpy(showers)).numpy()
    expected = numpy_angle(showers)
    assert found[3] == pytest.approx(math.pi / 2)
    kept = np.arange(20) != 3
    assert found[kept] == pytest.approx(expected[kept], abs=1e-4)


def test_angle_has_a_gradient_that_is_finite_for_empty_images():
    images = torch.zeros(2, 5, 5, 5)
    images[0, :, 2, 2] = 1.0
    images.requires_grad_()
    measured_angle(images).sum().backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad[0].abs().sum() > 0


EDGES = (0.06, 0.16, 0.25, 0.4, 0.6, 1.0)


def test_soft_counts_are_counts_away_from_the_edges():
    energies = torch.tensor([0.01, 0.03, 0.1, 0.2, 0.2, 0.3, 0.5, 0.8, 5.0, 50.0]).reshape(1, 1, 2, 5)
    counts = spectrum_counts(energies, EDGES)[0]
    assert counts.tolist() == pytest.approx([1, 2, 1, 1, 1, 2], abs=0.05)
    assert float(counts.sum()) == pytest.approx(8, abs=0.01)


def test_soft_counts_have_a_gradient_at_an_edge():
    energies = torch.full((1, 1, 1, 1), 0.25, requires_grad=True)
    spectrum_counts(energies, EDGES)[0, 2].backward()
    assert energies.grad.item() > 1


@pytest.mark.parametrize(
    ("weight", "value", "log"), [("angle", 25.0, "g_angle"), ("spectrum", 0.1, "g_spectrum")]
)
def test_every_term_reaches_the_generator(make_model, weight, value, log):
    model = make_model(weights={weight: value, "real_fake": 1e-9, "energy": 0.0, "sum": 0.0})
    phase = list(model.step(made_up_batch(model)))[-1]
    assert log in phase.logs
    phase.loss.backward()
    gradient = max(float(p.grad.abs().max()) for p in model.generator.parameters())
    # the original's count of cells had none at all
    assert gradient > 1e-6


def test_the_step_is_the_published_one(make_model):
    model = make_model("debug")
    phases = list(model.step(made_up_batch(model)))
    assert [phase.optimizer for phase in phases] == ["discriminator"] * 2 + ["generator"] * 2
    assert {"d_real_bce", "d_real_energy"} <= set(phases[0].logs)
    assert {"d_fake_bce", "d_fake_energy"} <= set(phases[1].logs)
    assert {"g_bce", "g_energy", "g_sum"} <= set(phases[2].logs)
    weights = model.config.weights
    logs = phases[2].logs
    expected = sum(
        getattr(weights, name) * float(logs[key])
        for name, key in (("real_fake", "g_bce"), ("energy", "g_energy"), ("sum", "g_sum"))
    )
    assert phases[2].loss.item() == pytest.approx(expected, rel=1e-5)


def test_labels_are_flipped_for_the_discriminator_only(make_model):
    model = make_model(label_flip=0.49)
    seen = []
    real_bce = torch.nn.functional.binary_cross_entropy_with_logits

    def record(score, target):
        seen.append(target.clone())
        return real_bce(score, target)

    torch.manual_seed(0)
    batch = made_up_batch(model, count=64)
    torch.nn.functional.binary_cross_entropy_with_logits = record
    try:
        list(model.step(batch))
    finally:
        torch.nn.functional.binary_cross_entropy_with_logits = real_bce
    real, fake, *generator = seen
    assert 0.25 < float((real == 0).float().mean()) < 0.75
    assert 0.25 < float((fake == 1).float().mean()) < 0.75
    assert all(bool((target == 1).all()) for target in generator)


def test_fake_images_come_from_running_statistics(make_model):
    model = make_model()
    before = model.generator.layers[0].norm.num_batches_tracked.clone()
    phases = model.step(made_up_batch(model))
    next(phases)
    assert model.generator.layers[0].norm.num_batches_tracked == before
    assert model.generator.training


def test_fresh_energies_cover_the_range_and_use_the_fitted_response(make_model):
    model = make_model(fake_conditions="fresh")
    batch = made_up_batch(model, count=2000)
    torch.manual_seed(0)
    step = PublishedStep(model)
    fresh = step.fake_condition_of(batch.condition)
    low, high = model.ranges.energy
    assert float(fresh.energy.min()) < low + 0.01 * (high - low)
    assert float(fresh.energy.max()) > high - 0.01 * (high - low)
    middle = (np.log(fresh.energy.numpy()) - np.log(low * high) / 2) * 2 / np.log(high / low)
    expected = (0.02 - 0.002 * middle) * fresh.energy.numpy()
    assert step.visible_energy(batch, fresh).numpy() == pytest.approx(expected, rel=1e-4)


def test_empty_images_are_reported(make_model):
    model = make_model()
    with torch.no_grad():
        model.generator.layers[-1].conv.weight.zero_()
        model.generator.layers[-1].conv.bias.fill_(-1.0)
    batch = made_up_batch(model)
    phases = list(model.step(TrainingBatch(batch.showers, batch.condition)))
    assert bool(phases[-1].empty_images)
