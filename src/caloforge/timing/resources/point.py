"""One training of a study: on so many showers, timed, and judged by showers that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.generation.conditions import conditions_like
from caloforge.generation.generate import generate_file
from caloforge.generation.plan import Plan as Runtime
from caloforge.models.base import parameter_count
from caloforge.models.registry import create_model
from caloforge.models.store import read_model
from caloforge.run_directory import MODEL
from caloforge.showers import ShowerFile, ShowerWriter
from caloforge.showers.select import read_numbers
from caloforge.timing.compare import START_SECONDS, TIME_FACTOR
from caloforge.timing.machine import quietest_core
from caloforge.timing.resources.judgement import judge, read_showers
from caloforge.timing.sources import installed_backends, trained
from caloforge.timing.timed_process import measure
from caloforge.training.loop import train_model
from caloforge.validation.observed_sample import Sample

if TYPE_CHECKING:
    from caloforge.timing.resources.study import Plan

# seed component that separates the choice of showers from other uses of the same seed
CHOICE_STREAM = 0x5E1EC7
# showers copied at once
BLOCK = 256
# batch sizes of the times, and the intended time of a measurement, s
BATCHES, SECONDS = (1, 128), 1.0


@dataclass(frozen=True)
class Point:
    """One training of a study.

    Attributes:
        showers: Number of showers, of which the training holds some out.
        seed: Seed of the choice of showers, of weights and noise.
        digest: Digest of the settings of the training.
        timed: Whether the time of a generated shower is measured.
    """

    showers: int
    seed: int
    digest: str
    timed: bool = False

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.showers}-{self.seed}-{self.digest}"


def measure_point(
    plan: Plan, point: Point, truth: Sample, folder: Path, tell: Callable[[str], object]
) -> dict[str, Any]:
    """Train, generate, time and judge; returns a row of resources.json.

    The showers of a smaller number are part of those of a larger one with the same seed.

    Args:
        plan: Settings of the study.
        point: The training.
        truth: Observables of the showers that judge.
        folder: Empty folder for the showers and the model.
        tell: Called with what is being done.

    Raises:
        TrainingError: The training failed.
    """
    data, run, made = folder / "train.h5", folder / "run", folder / "generated.h5"
    choose_showers(plan.data, data, point.showers, point.seed)

    def step(done: int, steps: int, _note: str) -> None:
        tell(f"training, step {done} of {steps}")

    start = time.process_time()
    model = create_model(plan.model, data, seed=point.seed, beam=plan.beam, claim=plan.training.range)
    result = train_model(model, data, plan.training, run, seed=point.seed, progress=step)
    seconds = time.process_time() - start
    tell("generating")
    stored = read_model(run / MODEL)
    conditions = conditions_like(plan.truth, plan.detector, None)
    # a small sample does not reach the ends of the beam, which the truth may
    generate_file(
        stored, conditions, made, seed=point.seed, provenance={}, plan=Runtime("torch"), extrapolate=True
    )
    tell("judging")
    judged = judge(truth, read_showers(made, "generated"), seed=point.seed, cnn=plan.cnn)
    row = {
        "showers": point.showers,
        "seed": point.seed,
        "trained": result.parts["trained"]["showers"],
        "steps": result.steps,
        "parameters": parameter_count(model),
        "weight_bytes": sum(path.stat().st_size for path in (run / MODEL).glob("*.safetensors")),
        "cpu_seconds": seconds,
        **{name: metric.to_json() for name, metric in judged.items()},
    }
    if point.timed:
        tell("timing")
        row["ms"] = shower_times(run / MODEL)
    return row


def choose_showers(data: Path, out: Path, count: int, seed: int) -> None:
    """Copy a random choice of the showers of a file, in its order."""
    with ShowerFile(data) as file:
        order = np.random.default_rng([seed, CHOICE_STREAM]).permutation(len(file))
        chosen = np.sort(order[:count])
        with ShowerWriter(out, file.detector, file.provenance, energy_meaning=file.energy_meaning) as writer:
            for start in range(0, count, BLOCK):
                writer.append(read_numbers(file, chosen[start : start + BLOCK]))


def shower_times(model: Path) -> dict[str, dict[str, float]]:
    """CPU time of a shower in ms, in fp32 on one core, by backend and batch size."""
    source, core = trained(str(model)), quietest_core()
    limit = START_SECONDS + TIME_FACTOR * SECONDS * (len(BATCHES) + 1)
    times: dict[str, dict[str, float]] = {}
    for backend, precision in source.engines(installed_backends()):
        if precision != "fp32":
            continue
        job = {
            "kind": "model",
            "threads": 1,
            "core": core,
            "source": source.source,
            "backend": backend,
            "precision": precision,
            "batches": BATCHES,
            "seconds": SECONDS,
            "disk": False,
            "cpu_time": True,
            "seed": 1,
        }
        answers = measure(job, limit).with_keys("batch", "seconds")
        found = {str(a["batch"]): 1e3 * float(np.median(a["seconds"])) for a in answers}
        times |= {backend: found} if found else {}
    return times
