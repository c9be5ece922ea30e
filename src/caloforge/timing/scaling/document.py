"""The whole benchmark: trainings measured here, their projection, and the errors of the model elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caloforge import provenance
from caloforge.beam import BeamConfig
from caloforge.config import StrictModel
from caloforge.errors import ConfigError, DataError
from caloforge.geometry import Detector
from caloforge.models.registry import ModelConfig
from caloforge.showers import ShowerFile, ShowerWriter
from caloforge.timing.machine import machine
from caloforge.timing.scaling.allreduce import Link, Network
from caloforge.timing.scaling.measurement import (
    Measured,
    batches,
    layouts,
    measure_link,
    measure_training,
)
from caloforge.timing.scaling.projection import Scaling, Workload, project, speedup
from caloforge.timing.scaling.published import network_link, predict, published_tables
from caloforge.training.config import TrainingConfig

FORMAT = "caloforge-scaling"
FORMAT_VERSION = 1
# made-up showers fill this many steps of the largest layout
EPOCH_STEPS = 4
# an epoch of the projection where no data are given: of the talk's million showers, nine tenths
PROJECTED_SHOWERS = 900_000

Tell = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Plan:
    """What is measured and what it is projected to.

    Attributes:
        name: Of the run.
        detector: Its detector.
        beam: Its beam, for made-up showers.
        model: Its network.
        training: How it is trained.
        data: A shower file; made-up showers where there is none.
        processes: The largest number measured.
        steps: Counted in each measurement.
        nodes: The largest number projected to.
        network: Between them, by its name.
        per_node: Processes on a node.
        seed: Of showers, weights and order.
    """

    name: str
    detector: Detector
    beam: BeamConfig
    model: ModelConfig
    training: TrainingConfig
    data: Path | None = None
    processes: int | None = None
    steps: int = 30
    nodes: int = 128
    network: str = "omni-path"
    per_node: int = 1
    seed: int = 1


def scaling_document(plan: Plan, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Measure everything; returns the document of scaling.json.

    Args:
        plan: What.
        tell: Called with (steps done, steps, what is measured now).

    Raises:
        ConfigError: More processes than cores, an unknown network, a batch too small to be dealt out.
        DataError: Showers of another detector.
        TrainingError: A training failed.
    """
    network = Network(network_link(plan.network), per_node=plan.per_node)
    if plan.steps < 4 or plan.nodes < 1 or plan.per_node < 1:
        raise ConfigError("expected --steps of 4 or more, and --nodes and --per-node of 1 or more")
    counts = layouts(plan.processes)
    runs = batches(plan.training.batch_size, counts)
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        data = _showers(plan, Path(folder), counts[-1])
        showers, judged = _shares(plan, data)
        measured = _measure(plan, data, list(runs), tell)
    link, seconds = measure_link(2) if counts[-1] > 1 else (None, [])
    tell(len(runs) + 1, len(runs) + 1, "")
    work = workload(plan, list(measured.values()), showers, judged)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **provenance.collect(),
        "machine": facts,
        "run": plan.name,
        "detector": plan.detector.name,
        "data": str(plan.data) if plan.data else "made up",
        "steps": plan.steps,
        "seed": plan.seed,
        "measured": _measured_rows(measured, runs),
        "link": None if link is None else _link_row(link, seconds, work),
        "workload": {**asdict(work), "storage": None},
        "network": {"name": plan.network, "per_node": plan.per_node, **asdict(network.between)},
        "projected": _projected_rows(plan, work, network),
        "published": published_rows(),
    }


def _shares(plan: Plan, data: Path) -> tuple[int, int]:
    """Showers of an epoch that is projected, and those that are judged in a measurement."""
    from caloforge.training.data_split import split_file

    split = split_file(data, plan.training, 1)
    judged = len(split.judged(plan.training.evaluation.showers))
    return PROJECTED_SHOWERS if plan.data is None else len(split.trained), judged


