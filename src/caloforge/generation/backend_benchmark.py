"""Benchmark of a model on each backend and precision, for the automatic choice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from caloforge.errors import CaloforgeError
from caloforge.files import cache_folder
from caloforge.generation.engine import graph_of, graph_path, load_on_backend
from caloforge.generation.plan import Plan
from caloforge.generation.runtime_benchmark import measure, try_runtime
from caloforge.generation.runtimes import Arrays
from caloforge.models.base import ShowerModel
from caloforge.models.parity import condition_of, sample_inputs

# batch sizes to measure
BATCHES = (1, 8, 32)


def measure_plans(model: ShowerModel, plans: list[Plan], say: Callable[[str], None]) -> dict[Plan, float]:
    """CPU seconds per shower of every plan that works, at each batch size."""
    inputs = sample_inputs(model)
    seconds: dict[Plan, float] = {}
    if not graph_path(model).is_file():
        say("writing the network as a graph for other runtimes, some seconds, once for this model")
        _write_graphs(model, plans)
    names = [f"{plan.backend} {plan.precision}" for plan in plans]
    say(f"measuring {', '.join(names)}: about a second each, once for this model and machine")
    for name, plan in zip(names, plans, strict=True):
        try:
            found = _seconds_of(model, plan, inputs)
        except CaloforgeError:
            found = {}
        seconds |= {replace(plan, batch_size=batch): value for batch, value in found.items()}
        say(f"{name}: {1e3 * min(found.values()):.3g} ms a shower" if found else f"{name}: does not run here")
    # exclude backends whose showers differ from torch's
    ranked = sorted(seconds, key=seconds.__getitem__)
    broken = {plan.backend + plan.precision for plan in _best_of_each(ranked) if not _agrees(model, plan)}
    return {plan: value for plan, value in seconds.items() if plan.backend + plan.precision not in broken}


def _write_graphs(model: ShowerModel, plans: list[Plan]) -> None:
    # an error of the export is raised again, and reported, by the plan that needs the graph
    with contextlib.suppress(CaloforgeError):
        for plan in plans:
            if plan.backend != "torch":
                graph_of(model, plan.precision)


def _seconds_of(model: ShowerModel, plan: Plan, inputs: Arrays) -> dict[int, float]:
    if plan.backend == "torch":
        return seconds_with_torch(model, plan, inputs, BATCHES)
    job = {
        "backend": plan.backend,
        "graph": str(graph_of(model, plan.precision)),
        "precision": plan.precision,
        "threads": plan.threads,
        "cache": str(cache_folder() / "openvino"),
        "batches": BATCHES,
    }
    return try_runtime(job, inputs)


def _best_of_each(ranked: list[Plan]) -> list[Plan]:
    return list({plan.backend + plan.precision: plan for plan in reversed(ranked)}.values())


def _agrees(model: ShowerModel, plan: Plan) -> bool:
    """Whether a plan generates the same showers as torch."""
    if plan.backend == "torch":
        return True
    try:
        load_on_backend(model, plan)
    except CaloforgeError:
        return False
    return True


def seconds_with_torch(
    model: ShowerModel, plan: Plan, inputs: Arrays, batches: tuple[int, ...]
) -> dict[int, float]:
    """CPU seconds per shower with torch at each batch size, in this process."""
    generate = load_on_backend(model, plan).worker()

    def run(arrays: Arrays) -> Any:
        noise: Any = arrays["noise"]
        return generate(condition_of(model, arrays).to_numpy(), lambda start, stop: noise[start:stop])

    # warm-up
    run({name: value[:1] for name, value in inputs.items()})
    return {batch: measure(run, inputs, batch, plan.threads) for batch in batches}
