"""`caloforge benchmark` and `caloforge benchmark scaling`."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from caloforge.commands.options import FilePath, Seed, Showers, Whole
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.errors import ConfigError
from caloforge.files import check_new, replacing, write_text, writing

if TYPE_CHECKING:
    from caloforge.timing.precisions import PrecisionPlan

# settings of --quick: the same measurements, too short to be published
QUICK: dict[str, Any] = {"showers": 4, "seconds": 0.2, "batches": (1, 8)}


def benchmark(
    *models: str,
    run: str = "clic-electron",
    n: Annotated[Showers | None, Parameter(name=["-n", "--n"])] = None,
    precision: Literal["validated", "all"] = "validated",
    truth: FilePath | None = None,
    cnn: Annotated[bool, Parameter(negative=())] = False,
    all_cores: Annotated[bool, Parameter(negative=())] = False,
    out: Annotated[FilePath | None, Parameter(name=["-o", "--out"])] = None,
    quick: Annotated[bool, Parameter(negative=())] = False,
    seed: Seed = 1,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Time Geant4, the published networks, the frozen library and trained models in one run.

    With `--precision all` only the models are measured, on every backend in every arithmetic, one core each:
    the time of a shower, and how far the showers are from Geant4.

    Args:
        models: Run or model directories, or names of released models.
        run: A run.yaml, or the name of a recipe, whose beam Geant4 simulates.
        n: Geant4 showers, by default 40; with `--precision all` those of the truth that are made again, by
            default all.
        precision: The arithmetic that the card of a model allows, or all.
        truth: With `--precision all`: shower file of Geant4 that the models were not trained on.
        cnn: With `--precision all`: also train the CNN of `validate --neural strong` on the showers of each
            path, at most 1000 of them, which takes minutes.
        all_cores: Measure on all cores, too.
        out: Output directory, with benchmark.json and benchmark.md, or precisions.json and precisions.md.
        quick: Rough figures in a minute, not to be published.
        seed: Seed of showers, weights and noise.
        force: Replace an existing output.
        progress: Show progress.
    """
    from caloforge.run import load_run
    from caloforge.timing import Plan, compare, markdown_table, text_table
    from caloforge.timing.sources import installed_backends, trained

    if out is not None:
        out = check_new(out, force=force)
    if precision == "all":
        every = _precision_plan(models, truth, n, quick=quick, all_cores=all_cores, seed=seed)
        return _precisions(replace(every, cnn=cnn), out, progress=progress)
    if truth is not None or cnn:
        option = "--cnn" if truth is None else "--truth"
        raise ConfigError(f"{option} is for --precision all; Geant4 is timed by showers of its own")
    config = load_run(run)
    cores = len(os.sched_getaffinity(0))
    plan = Plan(
        name=config.name,
        detector=config.detector,
        beam=config.beam,
        fullsim=config.fullsim,
        models=tuple(trained(name) for name in models),
        threads=(1, cores) if all_cores and cores > 1 else (1,),
        backends=installed_backends(),
        seed=seed,
        **(QUICK if quick else {"showers": n or 40}),
    )
    with Meter("benchmark", 1, "steps", enabled=progress) as meter:
        document = compare(plan, meter.update)
    if out is not None:
        with writing(out):
            out.mkdir(exist_ok=True)
        write_text(out / "benchmark.json", json.dumps(document, indent=1))
        write_text(out / "benchmark.md", markdown_table(document))
    return Outcome(text_table(document), path=out, **document)


def _precision_plan(
    models: tuple[str, ...],
    truth: str | Path | None,
    n: int | None,
    *,
    quick: bool,
    all_cores: bool,
    seed: int,
) -> "PrecisionPlan":
    """Check what was asked for, before anything runs.

    Raises:
        ConfigError: No model, no truth, or several cores.
        DataError: The truth has another detector, or fewer showers.
    """
    from caloforge.generation.conditions import conditions_like
    from caloforge.models.store import read_model
    from caloforge.timing.precisions import PrecisionPlan
    from caloforge.timing.sources import trained

    if not models:
        raise ConfigError("--precision all compares models with Geant4: give at least one model")
    if truth is None:
        raise ConfigError(
            "--precision all compares models with Geant4: give --truth FILE, showers that they were not "
            "trained on, such as of: caloforge simulate RUN -n 2000 --seed 77 -o truth.h5"
        )
    if all_cores:
        raise ConfigError("--precision all measures on one core; leave --all-cores out")
    counts = {len(conditions_like(Path(truth), read_model(name).detector, n)) for name in models}
    sources = tuple(trained(name) for name in models)
    short = {key: QUICK[key] for key in ("seconds", "batches")} if quick else {}
    return PrecisionPlan(sources, Path(truth), min(counts), seed=seed, **short)


def _precisions(plan: "PrecisionPlan", out: Path | None, *, progress: bool) -> Outcome:
    from caloforge.timing.precisions import compare_precisions, precision_table

    with Meter("benchmark", 1, "steps", enabled=progress) as meter:
        document = compare_precisions(plan, meter.update)
    table = precision_table(document)
    if out is not None:
        with writing(out):
            out.mkdir(exist_ok=True)
        write_text(out / "precisions.json", json.dumps(document, indent=1))
        write_text(out / "precisions.md", table)
    return Outcome(table.rstrip(), path=out, **document)


def benchmark_scaling(
    run: str = "demo",
    *,
    data: FilePath | None = None,
    processes: Whole | None = None,
    steps: Whole = 30,
    nodes: Whole = 128,
    network: str = "omni-path",
    per_node: Whole = 1,
    out: Annotated[FilePath | None, Parameter(name=["-o", "--out"])] = None,
    seed: Seed = 1,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Time a training on one and several processes, and project it to many nodes.

    Args:
        run: A run.yaml, or the name of a recipe, whose training is timed.
        data: The shower file to train on; the default is random showers.
        processes: The largest number of processes to measure; the default is 2.
        steps: Training steps in each measurement.
        nodes: The largest number of nodes to project to.
        network: What connects the nodes in the projection, such as omni-path, edr, hdr or ethernet-10.
        per_node: Processes on a node in the projection.
        out: Output directory, with scaling.json, scaling.md and scaling.png.
        seed: Seed of showers, weights and order.
        force: Replace an existing output.
        progress: Show progress.
    """
    from caloforge.run import load_run
    from caloforge.timing.scaling.document import Plan, scaling_document
    from caloforge.timing.scaling.tables import markdown_tables, text_tables

    config = load_run(run)
    if out is not None:
        out = check_new(out, force=force)
    plan = Plan(
        name=config.name,
        detector=config.detector,
        beam=config.beam,
        model=config.model,
        training=config.training,
        data=None if data is None else Path(data),
        processes=processes,
        steps=steps,
        nodes=nodes,
        network=network,
        per_node=per_node,
        seed=seed,
    )
    with Meter("benchmark scaling", 1, "steps", enabled=progress) as meter:
        document = scaling_document(plan, meter.update)
    if out is not None:
        from caloforge.timing.scaling.pictures import speedup_figure

        with writing(out):
            out.mkdir(exist_ok=True)
        write_text(out / "scaling.json", json.dumps(document, indent=1))
        write_text(out / "scaling.md", markdown_tables(document))
        with replacing(out / "scaling.png") as temporary:
            speedup_figure(document).savefig(temporary, format="png")
    return Outcome(text_tables(document), path=out, **document)
