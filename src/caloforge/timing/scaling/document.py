"""The scaling benchmark: measured trainings, their projection, and the model against published results."""

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
    TrainingTimes,
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
# steps of an epoch of synthetic showers with the largest number of processes
EPOCH_STEPS = 4
# showers per projected epoch without data: nine tenths of the million showers of the 3DGAN publications
PROJECTED_SHOWERS = 900_000

Report = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Plan:
    """Settings of the scaling benchmark.

    Attributes:
        name: Name of the run.
        detector: Its detector.
        beam: Its beam, for synthetic showers.
        model: Its model section.
        training: Its training section.
        data: A shower file; None for synthetic showers.
        processes: Largest number of processes to measure.
        steps: Steps per measurement.
        nodes: Largest number of nodes of the projection.
        network: Name of the network between the nodes.
        per_node: Processes per node.
        seed: Seed of showers, weights and their order.
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


def scaling_document(plan: Plan, report: Report = lambda *_: None) -> dict[str, Any]:
    """Measure everything; returns the document of scaling.json.

    Args:
        plan: Settings of the benchmark.
        report: Called with (steps done, total steps, name of the current measurement).

    Raises:
        ConfigError: More processes than cores, an unknown network, or a batch too small to be divided.
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
        showers, evaluated = _shower_counts(plan, data)
        measured = _measure(plan, data, list(runs), report)
    link, seconds = measure_link(2) if counts[-1] > 1 else (None, [])
    report(len(runs) + 1, len(runs) + 1, "")
    work = workload(plan, list(measured.values()), showers, evaluated)
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


def _shower_counts(plan: Plan, data: Path) -> tuple[int, int]:
    """Showers per projected epoch, and held-out showers evaluated in a measurement."""
    from caloforge.training.data_split import split_file

    split = split_file(data, plan.training, 1)
    evaluated = len(split.evaluated(plan.training.evaluation.showers))
    return PROJECTED_SHOWERS if plan.data is None else len(split.train), evaluated


def _showers(plan: Plan, folder: Path, processes: int) -> Path:
    """The shower file to train on, filled with synthetic showers if there are no data."""
    if plan.data is None:
        from caloforge.training.preflight import synthetic_showers

        trained_fraction = 1 - plan.training.evaluation.share
        count = round(EPOCH_STEPS * plan.training.batch_size * processes / trained_fraction) + 2
        path = folder / "showers.h5"
        with ShowerWriter(path, plan.detector, {"engine": "made up for a measurement"}) as writer:
            writer.append(synthetic_showers(plan.detector, plan.beam, count))
        return path
    with ShowerFile(plan.data) as file:
        if file.detector.geometry_digest != plan.detector.geometry_digest:
            raise DataError(
                f"{plan.data}: its detector is {file.detector.name} {file.detector.shower_shape}, the run "
                f"describes {plan.detector.name} {plan.detector.shower_shape}; give the run of these showers"
            )
        return plan.data


def _measure(
    plan: Plan, data: Path, runs: list[tuple[int, int]], report: Report
) -> dict[tuple[int, int], TrainingTimes]:
    def section(config: StrictModel) -> dict[str, Any]:
        return config.model_dump(mode="json")

    training = section(plan.training)
    if plan.training.precision == "auto":
        # the faster precision may differ from run to run
        training["precision"] = "fp32"
    run = {"model": section(plan.model), "training": training}
    found = {}
    for done, (count, batch) in enumerate(runs):
        report(done, len(runs) + 1, f"{count} process(es), batches of {batch}")
        found[count, batch] = measure_training(run, data, count, batch, plan.steps, plan.seed)
    return found


def workload(plan: Plan, measured: list[TrainingTimes], showers: int, evaluated: int) -> Workload:
    """Workload of the projection, from the trainings measured on one process.

    Args:
        plan: Settings of the benchmark.
        measured: Times of all trainings.
        showers: Showers per epoch.
        evaluated: Held-out showers evaluated in each measurement.
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
        validation_per_shower=large.validation / evaluated,
    )


def _measured_rows(
    measured: dict[tuple[int, int], TrainingTimes], runs: dict[tuple[int, int], list[Scaling]]
) -> list[dict[str, Any]]:
    alone = next(found for (count, _), found in measured.items() if count == 1)
    rows = []
    for scaling in ("weak", "strong"):
        for key, found in measured.items():
            if scaling in runs[key]:
                fast = found.rate / alone.rate
                efficiency = fast / found.processes
                rows.append({"scaling": scaling, **asdict(found), "speedup": fast, "efficiency": efficiency})
    return rows


def _projected_rows(plan: Plan, work: Workload, network: Network) -> list[dict[str, Any]]:
    nodes = sorted({2**power for power in range(plan.nodes.bit_length())} - {0} | {plan.nodes})
    counts = [1] * (plan.per_node > 1) + [count * plan.per_node for count in nodes if count <= plan.nodes]
    rows = []
    for scaling in ("weak", "strong"):
        epochs = project(work, network, counts, scaling)
        for found, fast in zip(epochs, speedup(epochs), strict=True):
            derived = {"seconds": found.seconds, "speedup": fast, "efficiency": fast / found.processes}
            rows.append({"scaling": scaling, **asdict(found), **derived})
    return rows


def _link_row(link: Link, seconds: list[float], work: Workload) -> dict[str, Any]:
    """The measured connection of two processes, and its time for the messages of a step."""
    return {**asdict(link), "seconds": seconds, "step": Network(link).step(work.messages, 2)}


def published_rows() -> list[dict[str, Any]]:
    """Published tables with the predictions of the model for each row."""
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
