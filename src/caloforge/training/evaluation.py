"""Evaluation during a training: generated against held-out showers, by the figure of merit P + E.

The processes share the held-out showers in blocks. The noise of a block is seeded with its index, so that the
result does not depend on the number of processes, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.metrics.figures_of_merit import merit
from caloforge.models.base import Condition, ShowerModel
from caloforge.observables import observe
from caloforge.showers import ShowerFile
from caloforge.showers.select import Numbers, read_numbers
from caloforge.training.process_group import Communicator

# small, so that the usual thousand showers are enough for many processes
BLOCK = 32
# threshold of a hit in MeV
HIT_THRESHOLD = 0.2
# every evaluation uses the same noise, so that only the model changes
NOISE_SEED = 20190311

Values = dict[str, NDArray[np.float32]]


class Evaluation:
    """Compares a model with held-out showers, whose observables are computed once."""

    def __init__(self, data: Path, numbers: Numbers, communicator: Communicator) -> None:
        """Compute the observables of this process's blocks; `numbers` are shower indices, ascending."""
        self.communicator = communicator
        self._conditions: dict[int, Condition] = {}
        blocks = []
        with ShowerFile(data) as file:
            self.detector = file.detector
            # names and shapes of the observables, also in a process without a block
            one = observe(read_numbers(file, numbers[:1]), self.detector, threshold=HIT_THRESHOLD)
            self._shapes = {name: values.shape[1:] for name, values in one.items()}
            for number, first in enumerate(range(0, len(numbers), BLOCK)):
                if number % communicator.world_size == communicator.rank:
                    batch = read_numbers(file, numbers[first : first + BLOCK])
                    self._conditions[number] = Condition.of(batch)
                    blocks.append(observe(batch, self.detector, threshold=HIT_THRESHOLD))
        self.truth = self._gathered(blocks)

    def __call__(self, model: ShowerModel, device: torch.device, precision: str) -> dict[str, float]:
        """Generate the held-out showers with a model and compare; leaves the model in training mode.

        Returns:
            `merit` (P + E), and mean response and number of hits relative to the truth.
        """
        values = self._gathered(list(self._generate(model, device, precision)))
        response, hits = (
            float(values[name].mean() / self.truth[name].mean()) for name in ("response", "hits")
        )
        return {"merit": merit(self.truth, values), "response_ratio": response, "hits_ratio": hits}

    def _generate(self, model: ShowerModel, device: torch.device, precision: str) -> Iterator[Values]:
        model.eval()
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for number, condition in self._conditions.items():
                seed = np.random.SeedSequence([NOISE_SEED, number]).generate_state(1, np.uint64)[0]
                noise = torch.Generator().manual_seed(int(seed) >> 1)
                latent = torch.randn((len(condition), *model.noise_shape), generator=noise)
                showers = model.generate(condition.to(device), latent.to(device)).float().cpu()
                batch = condition.to_numpy().with_showers(showers.numpy())
                yield observe(batch, self.detector, threshold=HIT_THRESHOLD)
        model.train()

    def _gathered(self, blocks: list[Values]) -> Values:
        """Gather the observables of all processes, in the order of the blocks."""
        widths = {name: int(np.prod(shape)) for name, shape in self._shapes.items()}
        rows = [
            np.concatenate([block[name].reshape(-1, width) for name, width in widths.items()], axis=1)
            for block in blocks
        ]
        mine = np.concatenate([np.empty((0, sum(widths.values())), np.float32), *rows])
        tables = self.communicator.all_gather(mine.astype(np.float32, copy=False))
        # block b belongs to process b modulo the number of processes
        taken, pieces = [0] * len(tables), []
        while any(start < len(table) for start, table in zip(taken, tables, strict=True)):
            for rank, table in enumerate(tables):
                pieces.append(table[taken[rank] : taken[rank] + BLOCK])
                taken[rank] += BLOCK
        joined = np.concatenate(pieces)
        columns = np.split(joined, np.cumsum(list(widths.values()))[:-1], axis=1)
        return {
            name: column.reshape(-1, *shape)
            for (name, shape), column in zip(self._shapes.items(), columns, strict=True)
        }
