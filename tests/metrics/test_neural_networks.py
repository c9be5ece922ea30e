"""The protocol of the CaloChallenge: splits, networks, calibration, errors."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from caloforge.metrics import neural_networks
from caloforge.metrics.feature_table import DenseRows
from caloforge.metrics.neural_networks import Perceptron, ResNet, Training, neural_classifier

FAST = Training(epochs=4, batch=200, learning_rate=5e-3)


@pytest.fixture
def small(monkeypatch):
    """A small perceptron in place of 2048 x 3, for tests of everything around it."""
    monkeypatch.setattr(neural_networks, "Perceptron", lambda width: Perceptron(width, hidden=16))


def gaussians(n, m, shift, seed=1, k=3):
    rng = np.random.default_rng(seed)
    truth, generated = rng.normal(size=(n, k)), rng.normal(size=(m, k))
    generated[:, 0] += shift
    return DenseRows(truth), DenseRows(generated)


def test_networks_are_those_of_the_challenge():
    sizes = [tuple(p.shape) for p in Perceptron(362).parameters()]
    hidden = [(2048, 362), (2048,), (2048, 2048), (2048,), (2048, 2048), (2048,), (1, 2048), (1,)]
    assert sizes == hidden
    assert all(m.negative_slope == 0.01 for m in Perceptron(3).modules() if isinstance(m, torch.nn.LeakyReLU))
    # counted from the layers of resnet.py: convolutions, two numbers per plane of each normalisation, last
    # layer
    convolutions = 7**3 * 32 + 27 * (
        4 * 32 * 32 + 32 * 64 + 3 * 64 * 64 + 4 * 64 * 64 + 64 * 128 + 3 * 128 * 128
    )
    shortcuts = 32 * 64 + 64 * 64 + 64 * 128
    norms = 2 * (32 * 5 + 64 * 5 + 64 * 5 + 128 * 5) + 2
    count = sum(p.numel() for p in ResNet((45, 16, 9)).parameters())
    assert count == convolutions + shortcuts + norms + 130
    assert ResNet((25, 13, 7))(torch.rand(2, 1 + 25 * 13 * 7)).shape == (2,)


def test_area_and_divergence_of_two_gaussians(small):
    rows = gaussians(4000, 4000, 1.0)
    got = neural_classifier(*rows, training=FAST, repeats=2)
    best = stats.norm.cdf(1 / np.sqrt(2))
    assert got.auc.value == pytest.approx(best, abs=0.02)
    # Jensen-Shannon divergence of two unit normals one apart, by quadrature, in bits
    x = np.linspace(-9, 10, 20001)
    p, q = stats.norm.pdf(x), stats.norm.pdf(x, 1)
    divergence = np.trapezoid(p * np.log2(2 * p / (p + q)) + q * np.log2(2 * q / (p + q)), x) / 2
    assert got.jsd.value == pytest.approx(divergence, abs=0.03)
    assert 0.001 < got.auc.uncertainty < 0.02
    assert 0.001 < got.jsd.uncertainty < 0.03
    assert (got.auc.floor, got.jsd.floor) == (0.5, 0.0)
    assert len({repeat.auc for repeat in got.repeats}) == 2


def test_numbers_are_those_of_the_calibrated_scores(small):
    got = neural_classifier(*gaussians(500, 500, 1.0), training=FAST).repeats[0]
    label = np.repeat([1, 0], [len(got.scores_truth), len(got.scores_generated)])
    scores = np.concatenate([got.scores_truth, got.scores_generated])
    assert got.auc == pytest.approx(roc_auc_score(label, scores))
    assert got.jsd == pytest.approx((np.log(2) - log_loss(label, scores)) / np.log(2))
    assert len(got.scores_truth) == len(got.scores_generated) == 100
    # isotonic regression gives few values, and each is the share of truth where it was fitted
    assert len(np.unique(scores)) < 60


def test_the_area_may_be_that_of_the_scores_before_calibration():
    rng = np.random.default_rng(1)
    label = np.repeat([1.0, 0.0], 100)
    choosing, testing = (1 / (1 + np.exp(-rng.normal(2 * label))) for _ in range(2))
    tied = neural_networks.judge_scores((choosing, label), (testing, label), 1)
    free = neural_networks.judge_scores((choosing, label), (testing, label), 1, break_ties=True)
    assert free.auc == roc_auc_score(label, testing) != tied.auc
    assert free.jsd == pytest.approx(tied.jsd, abs=1e-6)


def test_equal_samples_cannot_be_told_apart(small):
    pulls = []
    for seed in range(10):
        got = neural_classifier(*gaussians(500, 600, 0.0, seed), seed=seed, training=FAST)
        pulls.append((got.auc.value - 0.5) / got.auc.uncertainty)
    assert abs(np.mean(pulls)) < 3.5 / np.sqrt(10)
    assert 0.4 < np.std(pulls) < 1.8


def test_floor_can_be_measured(small):
    got = neural_classifier(*gaussians(2000, 2000, 2.0), training=FAST, measure_floor=True)
    assert len(got.repeats) == 1
    assert got.auc.floor != 0.5
    assert abs(got.auc.floor - 0.5) < 0.07
    assert got.auc.value > 0.85


def test_seed_fixes_all_and_leaves_torch_alone(small):
    rows = gaussians(300, 300, 0.5)
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (neural_classifier(*rows, training=FAST, seed=s).auc.value for s in (3, 3, 4))
    assert torch.rand(1) == want
    assert first == again
    assert first != other


def test_splits_are_disjoint_and_of_the_stated_size():
    parts = neural_networks.split_rows(np.arange(1003), np.random.default_rng(0))
    assert [len(part) for part in parts] == [601, 200, 202]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1003))


def test_best_epoch_is_chosen_and_patience_ends_the_training(small):
    calls = []
    training = Training(epochs=30, batch=100, learning_rate=1e-4, patience=2)
    rows = gaussians(200, 200, 0.0)
    got = neural_classifier(
        *rows, training=training, progress=lambda done, total: calls.append((done, total))
    )
    assert got.repeats[0].epoch < 30
    # 240 showers train in 3 steps an epoch; the meter jumps to its end when the training stops early
    assert calls[-1] == (90, 90)
    assert calls[-2][0] == 3 * (got.repeats[0].epoch + 2)


def test_perfect_accuracy_ends_the_training(small):
    got = neural_classifier(
        *gaussians(400, 400, 50.0), training=Training(epochs=50, batch=100, learning_rate=0.01)
    )
    assert got.auc.value == 1
    assert got.jsd.value == pytest.approx(1, abs=0.01)
    assert got.repeats[0].epoch < 50


def test_resnet_learns_where_the_energy_is():
    rng = np.random.default_rng(1)
    shape = (9, 8, 7)
    showers = rng.exponential(size=(2, 120, *shape)).astype(np.float32)
    showers[1, :, :4] *= 3
    rows = [DenseRows(np.column_stack([np.ones(120), s.reshape(120, -1)])) for s in showers]
    training = Training(epochs=3, batch=24, learning_rate=1e-3)
    assert neural_classifier(*rows, voxels=shape, training=training).auc.value > 0.9


def test_double_precision_and_too_few_showers(small):
    got = neural_classifier(*gaussians(100, 100, 1.0), training=Training(epochs=1, batch=50, double=True))
    assert 0 <= got.auc.value <= 1
    with pytest.raises(ValueError, match="at least 10"):
        neural_classifier(*gaussians(9, 100, 1.0))
