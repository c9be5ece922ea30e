"""Worker process of the scaling benchmark: trains a few steps, or all-reduces messages, with timing."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.config import StrictModel, build
from caloforge.errors import ConfigError
from caloforge.models.registry import ModelConfig
from caloforge.training.config import TrainingConfig

if TYPE_CHECKING:
    from caloforge.training.timers import TimeSplit

# steps and messages before the measurement
WARM_UP = 2
REPEATS = 15


class TrainingSections(StrictModel):
    """The sections of a run that describe a training."""

    model: ModelConfig
    training: TrainingConfig


def main(path: Path) -> None:
    """Run the job of a file; each process writes its answer, or its error, beside it."""
    job = json.loads(path.read_text(encoding="utf-8"))
    answer = path.parent / f"rank-{os.environ['RANK']}.json"
    try:
        facts = messages(job) if job["kind"] == "messages" else training(job, path.parent)
    except Exception as error:
        # torchrun reports only that a process failed
        answer.write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}), encoding="utf-8")
        raise
    answer.write_text(json.dumps(facts), encoding="utf-8")


def training(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train; returns seconds by activity in this process, without the first steps."""
    from caloforge.models.registry import create_model
    from caloforge.training.loop import train_model
    from caloforge.training.process_group import Communicator

    run, data = build(TrainingSections, job["run"], "measurement"), Path(job["data"])
    steps = WARM_UP + job["steps"]
    config = run.training.model_copy(update={"max_steps": steps, "epochs": steps})
    model = create_model(run.model, data, seed=job["seed"])
    if not model.optimized():
        raise ConfigError(f"the family {job['run']['model']['family']!r} has no training steps to measure")
    before: list[TimeSplit] = []
    stamps: list[float] = []
    with Communicator(config.distribution.timeout_seconds) as communicator:

        def note(step: int, _total: int, _note: str) -> None:
            if step == WARM_UP:
                before.append(communicator.clock.split())
            if step >= WARM_UP:
                stamps.append(time.perf_counter())

        result = train_model(
            model, data, config, folder / "run", seed=job["seed"], progress=note, communicator=communicator
        )
    after = vars(result.seconds)
    seconds = {kind: after[kind] - start for kind, start in vars(before[0]).items()}
    return {**seconds, "stamps": stamps, "messages": step_messages(run, data, job["seed"])}


def step_messages(run: TrainingSections, data: Path, seed: int) -> list[int]:
    """Bytes of the gradients of each update of a step, in order."""
    from caloforge.models.base import TrainingBatch
    from caloforge.models.registry import create_model
    from caloforge.showers import ShowerFile

    model = create_model(run.model, data, seed=seed)
    parts = model.optimized()
    with ShowerFile(data) as file:
        batch = TrainingBatch.of(file.read(0, 2))
    sizes = []
    for phase in model.step(batch):
        parameters = list(parts[phase.optimizer].parameters())
        for parameter in parameters:
            parameter.grad = None
        phase.loss.backward()  # type: ignore[no-untyped-call]
        sizes.append(sum(p.numel() * p.element_size() for p in parameters if p.grad is not None))
    return sizes


def messages(job: dict[str, Any]) -> dict[str, Any]:
    """All-reduce messages of several sizes; returns the median seconds of each."""
    import torch
    from torch import distributed

    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    distributed.init_process_group("nccl" if gpu else "gloo")
    medians = []
    for size in job["sizes"]:
        message = torch.zeros(size // 4, device=device)
        seconds = []
        for _ in range(WARM_UP + REPEATS):
            distributed.barrier()
            start = time.perf_counter()
            distributed.all_reduce(message)
            if gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        medians.append(sorted(seconds[WARM_UP:])[REPEATS // 2])
    distributed.destroy_process_group()
    return {"seconds": medians}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
