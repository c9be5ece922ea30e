"""What every sampler of a search must do; see `caloforge.tuning.samplers.config.Sampler`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

TRIALS, PENDING = 14, 3


def check_sampler(name: str) -> None:
    """The contract of a sampler, by the name it is registered under.

    It suggests values of the space, also while trials are pending and after failed ones; the same seed gives
    the same suggestions; and it keeps nothing but what stands in the trials: made anew before each of them it
    suggests the same, so that a study that was killed goes on as if nothing had happened.
    """
    import optuna

    from caloforge.tuning.samplers import make_sampler
    from caloforge.tuning.samplers.config import SAMPLERS, SamplerConfig

    config = SamplerConfig(kind=name, startup=4, population=4)
    several = SAMPLERS.get(name, "sampler").several_objectives
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        for objectives in (1, 2) if several else (1,):

            def make(seed: int = 7, objectives: int = objectives) -> BaseSampler:
                return make_sampler(config, seed=seed, objectives=objectives)

            found = _searched(make, objectives, anew=False)
            assert found == _searched(make, objectives, anew=False), "the same seed suggests other values"
            assert found == _searched(make, objectives, anew=True), (
                "it remembers something that does not stand in the trials: made anew it suggests other values"
            )
    finally:
        optuna.logging.set_verbosity(verbosity)


def _space() -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        "rate": FloatDistribution(1e-5, 1e-1, log=True),
        "share": FloatDistribution(0.0, 1.0, step=0.25),
        "layers": IntDistribution(1, 9, step=2),
        "norm": CategoricalDistribution(("none", "batch", None)),
    }


def _searched(make: Callable[[], BaseSampler], objectives: int, *, anew: bool) -> list[dict[str, Any]]:
    """Values of the trials of a search in which some are always pending and every fifth fails."""
    import optuna
    from optuna.trial import TrialState

    study = optuna.create_study(sampler=make(), directions=["minimize"] * objectives)
    pending, found = [], []
    for number in range(TRIALS):
        if anew:
            study.sampler = make()
        trial = study.ask()
        params = _asked(study, trial)
        found.append(params)
        pending.append((trial, params))
        if len(pending) > PENDING:
            ended, values = pending.pop(0)
            if number % 5 == 4:
                study.tell(ended, state=TrialState.FAIL)
            else:
                loss = abs(math.log10(values["rate"]) + 3) + 0.1 * values["layers"]
                study.tell(ended, [loss, values["share"]][:objectives])
    return found


def _asked(study: Study, trial: Any) -> dict[str, Any]:
    params = {}
    for name, distribution in _space().items():
        params[name] = trial._suggest(name, distribution)
        inside = distribution._contains(distribution.to_internal_repr(params[name]))
        assert inside, f"{name} = {params[name]!r} is not in {distribution}"
    assert study.trials[trial.number].params == params, "the study holds other values than were suggested"
    return params
