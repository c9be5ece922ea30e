"""`caloforge benchmark` and `caloforge benchmark scaling`."""

import json
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.options import FilePath, Seed, Showers, Whole
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.files import check_new, replacing, write_text, writing

# settings of --quick: the same measurements, too short to be published
QUICK = {"showers": 4, "seconds": 0.2, "batches": (1, 8)}


def benchmark(
    *models: str,
    run: str = "clic-electron",
    n: Annotated[Showers, Parameter(name=["-n", "--n"])] = 40,
    all_cores: Annotated[bool, Parameter(negative=())] = False,
    out: Annotated[FilePath | None, Parameter(name=["-o", "--out"])] = None,
    quick: Annotated[bool, Parameter(negative=())] = False,
    seed: Seed = 1,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Time Geant4, the published networks, the frozen library and trained models in one run.

    Args:
        models: Run or model directories, or names of released models.
        run: A run.yaml, or the name of a recipe, whose beam Geant4 simulates.
        n: Geant4 showers.
        all_cores: Measure on all cores, too.
        out: Output directory, with benchmark.json and benchmark.md.
        quick: Rough figures in a minute, not to be published.
        seed: Seed of showers, weights and noise.
        force: Replace an existing output.
        progress: Show progress.
    """
    from caloforge.run import load_run
    from caloforge.timing import Plan, compare, markdown_table, text_table
    from caloforge.timing.sources import installed_backends, trained

    config = load_run(run)
    if out is not None:
        out = check_new(out, force=force)
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
        **(QUICK if quick else {"showers": n}),
    )
    with Meter("benchmark", 1, "steps", enabled=progress) as meter:
        document = compare(plan, meter.update)
    if out is not None:
        with writing(out):
            out.mkdir(exist_ok=True)
        write_text(out / "benchmark.json", json.dumps(document, indent=1))
        write_text(out / "benchmark.md", markdown_table(document))
    return Outcome(text_table(document), path=out, **document)


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
