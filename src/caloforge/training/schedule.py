"""Schedule of a training: the batches of all epochs, the total number of steps, and when to evaluate."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from caloforge.showers import ShowerBatch
from caloforge.showers.dataset import ShowerBatches
from caloforge.training.checkpoint import Progress
from caloforge.training.config import TrainingConfig
from caloforge.training.timers import Clock


class BatchSchedule:
    """Iterates over the batches of all epochs, starting at the progress of a checkpoint.

    Attributes:
        total: Number of steps of the whole training.
    """

    def __init__(self, batches: ShowerBatches, config: TrainingConfig, progress: Progress) -> None:
        """Continue at `progress`; if the number of processes changed, the rest of the epoch is split anew."""
        self.batches, self.config, self.progress = batches, config, progress
        self._epoch_steps = len(batches)
        if progress.processes != batches.world_size:
            if progress.batch:
                progress.parts.append([progress.processes, progress.batch])
            progress.processes, progress.batch = batches.world_size, 0
        self._set_epoch()
        left = len(batches) - progress.batch + (config.epochs - progress.epoch - 1) * self._epoch_steps
        self.total = progress.step + max(0, left)
        if config.max_steps is not None:
            self.total = min(self.total, config.max_steps)
        self._evaluate_every = max(1, round(config.evaluation.every_epochs * self._epoch_steps))

    def _set_epoch(self) -> None:
        """Select the current epoch, or the next one if the rest is too small for all processes."""
        p = self.progress
        self.batches.set_epoch(p.epoch, p.parts)
        if not len(self.batches):
            p.epoch, p.batch, p.parts = p.epoch + 1, 0, []
            self.batches.set_epoch(p.epoch)
        self.batches.skip(p.batch)

    def showers(self, clock: Clock) -> Iterator[tuple[ShowerBatch, float]]:
        """Yield batches and their weights in the mean over processes; advances `progress`."""
        p = self.progress
        while p.epoch < self.config.epochs:
            self._set_epoch()
            loader = iter(DataLoader(self.batches, batch_size=None, num_workers=self.config.loader_workers))
            for number in range(p.batch, len(self.batches)):
                with clock.count("input"):
                    batch = next(loader)
                p.batch += 1
                if p.batch == len(self.batches):
                    p.epoch, p.batch, p.parts = p.epoch + 1, 0, []
                yield batch, self.batches.weight(number)

    def evaluation_due(self) -> bool:
        """Whether to evaluate the model after this batch; counted in whole steps since the first epoch."""
        p = self.progress
        done = p.epoch * self._epoch_steps
        if p.batch:
            done += self._epoch_steps - len(self.batches) + p.batch
        return done % self._evaluate_every == 0
