"""The policy-gradient controller: its gradient, and that it learns."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from caloforge.tuning.samplers import controller as module
from caloforge.tuning.samplers.controller import Controller, Step
from caloforge.tuning.samplers.policy_gradient import EPISODE, PolicyGradientSampler

SIZES = [3, 2, 4]
STATE = np.array([1, 0, 3])
ALL = np.ones(10, dtype=bool)


def test_the_first_policy_edits_every_parameter_alike():
    policy = Controller(SIZES, np.random.default_rng(0))
    logits, _ = policy._logits(policy._one_hot([STATE]), ALL[None])
    probability = np.exp(logits[0])
    parameters = [probability[:3].sum(), probability[3:5].sum(), probability[5:9].sum()]
    np.testing.assert_allclose(parameters, 1 / 6)
    assert probability[9] == pytest.approx(module.END)


def test_actions_that_are_not_allowed_are_never_taken():
    policy = Controller(SIZES, np.random.default_rng(0))
    allowed = np.zeros(10, dtype=bool)
    allowed[[2, 7]] = True
    rng = np.random.default_rng(1)
    assert {policy.act(STATE, allowed, rng).action for _ in range(50)} == {2, 7}


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_gradient_is_that_of_the_clipped_objective(shift, monkeypatch):
    """Against finite differences of mean(min(r A, clip(r) A)) + entropy: Schulman et al., equations 7, 9."""
    rng = np.random.default_rng(2)
    policy = Controller(SIZES, rng)
    policy.weights[2] = 0.3 * rng.standard_normal(policy.weights[2].shape)
    steps = []
    for _ in range(module.BATCH):
        state = rng.integers(0, SIZES)
        step = policy.act(state, ALL, rng)
        # an older policy took it
        steps.append(Step(state, ALL, step.action, step.log_probability - shift))
    advantage = np.linspace(-1, 1, len(steps))
    monkeypatch.setattr(module, "PASSES", 1)
    found = []
    monkeypatch.setattr(policy, "_ascend", lambda inputs, hidden, slope: found.append(slope))
    policy._episodes = [([step], a) for step, a in zip(steps, advantage, strict=True)]
    policy._update()

    def objective():
        logits, _ = policy._logits(
            policy._one_hot([step.state for step in steps]), np.array([ALL] * len(steps))
        )
        old = np.array([step.log_probability for step in steps])
        ratio = np.exp(logits[np.arange(len(steps)), [step.action for step in steps]] - old)
        clipped = np.clip(ratio, 1 - module.CLIP, 1 + module.CLIP)
        entropy = -(np.exp(logits) * logits).sum(axis=1)
        return np.mean(np.minimum(ratio * advantage, clipped * advantage) + module.ENTROPY * entropy)

    for action in (0, steps[0].action, 9):
        values = []
        for change in (-1e-5, 1e-5):
            policy.weights[3][action] += change
            values.append(objective())
            policy.weights[3][action] -= change
        # the slope by a bias is the sum over the steps
        expected = (values[1] - values[0]) / 2e-5
        assert found[0][:, action].sum() == pytest.approx(expected, abs=1e-7)


def test_it_learns_which_edit_pays():
    policy = Controller(SIZES, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(200):
        step = policy.act(STATE, ALL, rng)
        policy.reward([step], 1.0 if step.action == 6 else -1.0)
    assert np.mean([policy.act(STATE, ALL, rng).action == 6 for _ in range(100)]) > 0.8


def test_it_learns_what_an_edit_is_worth_in_each_state():
    policy = Controller([2, 2], np.random.default_rng(0))
    rng = np.random.default_rng(1)
    allowed = np.ones(5, dtype=bool)
    wanted = {0: 2, 1: 3}
    for _ in range(1500):
        state = np.array([int(rng.integers(2)), 0])
        step = policy.act(state, allowed, rng)
        policy.reward([step], float(step.action == wanted[int(state[0])]))
    for first, action in wanted.items():
        taken = [policy.act(np.array([first, 0]), allowed, rng).action for _ in range(100)]
        assert np.mean([found == action for found in taken]) > 0.8


def test_an_episode_can_be_read_back_from_its_trial():
    space = {f"c{i}": CategoricalDistribution(("a", "b", "c")) for i in range(5)} | {
        "x": FloatDistribution(0, 1)
    }
    sampler = PolicyGradientSampler(0, startup=4)
    study = optuna.create_study(sampler=sampler)
    for number in range(30):
        trial = study.ask(space)
        study.tell(trial, number % 7)
    episodes = [trial for trial in study.trials if EPISODE in trial.system_attrs]
    assert len(episodes) == 26
    for trial in episodes:
        episode = trial.system_attrs[EPISODE]
        start = study.trials[episode["start"]].params
        changed = {name for name in space if trial.params[name] != start[name]}
        assert 1 <= len(changed) <= len(episode["actions"])
