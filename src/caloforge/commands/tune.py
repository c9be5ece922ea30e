"""`caloforge tune`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.options import FilePath
from caloforge.commands.outcome import Outcome


def tune(
    study: str | Path,
    *,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    data: FilePath | None = None,
    test: FilePath | None = None,
    address: str | None = None,
    progress: bool = True,
) -> Outcome:
    """Search for the best settings of a run; the same command resumes an interrupted search.

    Args:
        study: A study.yaml, or the name of a study that comes with caloforge.
        out: The folder of the study: study.html, study.json, best.yaml, trials.
        data: The shower file to train on, instead of the one in the study.
        test: Showers for the final test, which the search does not use; likewise.
        address: A Ray cluster, such as ray://head:10001 or auto; without one the search runs on this machine.
        progress: Show progress.
    """
    from caloforge.commands.study_progress import StudyTable
    from caloforge.tuning.config import load_study, study_file
    from caloforge.tuning.study import run_study

    config = load_study(study)
    # paths in the study are relative to its folder
    given = {
        name: str(Path(path).absolute())
        for name, path in (("data", data), ("test", test))
        if path is not None
    }
    config = config.model_copy(update=given)
    with StudyTable([o.figure for o in config.objectives], enabled=progress) as table:
        result = run_study(
            config, Path(out), folder=study_file(study).parent, address=address, progress=table.update
        )
    document = result.document
    return Outcome(
        _text(document, result.report, result.best),
        report=result.report,
        best=result.best,
        **{key: document[key] for key in ("counts", "front", "idle_share", "seconds", "final")},
        figures=document["trials"][document["best"]]["figures"] if document["best"] is not None else None,
    )


def _text(document: dict[str, object], report: Path, best: Path | None) -> str:
    counts = document["counts"]
    assert isinstance(counts, dict)
    shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"trials: {shown}"]
    trials, number = document["trials"], document["best"]
    if best is not None and isinstance(trials, list) and isinstance(number, int):
        figures = ", ".join(f"{name} {value:.4g}" for name, value in trials[number]["figures"].items())
        lines.append(f"best: trial {number}, {figures}; ready to train: {best}")
    final = document["final"]
    if isinstance(final, dict):
        entry = final["figures"]["merit_sum"]
        if "improvement" in entry:
            lines.append(
                f"on the test showers: merit_sum {entry['best']['value']:.4g}, "
                f"at the start {entry['start']['value']:.4g} ({entry['improvement']:+.1%} smaller)"
            )
    return "\n".join([*lines, str(report)])
