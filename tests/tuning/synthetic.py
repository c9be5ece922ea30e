"""Studies of a function instead of trainings, and what goes wrong in them on purpose."""

import json
import math
import os
import signal
import time

from caloforge.tuning.objective import Value
from caloforge.tuning.trial import Result, write_result

RATE, DECAY = "training.optimizer.learning_rate", "training.optimizer.decay"
SPACE = {
    RATE: {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
    DECAY: {"kind": "float", "low": 0.01, "high": 0.99},
}
EVALUATIONS, SECONDS = 4, 0.6


def merit(values):
    """Smallest, 0, at a rate of 10^-2.5 and a decay of 0.5."""
    return (math.log10(values[RATE]) + 2.5) ** 2 + (values[DECAY] - 0.5) ** 2


def work(job, rank_info, stop):
    """A trial of SECONDS with EVALUATIONS; a fold is a little worse than the one before."""
    start = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder.parent / "calls").open("a") as calls:
        calls.write(f"{job.fold} {job.seed}\n")
    value = merit(job.values) + 0.1 * job.fold
    with (job.folder / "metrics.jsonl").open("w") as log:
        for step in range(EVALUATIONS):
            log.write(json.dumps({"step": step, "eval_merit": value + 1 / (step + 1)}) + "\n")
            log.flush()
            if stop.wait(SECONDS / EVALUATIONS):
                return Result("stopped", reason="stopped")
    result = Result("done", {"merit": Value(value, math.nan)}, seconds=time.monotonic() - start)
    write_result(job.folder, result)
    return result


def troubled(job, rank_info, stop):
    """Trial 1 loses its worker once, 2 is not finite ever, 3 once, 4 raises, 5 is refused."""
    once = job.folder.parent / "troubled"
    first = not once.exists()
    once.touch()
    if job.trial == 1 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.trial == 2 or (job.trial == 3 and first):
        return Result("numeric", reason="train: step 4: the generator loss is not finite")
    if job.trial == 4:
        raise RuntimeError("no space left on this planet")
    if job.trial == 5:
        return Result("refused", reason="train: the model does not fit the detector")
    return work(job, rank_info, stop)


def unhurried(job, rank_info, stop):
    """A trial of 2 s, as long to a fit of the surrogate as a short training is."""
    stop.wait(2 - SECONDS)
    return work(job, rank_info, stop)
