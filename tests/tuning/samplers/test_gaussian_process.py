"""The Gaussian process against scikit-learn, the improvement against an integral, and the sampler."""

import math
import time

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from caloforge.tuning.samplers import regression
from caloforge.tuning.samplers.gaussian_process import GaussianProcessSampler, log_improvement
from caloforge.tuning.samplers.regression import GaussianProcess
from caloforge.tuning.trial_attributes import NOISE


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    points = rng.uniform(size=(25, 3))
    values = np.sin(5 * points[:, 0]) + points[:, 1] ** 2 + 0.1 * rng.standard_normal(25)
    return points, values - values.mean(), rng.uniform(0.0, 0.05, 25)


def test_posterior_is_that_of_scikit_learn(data):
    points, values, known = data
    process = GaussianProcess.fit(points, values, known, np.arange(3))
    *lengths, variance, noise = np.exp(process.logs)
    kernel = ConstantKernel(variance) * Matern(lengths, nu=2.5)
    alpha = known + noise + regression.JITTER
    theirs = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(points, values)
    new = np.random.default_rng(4).uniform(size=(50, 3))
    mean, deviation = theirs.predict(new, return_std=True)
    ours = process.posterior(new)
    np.testing.assert_allclose(ours[0], mean, atol=1e-9)
    np.testing.assert_allclose(ours[1], deviation, atol=1e-7)
    # the likelihood that was maximised is the same function too
    likelihood = theirs.log_marginal_likelihood_value_ + 12.5 * math.log(2 * math.pi)
    assert _without_prior(process, data) == pytest.approx(-likelihood)


def _without_prior(process, data):
    points, values, known = data
    squares = regression._squares(points, points, np.arange(3))
    value, _ = regression._objective(process.logs, squares, values, known)
    mean, width = regression.length_prior(3)
    centres = np.array([mean] * 3 + [regression.LOG_VARIANCE[0], regression.LOG_NOISE[0]])
    widths = np.array([width] * 3 + [regression.LOG_VARIANCE[1], regression.LOG_NOISE[1]])
    return value - 0.5 * (((process.logs - centres) / widths) ** 2).sum()


def test_gradient(data):
    points, values, known = data
    # two coordinates of one parameter
    squares = regression._squares(points, points, np.array([0, 1, 1]))
    logs = np.array([-0.5, 0.3, 0.2, -3.0])
    wrong = check_grad(
        lambda x: regression._objective(x, squares, values, known)[0],
        lambda x: regression._objective(x, squares, values, known)[1],
        logs,
    )
    assert wrong < 1e-4


def test_a_noisy_observation_is_believed_less(data):
    points, values, _ = data
    values = values.copy()
    values[7] += 3.0
    known = np.zeros(25)
    careless = GaussianProcess.fit(points, values, known, np.arange(3))
    known[7] = 9.0
    careful = GaussianProcess.fit(points, values, known, np.arange(3))
    truth = np.sin(5 * points[:, 0]) + points[:, 1] ** 2
    truth -= truth.mean()
    off = [np.abs(process.posterior(points[6:9])[0] - truth[6:9]).max() for process in (careless, careful)]
    assert off[1] < 0.3 * off[0]


def test_a_believed_point_has_its_mean_and_no_uncertainty(data):
    points, values, known = data
    process = GaussianProcess.fit(points, values, known, np.arange(3))
    pending = np.array([[0.5, 0.5, 0.5], [0.9, 0.1, 0.2]])
    mean, deviation = process.posterior(pending)
    believing = process.believe(pending)
    noise = math.exp(process.logs[-1] / 2)
    assert (believing.posterior(pending)[1] < np.minimum(deviation, 1.1 * noise + 1e-3)).all()
    np.testing.assert_allclose(believing.posterior(pending)[0], mean, atol=1e-6)
    elsewhere = np.random.default_rng(0).uniform(size=(20, 3))
    np.testing.assert_allclose(believing.posterior(elsewhere)[0], process.posterior(elsewhere)[0], atol=1e-6)


@pytest.mark.parametrize("mean", [-1.0, 0.3, 0.5, 2.0, 6.0])
def test_improvement_is_the_integral(mean):
    best, deviation = 0.2, 0.4
    low = mean - 12 * deviation
    expected, _ = quad(
        lambda y: (best - y) * norm.pdf(y, mean, deviation), min(low, best - 1), best, epsabs=0, limit=200
    )
    found = log_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert found == pytest.approx(math.log(expected), rel=1e-6)


def test_improvement_far_out_still_rises_towards_the_target():
    mean = np.array([1e1, 1e2, 1e3, 1e4, 1e6])
    found = log_improvement(mean, np.ones(5), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    # Mills' ratio: phi(z) / z^2
    np.testing.assert_allclose(found, -0.5 * mean**2 - 0.5 * np.log(2 * np.pi) - 2 * np.log(mean), rtol=1e-2)


def test_two_hundred_trials_take_less_than_a_second():
    rng = np.random.default_rng(0)
    space = {f"x{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(10)}
    space["kind"] = optuna.distributions.CategoricalDistribution(("a", "b", "c", "d"))
    study = optuna.create_study(sampler=GaussianProcessSampler(0, 10))
    for _ in range(200):
        params = {f"x{i}": float(rng.uniform()) for i in range(10)} | {"kind": "abcd"[rng.integers(4)]}
        loss = sum((params[f"x{i}"] - 0.5) ** 2 for i in range(10)) + 0.1 * (params["kind"] == "a")
        study.add_trial(optuna.create_trial(params=params, distributions=space, value=loss))
    start = time.process_time()
    study.ask(space)
    assert time.process_time() - start < 1.0


def test_a_lucky_noisy_trial_is_not_the_target():
    """The best value of all, without its noise and with it."""
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    proposals = {}
    for noise in (0.0, 5.0):
        study = optuna.create_study(sampler=GaussianProcessSampler(0, 3))
        for x in np.linspace(0.02, 0.98, 13):
            loss = (x - 0.25) ** 2
            lucky = abs(x - 0.74) < 0.01
            trial = optuna.create_trial(
                params={"x": float(x)},
                distributions=space,
                value=loss - 1.0 if lucky else loss,
                user_attrs={NOISE: [noise if lucky else 0.0]},
            )
            study.add_trial(trial)
        proposals[noise] = study.ask(space).params["x"]
    assert abs(proposals[0.0] - 0.74) < 0.1
    assert abs(proposals[5.0] - 0.25) < 0.1


def test_the_edge_of_a_region_where_trials_fail_is_found():
    """Training diverges below 0.35, just where it would be best."""
    space = {
        "x": optuna.distributions.FloatDistribution(0, 1),
        "y": optuna.distributions.FloatDistribution(0, 1),
    }
    study = optuna.create_study(sampler=GaussianProcessSampler(0, 6))
    for _ in range(30):
        trial = study.ask(space)
        x, y = trial.params["x"], trial.params["y"]
        if x < 0.35:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, x + (y - 0.5) ** 2)
    # without the process over failures the same failing point is proposed for ever, and 0.41 the best
    assert study.best_value < 0.36
