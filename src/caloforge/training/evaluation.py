"""The small validation during a training: held-out showers generated again, judged by P + E."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.metrics.figures_of_merit import merit
from caloforge.models.base import Condition, ShowerModel
from caloforge.observables import observe
from caloforge.showers import ShowerBatch, ShowerFile

BLOCK = 128
# counts as a hit in the quick look; MeV
HIT_THRESHOLD = 0.2
# the same noise at every evaluation: what changes is the model
NOISE_SEED = 20190311

Values = dict[str, NDArray[np.float32]]


class Evaluation:
    """Held-out truth, measured once, and the comparison of a model with it."""

    def __init__(self, data: Path, start: int, stop: int) -> None:
        """Measure the showers [start, stop) of a file."""
        self.conditions: list[Condition] = []
        blocks = []
        with ShowerFile(data) as file:
            self.detector = file.detector
            for first in range(start, stop, BLOCK):
                batch = file.read(first, min(first + BLOCK, stop))
                self.conditions.append(Condition.of(batch))
                blocks.append(observe(batch, self.detector, threshold=HIT_THRESHOLD))
        self.truth = _joined(blocks)

    def __call__(self, model: ShowerModel, device: torch.device, precision: str) -> dict[str, float]:
        """P + E of a model and a few numbers to look at; the model is left in training mode.

        Returns:
            `merit`, and the mean response and hits relative to the truth.
        """
        values = _joined(list(self._generated(model, device, precision)))
        response, hits = (
            float(values[name].mean() / self.truth[name].mean()) for name in ("response", "hits")
        )
        return {"merit": merit(self.truth, values), "response_ratio": response, "hits_ratio": hits}

    def _generated(self, model: ShowerModel, device: torch.device, precision: str) -> Iterator[Values]:
        model.eval()
        noise = torch.Generator().manual_seed(NOISE_SEED)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            for condition in self.conditions:
                latent = torch.randn((len(condition), *model.noise_shape), generator=noise)
                showers = model.generate(condition.to(device), latent.to(device)).float().cpu()
                batch = ShowerBatch(
                    showers.numpy(),
                    condition.energy.numpy(),
                    condition.theta.numpy(),
                    condition.phi.numpy(),
                    condition.pdg_id.numpy(),
                )
                yield observe(batch, self.detector, threshold=HIT_THRESHOLD)
        model.train()


def _joined(blocks: list[Values]) -> Values:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
