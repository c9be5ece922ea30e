"""`caloforge validate`."""

import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from caloforge.commands.options import SEVERAL, FilePath, ShortSeed, Whole, Workers
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.errors import OutputError
from caloforge.names import shipped_name
from caloforge.output import write_line

Network = Literal["low", "low-normed", "high", "cnn", "strong"]
EXIT_CODES = {"within": 0, "not within": 3, "undecided": 4}
# entries of each generator in metrics.json that the verb returns
FACTS = (
    "verdict", "sentence", "passed", "trials", "critical_sigma", "undecided", "showers_needed", "failures",
    "equivalent_statistics",
)  # fmt: skip


def validate(
    truth: FilePath,
    generated: str | Path,
    *more: str | Path,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    thresholds: str = "3dgan",
    classifier: bool = True,
    truth2: FilePath | None = None,
    training: Annotated[list[FilePath] | None, SEVERAL] = None,
    reweight: Annotated[bool, Parameter(negative=())] = False,
    threshold: str | None = None,
    neural: Annotated[list[Network] | None, Parameter(negative=())] = None,
    repeats: Whole = 1,
    triforce: Annotated[list[FilePath] | None, SEVERAL] = None,
    protocol: Literal["calochallenge"] | None = None,
    pdf: bool = True,
    seed: ShortSeed = 0,
    workers: Workers | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    allow_undecided: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Compare generated showers with full simulation and write a report with a verdict.

    Exit code 0: every sample is within the thresholds; 3: one is not; 4: no comparison fails, but there are
    too few showers to decide all of them.

    Args:
        truth: Shower file of the full simulation. A pattern such as `truth-*.h5` or `truth-{1,2}.h5`, here
            and for every other sample, names several files that are read as one.
        generated: Shower file to validate, or a model to generate it: a run directory, a model directory, or
            the name of a released model.
        more: Further ones, overlaid in the same report.
        out: The report directory to create: report.html, metrics.json, figures.
        thresholds: Name of a threshold set (strict, 3dgan), or a YAML file.
        classifier: Also train boosted trees to distinguish the samples.
        truth2: A second, independent sample of the full simulation, for the floor of every metric.
        training: Shower files that the generator was trained on, to find near copies of their showers.
        reweight: Thin samples to the truth's incident spectrum instead of refusing them.
        threshold: Voxels above this energy are hits, such as "0.3 MeV".
        neural: Also train this neural classifier, repeatable; strong sees every cell; the others are
            those of the CaloChallenge. Minutes to hours.
        repeats: Trainings of each neural classifier.
        triforce: Shower files of the full simulation to train a particle classifier and an energy regressor
            on; minutes.
        protocol: Add the metrics of a submission to the CaloChallenge.
        pdf: Also draw every figure as a PDF.
        seed: Seed of the bootstrap and of every training.
        workers: Threads, and processes that draw; the default is one per core.
        force: Replace an existing report.
        allow_undecided: Exit with 0 if no comparison fails, even if some are undecided.
        progress: Show progress.
    """
    import os
    import shutil

    from caloforge.files import partial_path, writing
    from caloforge.models.store import read_model
    from caloforge.units import parse_energy
    from caloforge.validation.validate import check_request, validate_files

    meters: dict[str, Meter] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in meters:
            meters[what] = Meter(what, total, "", enabled=progress).__enter__()
        meters[what].update(done, total)
        if done >= total:
            meters[what].__exit__(None, None, None)

    out = Path(out)
    samples = [generated, *more]
    models = [sample for sample in samples if _is_model(sample)]
    options: dict[str, Any] = {
        "thresholds": thresholds,
        "truth2": truth2,
        "training": training or (),
        "reweight": reweight,
        "threshold": None if threshold is None else parse_energy(threshold),
        "neural": neural or (),
        "triforce": triforce or (),
        "protocol": protocol,
        "seed": seed,
        "force": force,
    }
    with contextlib.ExitStack() as stack:
        if models:
            # before generating showers, which takes minutes
            check_request(truth, [sample for sample in samples if sample not in models], out, **options)
            for model in models:
                read_model(model)
            made = partial_path(out.with_name(f"{out.name}-showers"))
            stack.callback(shutil.rmtree, made, ignore_errors=True)
            shutil.rmtree(made, ignore_errors=True)
            with writing(out):
                made.mkdir()
            for model in models:
                samples[samples.index(model)] = _generate(model, Path(truth), made, out, seed, progress)
        result = validate_files(
            truth,
            samples,
            out,
            classifier=classifier,
            repeats=repeats,
            pdf=pdf,
            workers=workers or len(os.sched_getaffinity(0)),
            progress=show,
            **options,
        )
    generators = result.metrics["generators"]
    lines = [f"{name}: {entry['sentence']}" for name, entry in generators.items()]
    lines += [
        f"{name}: {entry['equivalent_statistics']['sentence']}"
        for name, entry in generators.items()
        if entry["equivalent_statistics"]
    ]
    lines += [f"note: {note}" for note in result.metrics["notes"]]
    text = "\n".join([*lines, str(result.report)])
    facts = {name: {key: entry[key] for key in FACTS} for name, entry in generators.items()}
    code = EXIT_CODES[result.verdict] if not (allow_undecided and result.verdict == "undecided") else 0
    return Outcome(
        text, code, verdict=result.verdict, passed=code == 0, report=result.report, generators=facts
    )


def _is_model(sample: str | Path) -> bool:
    """Whether a sample is given as a model, and not as a shower file."""
    from caloforge.models.released import released_models

    if shipped_name(sample, released_models(), "released model"):
        return True
    path = Path(sample)
    return path.is_dir() or not (path.exists() or path.suffix)


def _generate(model: str | Path, truth: Path, folder: Path, report: Path, seed: int, progress: bool) -> Path:
    """Generate showers with a model at the incident conditions of the truth, in a temporary folder."""
    from caloforge.generation import model_provenance
    from caloforge.generation.backend_selection import plan_for
    from caloforge.generation.conditions import conditions_like
    from caloforge.generation.generate import generate_file
    from caloforge.models.store import read_model

    stored = read_model(model)
    conditions = conditions_like(truth, stored.detector, None)
    plan = plan_for(
        stored,
        len(conditions),
        say=(lambda text: write_line(f"generate: {text}")) if progress else lambda _: None,
    )
    out = folder / f"{Path(model).absolute().name}.h5"
    try:
        with Meter("generate", len(conditions), enabled=progress) as meter:
            generate_file(
                stored,
                conditions,
                out,
                seed=seed,
                provenance=model_provenance.provenance_of(stored, plan, seed, model_provenance.like(truth)),
                plan=plan,
                progress=meter.update,
            )
    except OutputError as error:
        reason = str(error).removeprefix(f"{out}: ")
        raise OutputError(f"{report}: the showers of {model} for it: {reason}") from error
    return out
