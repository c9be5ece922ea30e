"""The training loop: batch, phases of the model, backward, average over processes, clip, check, update.

Everything random in step n (noise, dropout, label flips, augmentation) comes from generators seeded with
(seed, n, rank): a checkpoint needs to hold no generator, and a resumed training is the same, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caloforge.errors import Interrupted, TrainingError
from caloforge.models.base import Phase, ShowerModel, TrainingBatch
from caloforge.models.store import save_model
from caloforge.models.symmetries import symmetries
from caloforge.models.training_metadata import data_record
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.showers.dataset import ShowerBatches
from caloforge.signals import StopRequest
from caloforge.training.augment import augment
from caloforge.training.checkpoint import (
    Progress,
    checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
    sweep,
)
from caloforge.training.config import TrainingConfig
from caloforge.training.data_split import TrainingShowers, batch_size, split_file
from caloforge.training.directory import RunDirectory
from caloforge.training.ema import average_of, swapped, update_average
from caloforge.training.evaluation import Evaluation
from caloforge.training.fingerprint import check_identity, identity_of
from caloforge.training.local_copy import local_copy
from caloforge.training.log import MetricsLog
from caloforge.training.optimizers import build_optimizers, learning_rate
from caloforge.training.parallel import distribute
from caloforge.training.precision import autocast, choose_precision
from caloforge.training.process_group import Processes
from caloforge.training.schedule import Course
from caloforge.training.timers import Clock, TimeSplit

# a generator may make empty images for its first steps; later it has collapsed
COLLAPSE_STEP = 10
# tells the generator of the fit from those of the steps, which have three numbers
FIT_STREAM = 2**32 - 1
ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainingResult:
    """What came out of a training.

    Attributes:
        steps: Batches trained on in all.
        best: Best figure of merit.
        reason: Why it ended: "epochs", "steps", "minutes", "patience" or "fitted".
        seconds: Where the time of this run went, in this process.
        before: Whether it had ended before this run, which then touched nothing.
        batch: Showers of a batch on each process.
        parts: What the showers that were trained on and those held out cover, see `Split.describe`.
    """

    steps: int
    best: float
    reason: str
    seconds: TimeSplit = field(default_factory=TimeSplit)
    before: bool = False
    batch: int = 0
    parts: dict[str, Any] = field(default_factory=dict)


def train_model(
    model: ShowerModel,
    data: Path,
    config: TrainingConfig,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    processes: Processes | None = None,
    directory: RunDirectory | None = None,
) -> TrainingResult:
    """Train a model; the run directory gets checkpoints/, metrics.jsonl and model/, the best one so far.

    Args:
        model: With its first weights.
        data: The shower file.
        config: How to train.
        out: The run directory.
        seed: Seed of everything random; with one device the same seed gives the same weights.
        resume: Continue from the newest checkpoint of the run directory.
        progress: Called with (step, total steps, note).
        processes: Who trains together, if they have met already; by default the environment says it.
        directory: The run directory, taken; by default nothing of an earlier training is looked after.

    Raises:
        ConfigError: Too few showers.
        TrainingError: A loss is not finite, the generator collapsed, there is nothing to resume, or another
            process is gone.
        ModelError: The checkpoint is damaged or of another version.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    context = Processes(config.distribution.timeout_seconds) if processes is None else nullcontext(processes)
    with context as together:
        trainer = Trainer(model, data, config, out, together, seed=seed, resume=resume, directory=directory)
        return trainer.run(progress)


