"""Simulate the Geant4 showers of tests/data: physics, defects and the released model are checked with them.

    python scripts/write_test_showers.py SCRATCH    # 400 electrons and 100 photons: 11 minutes of one core

SCRATCH keeps what Geant4 gave; an interrupted run goes on there. The energies are rounded, so that the files
are small. No released model was trained on these seeds.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import caloforge
from caloforge import ShowerFile
from caloforge.showers import ShowerWriter

FOLDER = Path(__file__).parents[1] / "tests/data"
SAMPLES = {
    "clic-electrons": {"n": 400, "seed": 501},
    "clic-photons": {"n": 100, "seed": 502, "set_": ["beam.particle=gamma"]},
}
# relative error of a rounded energy: up to 2^-13, far below what the showers fluctuate by
KEPT_BITS = 12
MANTISSA_BITS = 23


def main(scratch: Path) -> None:
    for name, options in SAMPLES.items():
        exact = scratch / f"{name}.h5"
        caloforge.simulate("clic-electron", out=exact, resume=True, **options)
        with ShowerFile(exact) as file:
            batch, detector, provenance = file.read(), file.detector, file.provenance
        facts = provenance | {
            "command": "python scripts/write_test_showers.py",
            "rounded_to_mantissa_bits": KEPT_BITS,
        }
        path = FOLDER / exact.name
        with ShowerWriter(path, detector, facts, with_seconds=True, force=True) as writer:
            writer.append(replace(batch, showers=rounded(batch.showers)))
        sys.stdout.write(f"{path.name}: {len(batch)} showers, {path.stat().st_size / 1e6:.1f} MB\n")


def rounded(energies: np.ndarray) -> np.ndarray:
    """To the nearest float of fewer bits, the others 0: those compress."""
    dropped = MANTISSA_BITS - KEPT_BITS
    bits = np.ascontiguousarray(energies).view(np.uint32)
    half = np.uint32(1 << (dropped - 1))
    return ((bits + half) & ~np.uint32((1 << dropped) - 1)).view(np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
