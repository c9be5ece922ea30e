"""Runs a study from its configuration to its report, or resumes it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.config import to_yaml
from caloforge.errors import ConfigError, DataError, Interrupted
from caloforge.files import write_text
from caloforge.observables import catalogue
from caloforge.ray_connection import SEARCH, require_ray
from caloforge.run_directory import RUN
from caloforge.showers import ShowerFile
from caloforge.showers.joined import file_record
from caloforge.tuning.config import StudyConfig
from caloforge.tuning.driver import TRIALS, ProgressCallback, Search
from caloforge.tuning.final_evaluation import compare_with_start
from caloforge.tuning.folds import Fold, make_folds, plan_folds
from caloforge.tuning.objective import check_observables, needs_validation
from caloforge.tuning.space import Space
from caloforge.tuning.storage import check_identity, open_study, study_folder
from caloforge.tuning.study_document import study_document
from caloforge.tuning.suggestion_thread import Suggestions, count_trials
from caloforge.tuning.trial import Work, train_fold
from caloforge.tuning.worker_groups import Cluster

if TYPE_CHECKING:
    from optuna import Study

REPORT, DOCUMENT, BEST, CONFIG = "study.html", "study.json", "best.yaml", "study.yaml"
# settings of the evaluation that must not be searched, since trials would not be comparable
EVALUATION_KEYS = tuple(f"training.evaluation.{key}" for key in ("share", "seed", "fold", "showers"))
# user attribute of the study: times summed over all searches
TIMES = "times"


@dataclass(frozen=True)
class StudyResult:
    """Result of a search.

    Attributes:
        document: Content of study.json.
        report: Path of study.html.
        best: Path of best.yaml; None without a completed trial.
    """

    document: dict[str, Any]
    report: Path
    best: Path | None


def run_study(
    config: StudyConfig,
    out: Path,
    *,
    folder: Path = Path(),
    address: str | None = None,
    progress: ProgressCallback = lambda _: None,
    work: Work = train_fold,
) -> StudyResult:
    """Run a study, or resume one that was interrupted in any way.

    Args:
        config: The study.
        out: Its folder; with the folder of an earlier search that search is resumed.
        folder: Folder that paths in the study are relative to.
        address: Address of a Ray cluster; without one Ray is started on this machine.
        progress: Called with the status a few times per second.
        work: Function that a worker runs for one fold of a trial.

    Raises:
        ConfigError: The space has unknown keys or no valid point, the study was begun with another
            configuration, or the layout does not fit.
        DataError: Shower files that cannot be used.
        MissingDependencyError: Ray or Optuna is not installed.
        OutputError: The folder holds something else, or another search is using it.
        TuningError: Ray does not start or answer, or too many trials fail.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    require_ray(SEARCH)
    space = Space(config, folder, config.name)
    if config.data is None:
        raise ConfigError("no showers to train on; give --data FILE, or data: FILE in the study")
    data = folder / config.data
    test = None if config.test is None else folder / config.test
    run = _check(config, space, [path for path in (data, test) if path is not None])
    splitting: dict[str, Any] = {
        "k": config.layout.k_folds,
        "evaluation": run.training.evaluation,
        "validate": needs_validation([o.figure for o in config.objectives]),
    }
    plan_folds(data, **splitting)
    with study_folder(Path(out).absolute()) as out_:
        out = out_
        check_identity(out, _identity(config, space, data))
        write_text(out / CONFIG, to_yaml(config))
        folds = make_folds(data, folder=out / "folds", **splitting)
        study = open_study(out, config, space)
        _search(study, config, space, out, folds, address=address, progress=progress, work=work)
        final = None
        if test is not None and work is train_fold:
            final = compare_with_start(study, config, out, test)
        return _finish(study, config, out, final)


def _check(config: StudyConfig, space: Space, files: list[Path]) -> Any:
    """Check space, shower files and objectives before a trial is run; returns the run to start from."""
    fixed = [key for key in space.parameters if key in EVALUATION_KEYS]
    if fixed:
        raise ConfigError(f"space: {fixed[0]} decides what trials are judged by, so it cannot be searched")
    space.check()
    run = space.base()
    for path in files:
        with ShowerFile(path) as file:
            if file.detector.geometry_digest != run.detector.geometry_digest:
                raise DataError(
                    f"{path}: its detector is {file.detector.name} {file.detector.shower_shape}, the run "
                    f"describes {run.detector.name} {run.detector.shower_shape}"
                )
    observables = catalogue(run.detector, threshold=1.0, impacts=run.beam.impact == "cell")
    names = [observable.name for observable in observables]
    check_observables([o.figure for o in config.objectives], names)
    return run


