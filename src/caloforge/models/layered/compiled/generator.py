"""`Layered.generate` over arrays, for one thread of a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.base import Condition
from caloforge.models.layered.compiled.cells import fill
from caloforge.models.layered.compiled.layers import known, places, summaries
from caloforge.models.layered.compiled.tables import tables_of
from caloforge.models.layered.layers import DONORS, tails_of

if TYPE_CHECKING:
    from caloforge.models.layered.model import Layered

FloatArray = NDArray[np.float32]


class CompiledGenerator:
    """What `Layered.generate` does, up to float rounding.

    The first call in a process loads the code; the first on a machine compiles it, about 10 s.
    """

    def __init__(self, model: Layered) -> None:
        """Read the weights, which must not change afterwards."""
        self._model = model
        self._tables = tables_of(model.cell_stage)
        stage = model.layer_stage
        weights = (stage.mean, stage.spread, stage.donors, stage.quantiles)
        self._weights = tuple(weight.contiguous().numpy() for weight in weights)
        self._tails = torch.stack(tails_of(stage.quantiles)).numpy()
        self._order = (stage.ladder.numpy(), stage.blocks.numpy(), stage.centres.numpy())
        self._particles = np.array(model.ranges.pdg_ids, np.int32)
        self._threshold = np.float32(model.config.cell_threshold)

    @torch.inference_mode()
    def __call__(self, condition: Condition, noise: FloatArray) -> FloatArray:
        """Showers (N, *shower_shape) in MeV of N conditions and (N, *noise_shape) noise."""
        model, layout, stage, count = self._model, self._model.layout, self._model.layer_stage, len(noise)
        noise = np.ascontiguousarray(noise)
        # logarithms by torch, whose roundings decide on donors
        argument = stage.argument(condition.energy)
        columns = stage.columns(argument, condition.theta, condition.phi, condition.pdg_id).numpy()
        # an unknown one is refused before, or taken for the first
        particle = (condition.pdg_id.numpy()[:, None] == self._particles).argmax(axis=1)
        rows, lower = np.empty((count, DONORS), np.uint32), np.empty(count, np.uint32)
        share, summary = np.empty(count, np.float32), np.empty((count, layout.size), np.float32)
        places(columns, particle, noise, *self._order, rows, lower, share)
        summaries(columns, rows, lower, share, *self._weights, self._tails, summary)
        energy, hits = np.empty((2, count, layout.layers, layout.zones), np.float32)
        known(summary, condition.energy.numpy(), self._tables.sizes, self._threshold, energy, hits)
        showers = np.zeros((count, *model.detector.shower_shape), np.float32)
        fill(
            self._tables,
            energy,
            hits,
            np.ascontiguousarray(summary[:, layout.transverse]),
            argument.numpy(),
            noise,
            DONORS,
            showers.reshape(count, layout.layers, -1),
        )
        return showers
