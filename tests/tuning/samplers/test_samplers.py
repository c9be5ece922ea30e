"""What holds for every sampler: values of the space, many pending trials, restarts, failed trials."""

import math
import shutil

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from caloforge.errors import ConfigError
from caloforge.testing.problems import branin_problem
from caloforge.tuning.samplers import make_sampler
from caloforge.tuning.samplers.config import BUILT_IN, SamplerConfig
from caloforge.tuning.trial_attributes import NOISE

# Optuna makes it a failed trial, and says so
pytestmark = pytest.mark.filterwarnings("ignore:The value nan is not acceptable:UserWarning")

KINDS = list(BUILT_IN)
SEVERAL_OBJECTIVES = [kind for kind, entry in BUILT_IN.items() if entry.several_objectives]
MIXED = {
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "share": FloatDistribution(0.0, 1.0, step=0.25),
    "filters": IntDistribution(4, 64, log=True),
    "layers": IntDistribution(1, 9, step=2),
    "kernel": CategoricalDistribution((3, 5, 7)),
    "norm": CategoricalDistribution(("none", "batch", None)),
    "bias": CategoricalDistribution((False, True)),
    "optimiser": CategoricalDistribution(("adam", "sgd")),
    # exists with sgd only
    "momentum": FloatDistribution(0.0, 0.99),
    "alone": CategoricalDistribution(("one",)),
}


def sampler(kind, seed=1, objectives=1):
    return make_sampler(SamplerConfig(kind=kind, startup=6, population=6), seed=seed, objectives=objectives)


def study_of(kind, storage=None, directions=("minimize",), seed=1):
    return optuna.create_study(
        storage=storage,
        study_name="s",
        load_if_exists=True,
        sampler=sampler(kind, seed, len(directions)),
        directions=directions,
    )


def ask(study):
    trial = study.ask()
    params = {}
    for name, distribution in MIXED.items():
        if name == "momentum" and params["optimiser"] != "sgd":
            continue
        params[name] = trial._suggest(name, distribution)
    return trial, params


def value(params):
    loss = abs(math.log10(params["rate"]) + 3) + params["dropout"] + 0.1 * params["layers"]
    return loss + (params["norm"] != "batch") + (0 if params["optimiser"] == "adam" else params["momentum"])


def run(study, count, workers=3):
    """A search some of whose trials fail, are not a number or infinite."""
    pending, asked = [], []
    while len(asked) < count or pending:
        while len(pending) < workers and len(asked) < count:
            trial, params = ask(study)
            pending.append((trial, params))
            asked.append(params)
        trial, params = pending.pop(0)
        if trial.number % 7 == 6:
            study.tell(trial, state=TrialState.FAIL)
        elif trial.number % 11 == 10:
            study.tell(trial, math.nan)
        elif trial.number % 13 == 12:
            study.tell(trial, math.inf)
        else:
            trial.set_user_attr(NOISE, [0.01])
            study.tell(trial, value(params))
    return asked


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_of_the_space_and_not_all_alike(kind):
    asked = run(study_of(kind), 30)
    for params in asked:
        assert ("momentum" in params) == (params["optimiser"] == "sgd")
        for name, found in params.items():
            distribution = MIXED[name]
            assert distribution._contains(distribution.to_internal_repr(found)), (name, found)
    for name in MIXED:
        found = {params[name] for params in asked if name in params}
        assert len(found) > 1 or name == "alone", name


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_the_trials_is_remembered(kind):
    study = study_of(kind)
    # every sampler is past what it starts with
    run(study, 40)
    again = study_of(kind)
    again.add_trials(study.trials)
    # what NSGA-II chose as parents
    for name, attribute in study._storage.get_study_system_attrs(study._study_id).items():
        again._storage.set_study_system_attr(again._study_id, name, attribute)
    for _ in range(3):
        (_, expected), (_, found) = ask(study), ask(again)
        assert found == expected


def test_a_killed_study_goes_on_as_if_it_had_not_been(tmp_path):
    path, copy = tmp_path / "a", tmp_path / "b"
    study = study_of("gp", JournalStorage(JournalFileBackend(str(path))))
    run(study, 10)
    shutil.copy(path, copy)
    again = study_of("gp", JournalStorage(JournalFileBackend(str(copy))))
    (_, expected), (_, found) = ask(study), ask(again)
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    first, same, other = (run(study_of(kind, seed=seed), 12) for seed in (1, 1, 2))
    assert first == same
    assert first != other


@pytest.mark.parametrize("kind", KINDS)
def test_pending_trials_are_not_proposed_again(kind):
    problem = branin_problem()
    study = optuna.create_study(sampler=sampler(kind))
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, problem.value(problem.ask(trial)))
    pending = [problem.ask(study.ask()) for _ in range(8)]
    places = np.array([[params["x"] / 15, params["y"] / 15] for params in pending])
    distance = np.abs(places[:, None] - places[None]).sum(axis=2)[np.triu_indices(8, 1)]
    # members of a population go on with what they have
    assert distance.min() > 1e-6 or kind == "pbt"


@pytest.mark.parametrize("kind", SEVERAL_OBJECTIVES)
def test_several_objectives(kind):
    study = study_of(kind, directions=("minimize", "maximize"))
    for _ in range(25):
        trial, params = ask(study)
        study.tell(trial, (value(params), params["dropout"]))
    assert len(study.best_trials) >= 2


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(SEVERAL_OBJECTIVES)))
def test_one_objective_only_is_said(kind):
    with pytest.raises(ConfigError, match=f"{kind}.*supports one objective, got 2; take one of random"):
        sampler(kind, objectives=2)


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_an_enqueued_trial_stay_as_they_are(kind):
    study = study_of(kind)
    run(study, 20)
    start = {"rate": 1e-3, "dropout": 0.25, "share": 0.5, "filters": 16, "layers": 3, "kernel": 3,
             "norm": "none", "bias": True, "optimiser": "adam", "alone": "one"}  # fmt: skip
    study.enqueue_trial(start)
    trial, params = ask(study)
    assert params == start
    study.tell(trial, 0.0)
    # and what comes after can build on it
    run(study, 20)
