"""`caloforge validate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.outcome import Outcome


def validate(
    truth: Path,
    generated: Path,
    *more: Path,
    out: Annotated[Path, Parameter(name=["-o", "--out"])],
    thresholds: str = "3dgan",
    classifier: bool = True,
    seed: int = 0,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> Outcome:
    """Compare generated showers with full simulation and write a report.

    Args:
        truth: Shower file of the full simulation.
        generated: Shower file to judge.
        more: Further shower files, overlaid in the same report.
        out: The report directory to make: report.html, metrics.json, figures.
        thresholds: Name of a threshold set, or a YAML file.
        classifier: Also train boosted trees to tell the samples apart.
        seed: Seed of the bootstrap and of the classifier.
        force: Replace an existing report.
    """
    from caloforge.validation import validate_files

    result = validate_files(
        Path(truth),
        [Path(path) for path in (generated, *more)],
        Path(out),
        thresholds=thresholds,
        classifier=classifier,
        seed=seed,
        force=force,
    )
    verdict = "within" if result.passed else "NOT within"
    text = f"{verdict} the thresholds '{thresholds}'\n{result.report}"
    return Outcome(
        text, 0 if result.passed else 3, passed=result.passed, report=result.report, metrics=result.metrics
    )