def _identity(config: StudyConfig, space: Space, data: Path) -> dict[str, Any]:
    """Settings and data that must not change between the searches of a study, as JSON."""
    return {
        "name": config.name,
        "seed": config.seed,
        "space": space.describe(),
        "objectives": [o.model_dump(mode="json") for o in config.objectives],
        "k_folds": config.layout.k_folds,
        "run": space.base().model_dump(mode="json"),
        "data": file_record(data)["sha256"],
    }


def _search(
    study: Study,
    config: StudyConfig,
    space: Space,
    out: Path,
    folds: list[Fold],
    *,
    address: str | None,
    progress: ProgressCallback,
    work: Work,
) -> None:
    """Run trials up to a limit; adds the times of this search to those of earlier ones."""
    ended = [t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    times: dict[str, float] = dict(study.user_attrs.get(TIMES, {}))
    if _complete(study, config, times):
        return
    search = None
    suggestions = Suggestions(study, space, limit=config.max_trials, max_ahead=config.layout.groups)
    try:
        with Cluster(config.layout, None, address) as cluster:
            if address is not None:
                cluster.groups[0].check_folder(out / CONFIG)
            with suggestions:
                search = Search(
                    config,
                    out,
                    cluster,
                    suggestions,
                    folds,
                    work=work,
                    progress=progress,
                    before=len(ended),
                    seconds=times.get("seconds", 0.0),
                )
                search.run()
    except Interrupted as error:
        _record_times(study, times, search, suggestions)
        _finish(study, config, out, None)
        raise Interrupted(
            "stopped; every trial is saved, and running ones continue from their checkpoints. Continue: the "
            f"same caloforge tune command with -o {shlex.quote(str(out))}"
        ) from error
    _record_times(study, times, search, suggestions)


def _complete(study: Study, config: StudyConfig, times: dict[str, float]) -> bool:
    """Whether the study has reached one of its limits."""
    done, waiting = count_trials(study)
    out_of_time = config.max_minutes is not None and times.get("seconds", 0.0) > 60 * config.max_minutes
    return out_of_time or (done >= config.max_trials and not waiting)


def _record_times(
    study: Study, times: dict[str, float], search: Search | None, suggestions: Suggestions
) -> None:
    if search is None:
        return
    study.set_user_attr(
        TIMES,
        {
            "seconds": search.seconds,
            "waited": times.get("waited", 0.0) + search.idle.waited,
            "lasted": times.get("lasted", 0.0) + search.idle.total,
            "suggesting": times.get("suggesting", 0.0) + suggestions.fit_seconds,
        },
    )


def _finish(study: Study, config: StudyConfig, out: Path, final: dict[str, Any] | None) -> StudyResult:
    """Write study.json, study.html and the runs of the best trials."""
    from caloforge.tuning.report import build_report

    times = study.user_attrs.get(TIMES, {})
    lasted = times.get("lasted", 0.0)
    document = study_document(
        study,
        config,
        out,
        seconds=times.get("seconds", 0.0),
        suggesting_seconds=times.get("suggesting", 0.0),
        idle_share=times.get("waited", 0.0) / lasted if lasted else None,
        final=final,
    )
    write_text(out / DOCUMENT, json.dumps(document, indent=1, allow_nan=False))
    best = None
    if document["front"]:
        best = out / BEST
        for number in document["front"]:
            text = _commented(
                document, number, (out / TRIALS / f"{number:05d}" / RUN).read_text(encoding="utf-8")
            )
            if len(document["front"]) > 1:
                (out / "front").mkdir(exist_ok=True)
                write_text(out / "front" / f"{number:05d}.yaml", text)
            if number == document["best"]:
                write_text(best, text)
    write_text(out / REPORT, build_report(study, document))
    return StudyResult(document, out / REPORT, best)


def _commented(document: dict[str, Any], number: int, run: str) -> str:
    figures = document["trials"][number]["figures"]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"# trial {number} of the study {document['name']}: {shown}\n{run}"
