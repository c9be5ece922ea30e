"""The training loop: backward pass, gradient synchronisation, clipping and update for each phase of a batch.

All random numbers of step n (noise, dropout, label flips, augmentation) come from generators seeded with
(seed, n, rank). So a checkpoint holds no generator state, and a resumed training is bitwise the same.
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
from caloforge.run_directory import CHECKPOINTS, MODEL
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.showers.dataset import ShowerBatches
from caloforge.signals import StopRequest
from caloforge.training.augment import augment
from caloforge.training.checkpoint import (
    Progress,
    checkpoints,
    load_checkpoint,
    prune_checkpoints,
    read_state,
    save_checkpoint,
)
from caloforge.training.config import TrainingConfig
from caloforge.training.data_split import TrainingShowers, batch_size, split_file
from caloforge.training.directory import RunDirectory
from caloforge.training.evaluation import Evaluation
from caloforge.training.fingerprint import check_fingerprint, training_fingerprint
from caloforge.training.local_copy import local_copy
from caloforge.training.log import MetricsLog
from caloforge.training.optimizers import (
    build_optimizers,
    ema_weights,
    learning_rate,
    make_ema,
    update_ema,
)
from caloforge.training.parallel import build_strategy
from caloforge.training.precision import autocast, choose_precision
from caloforge.training.process_group import Communicator
from caloforge.training.schedule import BatchSchedule
from caloforge.training.timers import Clock, TimeSplit

# from this step on a generator that makes empty images only has collapsed
COLLAPSE_STEP = 10
# a training has stalled if it got no better for so many evaluations, which are this fraction of its steps
STALL_EVALUATIONS, STALL_FRACTION = 5, 0.5
# seed component that separates the generator of the fit from those of the steps
FIT_STREAM = 2**32 - 1
ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainingResult:
    """Summary of a finished training.

    Attributes:
        steps: Total number of steps.
        best: Best figure of merit.
        reason: Why it ended: "epochs", "steps", "minutes", "patience" or "fitted".
        seconds: Wall time of this run by activity, in this process.
        ended_before: Whether it was finished before this run, which then changed nothing.
        batch_size: Showers per batch on each process.
        parts: Energies, angles and particles of the trained and held-out showers, see `Split.describe`.
        stalled_at: Step of the best figure of merit, if the training has not got better for long; else None.
    """

    steps: int
    best: float
    reason: str
    seconds: TimeSplit = field(default_factory=TimeSplit)
    ended_before: bool = False
    batch_size: int = 0
    parts: dict[str, Any] = field(default_factory=dict)
    stalled_at: int | None = None


def train_model(
    model: ShowerModel,
    data: Path,
    config: TrainingConfig,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    communicator: Communicator | None = None,
    directory: RunDirectory | None = None,
    near: Path | None = None,
    origin: dict[str, str] | None = None,
) -> TrainingResult:
    """Train a model; writes checkpoints/, metrics.jsonl and the best model so far, model/, to `out`.

    Args:
        model: The model with its initial weights.
        data: The shower file.
        config: The training section of a run.
        out: The run directory.
        seed: Seed of all random numbers; with one device the same seed gives the same weights.
        resume: Continue from the newest checkpoint of the run directory.
        progress: Called with (step, total steps, note).
        communicator: The process group; by default initialised from the environment.
        directory: The locked run directory; by default `out` is not locked, and files of an earlier training
            are not preserved.
        near: The copy of the shower file on this machine; by default it is made, see `local_copy`.
        origin: The trained model that the initial weights come from, for the card.

    Raises:
        ConfigError: Too few showers.
        TrainingError: A loss is not finite, the generator has collapsed, there is nothing to resume, or
            another process has died.
        ModelError: The checkpoint is damaged or of another version.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    context = (
        Communicator(config.distribution.timeout_seconds)
        if communicator is None
        else nullcontext(communicator)
    )
    with context as group:
        trainer = Trainer(
            model,
            data,
            config,
            out,
            group,
            seed=seed,
            resume=resume,
            directory=directory,
            near=near,
            origin=origin,
        )
        return trainer.run(progress)


