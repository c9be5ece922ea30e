"""Regularised evolution, CMA-ES and population-based training, on trials that are known."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from caloforge.tuning.samplers.cma_es import CmaEsSampler
from caloforge.tuning.samplers.evolution import RegularisedEvolutionSampler
from caloforge.tuning.samplers.population_based import PopulationBasedSampler
from caloforge.tuning.trial_attributes import PARENT

GENES = {f"g{i}": CategoricalDistribution(tuple(range(10))) for i in range(6)}
WEIGHTS = {
    "model.filters": IntDistribution(4, 64),
    "model.weights.energy": FloatDistribution(1e-3, 10, log=True),
    "training.rate": FloatDistribution(1e-5, 1e-1, log=True),
    "training.batch": IntDistribution(8, 64, log=True),
}


def with_trials(sampler, space, params, values):
    study = optuna.create_study(sampler=sampler)
    for point, value in zip(params, values, strict=True):
        study.add_trial(optuna.create_trial(params=point, distributions=space, value=value))
    return study


def test_a_child_differs_in_one_gene_from_a_member_that_lives():
    rng = np.random.default_rng(0)
    params = [{name: int(rng.integers(10)) for name in GENES} for _ in range(20)]
    # the best of all is too old
    values = [0.0, *rng.uniform(1, 2, 19)]
    study = with_trials(RegularisedEvolutionSampler(0, population=8), GENES, params, values)
    parents = []
    for _ in range(40):
        child = study.ask(GENES).params
        close = [n for n, point in enumerate(params) if sum(child[g] != point[g] for g in GENES) == 1]
        assert len(close) == 1
        parents.append(close[0])
    assert set(parents) <= set(range(12, 20))
    assert np.mean([values[parent] for parent in parents]) < np.mean(values[12:]) - 0.1


def test_the_worst_member_never_is_a_parent():
    params = [dict.fromkeys(GENES, n) for n in range(8)]
    study = with_trials(RegularisedEvolutionSampler(0, population=8), GENES, params, range(8))
    children = [study.ask(GENES).params for _ in range(40)]
    assert all(sum(value == 7 for value in child.values()) <= 1 for child in children)


def test_cma_es_closes_in_on_the_minimum_of_a_long_valley():
    space = {f"x{i}": FloatDistribution(-4, 6) for i in range(4)}

    def valley(params):
        return sum(30**i * (params[f"x{i}"] - 1) ** 2 for i in range(4))

    study = optuna.create_study(sampler=CmaEsSampler(0))
    for _ in range(400):
        trial = study.ask(space)
        study.tell(trial, valley(trial.params))
    # 27 000 is the weight of the steepest axis; random points of as many trials reach hundreds
    assert study.best_value < 0.1


def test_cma_es_learns_choices_and_whole_numbers():
    space = {
        "kind": CategoricalDistribution(("a", "b", "c", "d")),
        "layers": IntDistribution(1, 12),
        "x": FloatDistribution(0, 1),
    }
    study = optuna.create_study(sampler=CmaEsSampler(0))
    for _ in range(150):
        trial = study.ask(space)
        params = trial.params
        loss = (params["kind"] != "c") + 0.1 * abs(params["layers"] - 9) + abs(params["x"] - 0.3)
        study.tell(trial, loss)
    last = [trial.params for trial in study.trials[-30:]]
    assert np.mean([params["kind"] == "c" for params in last]) > 0.8
    assert np.mean([abs(params["layers"] - 9) <= 1 for params in last]) > 0.8


def turn(study):
    trial = study.ask(WEIGHTS)
    return trial, trial.params, trial.user_attrs.get(PARENT)


def test_a_bad_member_takes_weights_and_shape_of_a_good_one_and_explores():
    study = optuna.create_study(sampler=PopulationBasedSampler(0, population=4))
    first = []
    for loss in (1.0, 2.0, 3.0, 4.0):
        trial, params, parent = turn(study)
        assert parent is None
        first.append(params)
        study.tell(trial, loss)
    second = [turn(study) for _ in range(4)]
    assert [parent for _, _, parent in second] == [0, 1, 2, 0]
    # those that are not the worst go on as they were
    assert [params for _, params, _ in second[:3]] == first[:3]
    explored = second[3][1]
    assert explored["model.filters"] == first[0]["model.filters"]
    for name in ("model.weights.energy", "training.rate", "training.batch"):
        assert explored[name] != first[0][name]


def test_members_do_not_wait_and_more_workers_are_more_members():
    study = optuna.create_study(sampler=PopulationBasedSampler(0, population=2))
    running = [turn(study) for _ in range(3)]
    assert [parent for _, _, parent in running] == [None] * 3
    # one ends and goes on at once, from its own weights: it is the best there is
    study.tell(running[1][0], 1.0)
    assert turn(study)[2] == 1
    # a turn that failed is tried again from the same weights
    again, _, _ = running[2]
    study.tell(again, state=optuna.trial.TrialState.FAIL)
    assert turn(study)[2] is None


@pytest.mark.parametrize("exploit", [True, False])
def test_the_toy_problem_of_the_paper(exploit, monkeypatch):
    """Jaderberg et al., figure 2: two weights, and hyper-parameters that switch the parts of their gradient.

    Members trained with one part only end at 0.4; those that copy weights reach 1.2, the maximum.
    """
    space = {"h0": CategoricalDistribution((0.0, 1.0)), "h1": CategoricalDistribution((0.0, 1.0))}
    if not exploit:
        monkeypatch.setattr("caloforge.tuning.samplers.population_based.REPLACED", 0.0)
        monkeypatch.setattr(PopulationBasedSampler, "_explore", lambda self, params, *_: dict(params))
    study = optuna.create_study(sampler=PopulationBasedSampler(3, population=2), direction="maximize")
    weights = {}
    starts = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}]
    for number in range(60):
        if number < 2:
            study.enqueue_trial(starts[number])
        trial = study.ask(space)
        theta = np.array(weights.get(trial.user_attrs.get(PARENT), (0.9, 0.9)))
        h = np.array([trial.params["h0"], trial.params["h1"]])
        for _ in range(4):
            theta = theta - 0.02 * 2 * h * theta
        weights[trial.number] = theta
        study.tell(trial, 1.2 - float(theta @ theta))
    if exploit:
        assert study.best_value > 1.15
    else:
        assert study.best_value == pytest.approx(0.39, abs=0.01)
    assert math.isfinite(study.best_value)
