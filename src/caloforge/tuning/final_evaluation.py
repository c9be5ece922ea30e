"""Final evaluation of a study: the best trial against the start, on test showers not used in the search."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import TuningError
from caloforge.files import write_text
from caloforge.showers.joined import file_record
from caloforge.tuning.config import StudyConfig
from caloforge.tuning.driver import fold_folder
from caloforge.tuning.objective import MERIT, Value, combine
from caloforge.tuning.study_document import best_trials, start_trial
from caloforge.tuning.trial import LOG, generate_and_validate
from caloforge.tuning.verb_processes import NotDoneError, VerbRunner

if TYPE_CHECKING:
    from optuna import Study

FINAL = "final"
# merits from `validate`, in place of the merit of the evaluations during the training
PHYSICS = ("merit_sum", "merit_p", "merit_e")


def compare_with_start(study: Study, config: StudyConfig, out: Path, test: Path) -> dict[str, Any] | None:
    """Validate the models of all folds of both trials with the test showers.

    Returns:
        "test", "figures" (name: {"start", "best", "improvement"}), and the numbers of the trials; None
        without a completed trial.

    Raises:
        TuningError: A model cannot be validated.
    """
    start, best = start_trial(study), next(iter(best_trials(study)), None)
    numbers = {name: n for name, n in (("start", start), ("best", best)) if n is not None}
    if "best" not in numbers:
        return None
    digest = file_record(test)["sha256"]
    path = out / FINAL / "final.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["trials"] == numbers and kept["test"]["sha256"] == digest:
            return kept
    names = list(dict.fromkeys([*PHYSICS, *(o.figure for o in config.objectives if o.figure != MERIT)]))
    judged = {number: _evaluate_trial(config, out, test, number, names) for number in set(numbers.values())}
    found = {name: judged[number] for name, number in numbers.items()}
    figures: dict[str, Any] = {name: {which: _entry(f[name]) for which, f in found.items()} for name in names}
    for entry in figures.values():
        if "start" in entry and entry["start"]["value"]:
            entry["improvement"] = 1 - entry["best"]["value"] / entry["start"]["value"]
    document = {"trials": numbers, "test": {"file": test.name, "sha256": digest}, "figures": figures}
    write_text(path, json.dumps(document, indent=1))
    return document


def _entry(found: Value) -> dict[str, float | None]:
    return {"value": found.value, "standard_error": found.error if math.isfinite(found.error) else None}


def _evaluate_trial(
    config: StudyConfig, out: Path, test: Path, number: int, names: list[str]
) -> dict[str, Value]:
    folder = out / FINAL / f"{number:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    threads = max(1, int(config.layout.cores))
    verbs = VerbRunner(folder / LOG, threads)
    folds = []
    for fold in range(config.layout.k_folds):
        model = fold_folder(out, number, fold)
        try:
            folds.append(
                generate_and_validate(model, test, folder / f"fold-{fold}", names, config.seed, verbs)
            )
        except NotDoneError as error:
            raise TuningError(f"trial {number} cannot be judged on {test}: {error}") from error
    return {name: combine(folds, name) for name in names}