class Trainer:
    """One training of one model on one shower file."""

    def __init__(
        self,
        model: ShowerModel,
        data: Path,
        config: TrainingConfig,
        out: Path,
        processes: Processes,
        *,
        seed: int,
        resume: bool,
        directory: RunDirectory | None = None,
    ) -> None:
        """Prepare data, optimisers and, to resume, the newest checkpoint; see `train_model`."""
        self.config, self.out, self.seed, self.processes = config, out, seed, processes
        self.directory = directory or RunDirectory(out)
        self.device = processes.device
        self.model = model.to(self.device).train()
        self.detector = model.detector
        self.symmetries = symmetries(model.detector, model.ranges)[: None if config.augment else 1]
        self.optimizers = build_optimizers(model, config.optimizer)
        self.data = local_copy(data, config.cache, processes)
        split = split_file(self.data, config, processes.ranks)
        self.parts = split.describe(self.data)
        # only the first process stores models
        self.record = data_record(data, len(split.trained)) | self.parts if processes.first else {}
        if not resume:
            model.fit(TrainingShowers(self.data, split.trained), np.random.default_rng([seed, FIT_STREAM]))
            processes.same_(list(model.state_dict().values()))
        self.average = average_of(model.sampler()) if config.ema is not None else None
        self.progress = Progress(identity=identity_of(model, self.data, split, config, seed))
        if resume:
            self._resume()
        batches = ShowerBatches(
            self.data,
            batch_size(config, len(split.trained), processes.ranks),
            members=split.trained,
            seed=seed,
            rank=processes.rank,
            world_size=processes.ranks,
        )
        self.course = Course(batches, config, self.progress)
        self.total = self.course.total if self.optimizers else 0
        self.evaluation = Evaluation(self.data, split.judged(config.evaluation.showers), processes)
        self.distribution = distribute(config.distribution, processes, model, self.optimizers)
        if not resume:
            self.progress.precision = processes.from_first(
                choose_precision(model, self._first_batch(), config.precision) if self.total else "fp32"
            )
        self.log = MetricsLog(processes.accelerator, out, config, self.progress)
        self.opened, self.seconds_before = False, self.progress.seconds

    def _first_batch(self) -> TrainingBatch:
        with ShowerFile(self.data) as file:
            return TrainingBatch.of(file.read(0, 2), self.device)

    def _resume(self) -> None:
        found = checkpoints(self.out / "checkpoints")
        if not found:
            raise TrainingError(f"{self.out}: no checkpoint to resume from; train without --resume")
        state = read_state(found[-1])["progress"]
        precision = (state["precision"], self.config.precision)
        check_identity(found[-1], state["identity"], self.progress.identity, precision)
        self.progress = load_checkpoint(found[-1], self.model, self.average, self.optimizers)
        if self.processes.first:
            sweep(self.out / "checkpoints", self.config.keep_checkpoints)

    # ---- the loop

    def run(self, report: ProgressCallback | None = None) -> TrainingResult:
        """Train until an end is reached.

        Raises:
            TrainingError: A loss or gradient is not finite, the generator makes empty images, or another
                process is gone.
            Interrupted: SIGINT or SIGTERM came; everything is saved.
        """
        self.clock = self.processes.clock = Clock()
        reason = self._end()
        if reason is not None and self.progress.evaluated == self.progress.step:
            return self._result(reason, before=True)
        if reason is not None:
            # a family without gradient steps is ready once it is fitted; a training may now end where it was
            # only saved
            self._evaluate()
            self._save()
        start = self.saved = time.monotonic()
        showers = self.course.showers(self.clock)
        with StopRequest() as stop, torch.random.fork_rng():
            while reason is None:
                batch, weight = next(showers)
                logs = self._step(batch, weight)
                self.progress.seconds = self.seconds_before + time.monotonic() - start
                if not self.directory.replaces:
                    self._open()
                self.log.add(self.progress, logs, self._rate("generator"))
                if report is not None:
                    report(self.progress.step, self.total, self.log.note)
                reason = self._after_step(stop)
        self.log.close()
        return self._result(reason)

    def _result(self, reason: str, *, before: bool = False) -> TrainingResult:
        p = self.progress
        assert p.best is not None
        split, batch = self.clock.split(), self.course.batches.batch_size
        return TrainingResult(p.step, p.best, reason, split, before, batch, self.parts)

    def _end(self) -> str | None:
        """Why the training is over where it stands, if it is."""
        p, limits = self.progress, self.config
        if not self.optimizers:
            return "fitted"
        if p.step >= self.total:
            return "steps" if p.epoch < limits.epochs else "epochs"
        if limits.max_minutes is not None and p.seconds > 60 * limits.max_minutes:
            return "minutes"
        patience = limits.evaluation.patience
        return "patience" if patience is not None and p.waited >= patience else None

    def _step(self, showers: ShowerBatch, weight: float) -> dict[str, Tensor]:
        """All updates of one batch; `weight` is that of this process among all."""
        key = [self.seed, self.progress.step, self.processes.rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1)
        showers = augment(showers, self.detector, self.symmetries, np.random.default_rng([*key, 1]))
        batch = TrainingBatch.of(showers, self.device)
        logs: dict[str, Tensor] = {}
        phases = self.model.step(batch)
        while True:
            with autocast(self.device, self.progress.precision):
                phase = next(phases, None)
            if phase is None:
                break
            self._update(phase, weight)
            logs |= phase.logs
        self.distribution.after_step(self.progress.step + 1)
        if self.average is not None and self.config.ema is not None:
            current = self.distribution.current
            update_average(self.average, self.model.sampler(), self.config.ema, self.progress.step, current)
        self.progress.step += 1
        self.processes.at_step(self.progress.step)
        return logs

    def _update(self, phase: Phase, weight: float) -> None:
        optimizer = self.optimizers[phase.optimizer]
        optimizer.zero_grad(set_to_none=True)
        with self.distribution.gradients(phase.optimizer, weight):
            self.processes.accelerator.backward(phase.loss)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        limit = self.config.optimizer.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit if limit is not None else float("inf"))
        if not (torch.isfinite(norm) and torch.isfinite(phase.loss)):
            raise TrainingError(self._not_finite(phase))
        if (
            self.progress.step >= COLLAPSE_STEP
            and phase.empty_images is not None
            and bool(phase.empty_images)
        ):
            raise TrainingError(
                f"step {self.progress.step}: the generator makes empty images only; it has collapsed. "
                "Train anew with another --seed, or a smaller training.optimizer.learning_rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = self._rate(phase.optimizer)
        optimizer.step()

    def _rate(self, name: str) -> float:
        rate = learning_rate(self.config.optimizer, name, self.progress.step, self.total)
        return rate * self.model.rate(name)

    def _not_finite(self, phase: Phase) -> str:
        values = ", ".join(f"{name} {float(value):.4g}" for name, value in phase.logs.items())
        return (
            f"step {self.progress.step}: the {phase.optimizer} loss or gradient is not finite ({values}); "
            "stopped before the update. Lower training.optimizer.learning_rate, set "
            "training.optimizer.gradient_clip, or check the data with: caloforge inspect"
        )

    # ---- between steps

    def _after_step(self, stop: StopRequest) -> str | None:
        """Evaluate, save, and say why the training ends here, if it does."""
        p, limits = self.progress, self.config
        reason = self._end()
        due = time.monotonic() - self.saved > 60 * limits.checkpoint_minutes
        over, due, interrupted = self.processes.any_of([reason == "minutes", due, stop.requested])
        reason = "minutes" if over else reason
        due |= p.batch == 0 or (limits.checkpoint_steps is not None and p.step % limits.checkpoint_steps == 0)
        if reason or self.course.evaluation_due():
            self._evaluate()
            reason = reason or self._end()
        if reason or interrupted or due:
            self._save()
        if interrupted and not reason:
            self.log.close()
            raise Interrupted(
                f"stopped after step {p.step}; everything is saved. Continue: the same caloforge train "
                "command with --resume"
            )
        return reason

    def _open(self) -> None:
        """Before anything is written: the run directory becomes that of this training."""
        if not self.opened:
            self.opened = True
            self.processes.first_does(self.directory.begin)
            self.log.open()

    def _evaluate(self) -> None:
        """Judge the averaged weights; keep the model if it is the best so far."""
        p = self.progress
        self._open()
        with self.clock.count("evaluation"), self.distribution.agreed(self.average):
            with swapped(self.model.sampler(), self.average):
                found = self.evaluation(self.model, self.device, p.precision)
                better = self.processes.from_first(p.best is None or found["merit"] < p.best)
                if self.processes.first and (better or self.config.evaluation.keep == "last"):
                    facts = {"merit": found["merit"], "step": p.step, "epoch": p.epoch, "seed": self.seed}
                    state = dict(self.model.state_dict())
                    save_model(self.model, self.out / "model", state, **facts, data=[self.record])
                    self.directory.settle()
            p.waited = 0 if better else p.waited + 1
            p.best = self.processes.from_first(found["merit"] if better else p.best)
            p.evaluated = p.step
        self.log.evaluated(p, found, self.clock.split())

    def _save(self) -> None:
        self._open()
        self.log.note_unlogged(self.progress)
        with self.clock.count("saving"), self.distribution.agreed(self.average):
            if self.processes.first:
                save_checkpoint(
                    self.out / "checkpoints",
                    self.progress,
                    self.model,
                    self.average,
                    self.optimizers,
                    keep=self.config.keep_checkpoints,
                )
                self.directory.settle()
            self.saved = time.monotonic()
            self.processes.wait_for_all()
