"""`Layered.generate` over arrays, for one thread of a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.base import Condition, NoiseOf
from caloforge.models.layered.compiled.showers import make
from caloforge.models.layered.compiled.tables import layer_tables_of, tables_of

if TYPE_CHECKING:
    from caloforge.models.layered.model import Layered

# showers whose noise, an eighth of a megabyte each, is made and used at once
AT_ONCE = 8


class CompiledGenerator:
    """What `Layered.generate` does, up to float rounding.

    The first call in a process loads the code; the first on a machine compiles it, about 15 s.
    """

    def __init__(self, model: Layered) -> None:
        """Read the weights, which must not change afterwards."""
        self._stage = model.layer_stage
        self._shape = model.detector.shower_shape
        self._tables = (
            layer_tables_of(model.layer_stage, model.balance),
            tables_of(model.cell_stage, model.order),
        )

    @torch.inference_mode()
    def __call__(self, condition: Condition, noise: NoiseOf) -> NDArray[np.float32]:
        """Showers (N, *shower_shape) in MeV of N conditions and their noise."""
        count = len(condition.energy)
        # logarithms by torch, whose roundings decide on donors
        argument = self._stage.argument(condition.energy)
        columns = self._stage.columns(argument, condition.theta, condition.phi, condition.pdg_id).numpy()
        particle, energy = self._stage.particle(condition.pdg_id).numpy(), condition.energy.numpy()
        showers = np.empty((count, *self._shape), np.float32)
        layers = showers.reshape(count, self._shape[0], -1)
        for start in range(0, count, AT_ONCE):
            stop = min(start + AT_ONCE, count)
            numbers = np.ascontiguousarray(noise(start, stop))
            make(*self._tables, columns, particle, energy, numbers, start, layers)
        return showers
