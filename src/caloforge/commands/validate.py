"""`caloforge validate`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from caloforge.commands.outcome import Outcome

Network = Literal["low", "low-normed", "high", "cnn", "strong"]


def validate(
    truth: Path,
    generated: Path,
    *more: Path,
    out: Annotated[Path, Parameter(name=["-o", "--out"])],
    thresholds: str = "3dgan",
    classifier: bool = True,
    truth2: Path | None = None,
    reweight: Annotated[bool, Parameter(negative=())] = False,
    threshold: str | None = None,
    neural: Annotated[list[Network] | None, Parameter(negative=())] = None,
    repeats: int = 1,
    triforce: Annotated[list[Path] | None, Parameter(negative=())] = None,
    protocol: Literal["calochallenge"] | None = None,
    pdf: bool = True,
    seed: int = 0,
    workers: int | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Compare generated showers with full simulation and write a report with a verdict.

    Exit code 3 says that a sample is not within the thresholds.

    Args:
        truth: Shower file of the full simulation.
        generated: Shower file to judge.
        more: Further shower files, overlaid in the same report.
        out: The report directory to make: report.html, metrics.json, figures.
        thresholds: Name of a threshold set (strict, 3dgan), or a YAML file.
        classifier: Also train boosted trees to tell the samples apart.
        truth2: A second, independent sample of the full simulation, which sets the floor of every metric.
        reweight: Thin samples to the truth's incident spectrum instead of refusing them.
        threshold: Voxels above this energy are hits, such as "0.3 MeV".
        neural: Also train this neural classifier, repeatable; strong takes minutes, the others, those of the
            CaloChallenge, minutes to hours.
        repeats: Trainings of each neural classifier.
        triforce: Shower file of the full simulation to train a particle classifier and an energy regressor
            on, repeatable; minutes.
        protocol: Add the row that a submission to the CaloChallenge would have.
        pdf: Also draw every figure as a PDF.
        seed: Seed of the bootstrap and of every training.
        workers: Threads, and processes that draw; the default is one per core.
        force: Replace an existing report.
        progress: Show progress.
    """
    import os

    from caloforge.commands.progress import Meter
    from caloforge.units import parse_energy
    from caloforge.validation import validate_files

    meters: dict[str, Meter] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in meters:
            meters[what] = Meter(what, total, "", enabled=progress).__enter__()
        meters[what].update(done, total)
        if done >= total:
            meters[what].__exit__(None, None, None)

    result = validate_files(
        Path(truth),
        [Path(path) for path in (generated, *more)],
        Path(out),
        thresholds=thresholds,
        classifier=classifier,
        truth2=truth2,
        reweight=reweight,
        threshold=None if threshold is None else parse_energy(threshold),
        neural=neural or (),
        repeats=repeats,
        triforce=triforce or (),
        protocol=protocol,
        pdf=pdf,
        seed=seed,
        workers=workers or len(os.sched_getaffinity(0)),
        force=force,
        progress=show,
    )
    lines = [_line(name, entry, thresholds) for name, entry in result.metrics["generators"].items()]
    lines += [f"note: {note}" for note in result.metrics["notes"]]
    text = "\n".join([*lines, str(result.report)])
    facts = {
        name: {key: entry[key] for key in ("passed", "trials", "critical_sigma", "undecided", "failures")}
        for name, entry in result.metrics["generators"].items()
    }
    code = 0 if result.passed else 3
    return Outcome(text, code, passed=result.passed, report=result.report, generators=facts)


def _line(name: str, entry: dict[str, object], thresholds: str) -> str:
    """The verdict on one generator in a line."""
    failures = entry["failures"]
    assert isinstance(failures, list)
    if not failures:
        return f"{name}: within the thresholds '{thresholds}', {entry['trials']} comparisons"
    names = list(dict.fromkeys(failure["observable"] for failure in failures))
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"{name}: NOT within the thresholds '{thresholds}': {len(names)} observables fail ({shown})"