class Trainer:
    """Trains one model on one shower file."""

    def __init__(
        self,
        model: ShowerModel,
        data: Path,
        config: TrainingConfig,
        out: Path,
        communicator: Communicator,
        *,
        seed: int,
        resume: bool,
        directory: RunDirectory | None = None,
        near: Path | None = None,
        origin: dict[str, str] | None = None,
    ) -> None:
        """Prepare data and optimisers, and load the newest checkpoint to resume; see `train_model`."""
        self.config, self.out, self.seed, self.communicator = config, out, seed, communicator
        self.directory = directory or RunDirectory(out)
        self.device = communicator.device
        self.model = model.to(self.device).train()
        self.detector = model.detector
        self.symmetries = symmetries(model.detector, model.ranges)[: None if config.augment else 1]
        self.optimizers = build_optimizers(model, config.optimizer)
        self.data = local_copy(data, config.cache, communicator) if near is None else near
        split = split_file(self.data, config, communicator.world_size)
        self.parts = split.describe(self.data)
        # only rank 0 writes models
        self.record = data_record(data, len(split.train)) | self.parts if communicator.is_main else {}
        self.showers = TrainingShowers(self.data, split.train)
        if not resume:
            model.fit(self.showers, np.random.default_rng([seed, FIT_STREAM]))
            communicator.broadcast_(list(model.state_dict().values()))
        self.ema = make_ema(model.sampler()) if config.ema is not None else None
        identity = training_fingerprint(model, self.data, split, config, seed)
        # what the card says besides
        self.facts: dict[str, Any] = {} if origin is None else {"started_from": origin}
        self.progress = Progress(identity=identity | self.facts)
        if resume:
            self._resume()
        batches = ShowerBatches(
            self.data,
            batch_size(config, len(split.train), communicator.world_size),
            members=split.train,
            seed=seed,
            rank=communicator.rank,
            world_size=communicator.world_size,
        )
        self.schedule = BatchSchedule(batches, config, self.progress)
        self.total = self.schedule.total if self.optimizers else 0
        self.evaluation = Evaluation(self.data, split.evaluated(config.evaluation.showers), communicator)
        self.strategy = build_strategy(config.distribution, communicator, model, self.optimizers)
        if not resume:
            self.progress.precision = communicator.broadcast_value(
                choose_precision(model, self._first_batch(), config.precision) if self.total else "fp32"
            )
        self.log = MetricsLog(communicator.accelerator, out, config, self.progress)
        self.opened, self.seconds_before = False, self.progress.seconds
        # of the last update
        self._rate = 0.0

    def _first_batch(self) -> TrainingBatch:
        with ShowerFile(self.data) as file:
            return TrainingBatch.of(file.read(0, 2), self.device)

    def _resume(self) -> None:
        found = checkpoints(self.out / CHECKPOINTS)
        if not found:
            raise TrainingError(f"{self.out}: no checkpoint to resume from; train without --resume")
        state = read_state(found[-1])["progress"]
        precision = (state["precision"], self.config.precision)
        check_fingerprint(found[-1], state["identity"], self.progress.identity, precision)
        self.progress = load_checkpoint(found[-1], self.model, self.ema, self.optimizers)
        if self.communicator.is_main:
            prune_checkpoints(self.out / CHECKPOINTS, self.config.keep_checkpoints)

    # ---- the loop

    def run(self, report: ProgressCallback | None = None) -> TrainingResult:
        """Train until the last step, a time limit or the end of patience.

        Raises:
            TrainingError: A loss or gradient is not finite, the generator makes empty images, or another
                process has died.
            Interrupted: SIGINT or SIGTERM came; everything is saved.
        """
        self.clock = self.communicator.clock = Clock()
        reason = self._end_reason()
        if reason is not None and self.progress.evaluated == self.progress.step:
            return self._result(reason, ended_before=True)
        if reason is not None:
            # a family without gradient steps is finished once it is fitted; a resumed training may be
            # finished under new limits, with a last step that was saved but not evaluated
            self._evaluate()
            self._save()
        start = self.saved = time.monotonic()
        showers = self.schedule.showers(self.clock)
        with StopRequest() as stop, torch.random.fork_rng():
            while reason is None:
                batch, weight = next(showers)
                logs = self._step(batch, weight)
                self.progress.seconds = self.seconds_before + time.monotonic() - start
                if not self.directory.replaces:
                    self._open()
                self.log.add(self.progress, logs, self._rate)
                if report is not None:
                    report(self.progress.step, self.total, self.log.note)
                reason = self._after_step(stop)
        self.log.close()
        return self._result(reason)

    def _result(self, reason: str, *, ended_before: bool = False) -> TrainingResult:
        p = self.progress
        assert p.best is not None
        split, batch = self.clock.split(), self.schedule.batches.batch_size
        return TrainingResult(p.step, p.best, reason, split, ended_before, batch, self.parts, stalled_at(p))

    def _end_reason(self) -> str | None:
        """Why the training ends at the current step; None if it goes on."""
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
        """Make all updates of one batch; `weight` is the weight of this process in the mean of gradients."""
        key = [self.seed, self.progress.step, self.communicator.rank]
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
        self.strategy.after_step(self.progress.step + 1)
        if self.ema is not None and self.config.ema is not None:
            current = self.strategy.ema_source
            update_ema(self.ema, self.model.sampler(), self.config.ema, self.progress.step, current)
        self.progress.step += 1
        self.communicator.record_step(self.progress.step)
        return logs

    def _update(self, phase: Phase, weight: float) -> None:
        optimizer = self.optimizers[phase.optimizer]
        optimizer.zero_grad(set_to_none=True)
        with self.strategy.sync_gradients(phase.optimizer, weight):
            self.communicator.accelerator.backward(phase.loss)
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
                "Train again with another --seed, or a smaller training.optimizer.learning_rate"
            )
        rate = learning_rate(self.config.optimizer, phase.optimizer, self.progress.step, self.total)
        self._rate = rate * self.model.rate(phase.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = self._rate
        optimizer.step()

    def _not_finite(self, phase: Phase) -> str:
        values = ", ".join(f"{name} {float(value):.4g}" for name, value in phase.logs.items())
        return (
            f"step {self.progress.step}: the {phase.optimizer} loss or gradient is not finite ({values}); "
            "stopped before the update. Lower training.optimizer.learning_rate, set "
            "training.optimizer.gradient_clip, or check the data with: caloforge inspect"
        )

    # ---- between steps

    def _after_step(self, stop: StopRequest) -> str | None:
        """Evaluate and save if due; the reason if the training ends here, else None."""
        p, limits = self.progress, self.config
        reason = self._end_reason()
        due = time.monotonic() - self.saved > 60 * limits.checkpoint_minutes
        over, due, interrupted = self.communicator.any_of([reason == "minutes", due, stop.requested])
        reason = "minutes" if over else reason
        due |= p.batch == 0 or (limits.checkpoint_steps is not None and p.step % limits.checkpoint_steps == 0)
        if reason or self.schedule.evaluation_due():
            self._evaluate()
            reason = reason or self._end_reason()
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
        """Begin to write to the run directory; called before the first file is written."""
        if not self.opened:
            self.opened = True
            self.communicator.run_on_main(self.directory.begin)
            self.log.open()

    def _evaluate(self) -> None:
        """Evaluate the averaged weights and write the model if it is the best so far, or the last is kept."""
        p = self.progress
        self._open()
        with self.clock.count("evaluation"), self.strategy.consensus(self.ema):
            with ema_weights(self.model.sampler(), self.ema):
                self.model.refit(self.showers)
                found = self.evaluation(self.model, self.device, p.precision)
                better = self.communicator.broadcast_value(p.best is None or found["merit"] < p.best)
                keep = self.config.evaluation.keep
                if self.communicator.is_main and (better or keep == "last"):
                    facts: dict[str, Any] = {
                        "merit": found["merit"],
                        "step": p.step,
                        "epoch": p.epoch,
                        "seed": self.seed,
                    }
                    state = dict(self.model.state_dict())
                    facts |= {"kept": keep, "data": [self.record]} | self.facts
                    save_model(self.model, self.out / MODEL, state, **facts)
                    self.directory.settle()
            p.waited = 0 if better else p.waited + 1
            p.best = self.communicator.broadcast_value(found["merit"] if better else p.best)
            p.best_step = p.step if better else p.best_step
            p.evaluated = p.step
        self.log.add_evaluation(p, found, self.clock.split())

    def _save(self) -> None:
        self._open()
        self.log.note_unlogged(self.progress)
        with self.clock.count("saving"), self.strategy.consensus(self.ema):
            if self.communicator.is_main:
                save_checkpoint(
                    self.out / CHECKPOINTS,
                    self.progress,
                    self.model,
                    self.ema,
                    self.optimizers,
                    keep=self.config.keep_checkpoints,
                )
                self.directory.settle()
            self.saved = time.monotonic()
            self.communicator.barrier()


def stalled_at(progress: Progress) -> int | None:
    """Step of the best figure of merit, if a training has not got better for long; else None."""
    if progress.best_step is None or progress.waited < STALL_EVALUATIONS:
        return None
    unchanged = progress.evaluated - progress.best_step
    return progress.best_step if unchanged >= STALL_FRACTION * progress.evaluated else None