def _showers(plan: Plan, folder: Path, processes: int) -> Path:
    """The file to train on."""
    if plan.data is None:
        from caloforge.training.preflight import made_up_showers

        share = 1 - plan.training.evaluation.share
        count = round(EPOCH_STEPS * plan.training.batch_size * processes / share) + 2
        path = folder / "showers.h5"
        with ShowerWriter(path, plan.detector, {"engine": "made up for a measurement"}) as writer:
            writer.append(made_up_showers(plan.detector, plan.beam, count))
        return path
    with ShowerFile(plan.data) as file:
        if file.detector.geometry_digest != plan.detector.geometry_digest:
            raise DataError(
                f"{plan.data}: its detector is {file.detector.name} {file.detector.shower_shape}, the run "
                f"describes {plan.detector.name} {plan.detector.shower_shape}; give the run of these showers"
            )
        return plan.data


def _measure(
    plan: Plan, data: Path, runs: list[tuple[int, int]], tell: Tell
) -> dict[tuple[int, int], Measured]:
    def section(config: StrictModel) -> dict[str, Any]:
        return config.model_dump(mode="json")

    training = section(plan.training)
    if plan.training.precision == "auto":
        # what is faster may differ from run to run
        training["precision"] = "fp32"
    run = {"model": section(plan.model), "training": training}
    found = {}
    for done, (count, batch) in enumerate(runs):
        tell(done, len(runs) + 1, f"{count} process(es), batches of {batch}")
        found[count, batch] = measure_training(run, data, count, batch, plan.steps, plan.seed)
    return found


def workload(plan: Plan, measured: list[Measured], showers: int, judged: int) -> Workload:
    """What the projection starts from: the trainings on one process.

    Args:
        plan: What was measured.
        measured: All of it.
        showers: Of an epoch.
        judged: Showers whose validation was measured.
    """
    alone = sorted((m for m in measured if m.processes == 1), key=lambda m: m.batch)
    small, large = alone[0], alone[-1]
    per_shower = max(0.0, (large.compute - small.compute) / (large.batch - small.batch))
    per_step = large.compute - per_shower * large.batch
    if per_step < 0:
        per_step, per_shower = 0.0, large.compute / large.batch
    return Workload(
        showers,
        large.batch,
        per_step,
        per_shower,
        large.jitter,
        tuple(float(size) for size in large.messages),
        large.input / large.batch,
        validation_showers=plan.training.evaluation.showers,
        validation_per_shower=large.validation / judged,
    )


def _measured_rows(
    measured: dict[tuple[int, int], Measured], runs: dict[tuple[int, int], list[Scaling]]
) -> list[dict[str, Any]]:
    alone = next(found for (count, _), found in measured.items() if count == 1)
    rows = []
    for scaling in ("weak", "strong"):
        for key, found in measured.items():
            if scaling in runs[key]:
                fast = found.rate / alone.rate
                share = fast / found.processes
                rows.append({"scaling": scaling, **asdict(found), "speedup": fast, "efficiency": share})
    return rows


def _projected_rows(plan: Plan, work: Workload, network: Network) -> list[dict[str, Any]]:
    nodes = sorted({2**power for power in range(plan.nodes.bit_length())} - {0} | {plan.nodes})
    counts = [1] * (plan.per_node > 1) + [count * plan.per_node for count in nodes if count <= plan.nodes]
    rows = []
    for scaling in ("weak", "strong"):
        epochs = project(work, network, counts, scaling)
        for found, fast in zip(epochs, speedup(epochs), strict=True):
            shares = {"seconds": found.seconds, "speedup": fast, "efficiency": fast / found.processes}
            rows.append({"scaling": scaling, **asdict(found), **shares})
    return rows


def _link_row(link: Link, seconds: list[float], work: Workload) -> dict[str, Any]:
    """The connection of two processes here, and what it makes of the messages of a step."""
    return {**asdict(link), "seconds": seconds, "step": Network(link).step(work.messages, 2)}


def published_rows() -> list[dict[str, Any]]:
    """Every published table with what the model says of its rows."""
    return [
        {
            **table.model_dump(mode="json", include={"name", "title", "quantity", "source", "inputs"}),
            "rows": [
                {
                    "processes": found.row.processes,
                    "nodes": found.row.nodes,
                    **({} if found.row.batch is None else {"batch": found.row.batch}),
                    "published": found.row.value,
                    "at_least": found.row.at_least,
                    "predicted": found.predicted,
                    "given": found.given,
                    "error": found.error,
                }
                for found in predict(table)
            ],
        }
        for table in published_tables()
    ]
