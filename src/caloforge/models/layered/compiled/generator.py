"""`Layered.generate` over arrays, for one thread of a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.base import Condition
from caloforge.models.layered.compiled.cells import fill
from caloforge.models.layered.compiled.layers import known, summaries
from caloforge.models.layered.compiled.tables import tables_of
from caloforge.models.layered.layers import DONORS, tails_of

if TYPE_CHECKING:
    from caloforge.models.layered.model import Layered

FloatArray = NDArray[np.float32]


class CompiledGenerator:
    """What `Layered.generate` does, up to float rounding.

    The first call in a process loads the code; the first on a machine compiles it, about 20 s.
    """

    def __init__(self, model: Layered) -> None:
        """Read the weights, which must not change afterwards."""
        stage = model.layer_stage
        self._model = model
        self._tables = tables_of(model.cell_stage)
        self._donors = stage.donors.numpy()
        self._quantiles = stage.quantiles.numpy()
        self._tails = torch.stack(tails_of(stage.quantiles)).numpy()
        self._threshold = np.float32(model.config.cell_threshold)

    @torch.inference_mode()
    def __call__(self, condition: Condition, noise: FloatArray) -> FloatArray:
        """Showers (N, *shower_shape) in MeV of N conditions and (N, *noise_shape) noise."""
        model, layout, stage = self._model, self._model.layout, self._model.layer_stage
        rows = stage.rows(torch.from_numpy(noise[:, :DONORS]), condition)
        lower, share = stage.bins(condition.energy)
        mean, spread = stage.moments(condition)
        summary = np.empty((len(noise), layout.size), np.float32)
        summaries(
            rows.numpy().astype(np.uint32),
            lower.numpy().astype(np.uint32),
            share.numpy(),
            mean.numpy(),
            spread.numpy(),
            self._donors,
            self._quantiles,
            self._tails,
            summary,
        )
        energy, hits = np.empty((2, len(noise), layout.layers, layout.zones), np.float32)
        known(summary, condition.energy.numpy(), self._tables.sizes, self._threshold, energy, hits)
        showers = np.zeros((len(noise), *model.detector.shower_shape), np.float32)
        fill(
            self._tables,
            energy,
            hits,
            np.ascontiguousarray(summary[:, layout.transverse]),
            stage.argument(condition.energy).numpy(),
            np.ascontiguousarray(noise),
            DONORS,
            showers.reshape(len(noise), layout.layers, -1),
        )
        return showers
