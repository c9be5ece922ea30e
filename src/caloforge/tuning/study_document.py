"""study.json: all trials of a study with their figures, and the best trials or the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge import provenance
from caloforge.tuning.config import StudyConfig
from caloforge.tuning.driver import TRIALS, fold_folder
from caloforge.tuning.objective import evaluations
from caloforge.tuning.suggestion_thread import COMPLETE, START
from caloforge.tuning.trial_attributes import ATTEMPTS, FOLDS, NOISE, PARENT, REASON

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

FORMAT, VERSION = "caloforge-study", 1
PACKAGES = ("optuna", "ray", "torch", "numpy")


def study_document(study: Study, config: StudyConfig, out: Path, **facts: Any) -> dict[str, Any]:
    """Build the document of study.json; all numbers are finite or null.

    Args:
        study: The study.
        config: Its configuration.
        out: Its folder.
        facts: Further entries, JSON-compatible.
    """
    trials = study.get_trials(deepcopy=False)
    front = best_trials(study)
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "name": config.name,
        "description": config.description,
        "objectives": [o.model_dump(mode="json") for o in config.objectives],
        "space": study.user_attrs["space"],
        "sampler": config.sampler.model_dump(mode="json"),
        "pruner": config.pruner.model_dump(mode="json"),
        "layout": config.layout.model_dump(mode="json"),
        "counts": {state: sum(t.state.name == state.upper() for t in trials) for state in
                   ("complete", "pruned", "fail", "running")},
        "best": front[0] if front else None,
        "front": front,
        "start": start_trial(study),
        "outside_of_the_space": study.user_attrs.get("outside", []),
        "trials": [_trial(trial, config, out) for trial in trials],
        **facts,
        "provenance": provenance.collect(packages=PACKAGES, seed=config.seed),
    }  # fmt: skip


def best_trials(study: Study) -> list[int]:
    """Trials on the Pareto front, or the best one for a single objective; sorted by the first objective."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    signs = [1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions]
    losses = {t.number: [s * v for s, v in zip(signs, t.values, strict=True)] for t in complete}
    front = [n for n, own in losses.items() if not any(_dominates(other, own) for other in losses.values())]
    if len(signs) == 1:
        front = front[:1]
    return sorted(front, key=lambda n: losses[n])


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def start_trial(study: Study) -> int | None:
    """Number of the trial of the starting run; None if that run is outside the space."""
    return next((t.number for t in study.get_trials(deepcopy=False) if t.user_attrs.get(START)), None)


def _trial(trial: FrozenTrial, config: StudyConfig, out: Path) -> dict[str, Any]:
    figures = [o.figure for o in config.objectives]
    attributes = trial.user_attrs
    learning = evaluations(fold_folder(out, trial.number, 0)) if COMPLETE in attributes else []
    values = dict(zip(figures, trial.values or [], strict=False))
    noise = dict(zip(figures, attributes.get(NOISE, []), strict=False))
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "figures": {name: _finite(value) for name, value in values.items()},
        "standard_errors": {name: _finite(value) for name, value in noise.items()},
        "parameters": dict(trial.params),
        "folds": attributes.get(FOLDS, []),
        "seconds": attributes.get("seconds"),
        "parent": attributes.get(PARENT),
        "reason": attributes.get(REASON, ""),
        "attempts": attributes.get(ATTEMPTS, []),
        "evaluations": [[step, _finite(merit)] for step, merit in learning],
        "folder": f"{TRIALS}/{trial.number:05d}" if COMPLETE in attributes else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
