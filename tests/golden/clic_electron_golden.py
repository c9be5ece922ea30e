"""Golden showers of the released model `clic-electron`: how they are made, stored and compared.

A change that alters them changes what users get with the same seed. Run this file to write them anew, and say
in the commit why.
"""

from pathlib import Path

import numpy as np

from caloforge.conditions import Conditions
from caloforge.generation.generate import stream
from caloforge.generation.plan import Plan
from caloforge.models.store import load_model

STORED = Path(__file__).with_name("clic_electron.npz")
SEED = 20190311
ENERGIES_GEV = (10.0, 14.0, 40.0, 100.0, 250.0, 500.0)


def generated(backend):
    """Showers of electrons of `ENERGIES_GEV`, (N, cells) MeV, float32."""
    count = len(ENERGIES_GEV)
    columns = Conditions(
        energy=np.array(ENERGIES_GEV, np.float32) * 1000,
        theta=np.full(count, np.pi / 2, np.float32),
        phi=np.zeros(count, np.float32),
        pdg_id=np.full(count, 11, np.int32),
    )
    batches = stream(load_model("clic-electron"), columns, seed=SEED, plan=Plan(backend, batch_size=4))
    return np.concatenate([batch.showers.reshape(len(batch), -1) for batch in batches])


def stored():
    """The golden showers, (N, cells) MeV."""
    with np.load(STORED, allow_pickle=False) as parts:
        showers = np.zeros(tuple(parts["shape"]), np.float32)
        showers.reshape(-1)[parts["cell"]] = parts["energy"]
    return showers


def main():
    showers = generated("torch")
    cell = np.flatnonzero(showers)
    np.savez_compressed(
        STORED, shape=np.array(showers.shape), cell=cell.astype(np.uint32), energy=showers.reshape(-1)[cell]
    )


if __name__ == "__main__":
    main()
