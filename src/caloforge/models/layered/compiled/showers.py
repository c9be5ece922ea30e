"""Both stages one after the other. Importing this compiles nothing."""

from __future__ import annotations

import numpy as np

from caloforge.machine_code import compiled
from caloforge.models.layered.compiled.arithmetic import f32
from caloforge.models.layered.compiled.cells import fill, memory
from caloforge.models.layered.compiled.layers import chosen, known, summarised
from caloforge.models.layered.constants import CHOICES, TRANSVERSE


@compiled(fastmath=True)
def make(layers, cells, columns, particle, energy, noise, start, out):
    """Some showers of a pass.

    Args:
        layers: `LayerTables`.
        cells: `Tables`.
        columns: (N, at least 1), see `LayerStage.columns`; the first is the argument of the energy.
        particle: (N,) which of the particles.
        energy: (N,) incident, MeV.
        noise: (n, CHOICES + ...) of the showers from the start on.
        start: Number of the first of the n showers.
        out: (N, layers, cells) MeV; n of them are filled.
    """
    size, shape = layers.mean.shape[1], (out.shape[1], len(cells.zones))
    summary, spreads = np.empty(size, f32), np.empty(size, f32)
    zone_energy, hits, own = np.empty(shape, f32), np.empty(shape, f32), memory(cells)
    for number in range(len(noise)):
        n = start + number
        choice = chosen(layers, columns[n], particle[n], noise[number])
        summarised(layers, columns[n], choice, spreads, summary)
        known(layers, summary, energy[n], cells.sizes[1], cells.scalars[3], zone_energy, hits)
        transverse, first = summary[len(summary) - TRANSVERSE :], number * noise.shape[1] + CHOICES
        fill(cells, own, zone_energy, hits, transverse, columns[n, 0], noise.reshape(-1), first, out[n])
