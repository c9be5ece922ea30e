"""Detectors, hand-made showers and the Geant4 sample that the tests of the observables share."""

from pathlib import Path

import numpy as np
import pytest

from caloforge.geometry import Detector
from caloforge.showers import ShowerBatch, ShowerFile

# 400 showers that every clone has, and 4500
SHIPPED = Path(__file__).parents[1] / "data" / "clic-electrons.h5"
TRUTH = Path(__file__).parents[2].parent / "shared" / "truth" / "clic_electron_orthogonal.h5"
needs_truth = pytest.mark.skipif(
    not TRUTH.exists(),
    reason="needs the 4500 showers of ../shared/truth: the 400 of tests/data are too few for it",
)

_LAYER = {
    "slabs": [
        {"material": "G4_W", "thickness": "2.4 mm"},
        {"material": "G4_Si", "thickness": "0.5 mm", "active": True},
    ]
}
_MESHES = {
    "cartesian": {"kind": "cartesian", "nx": 7, "ny": 9, "cell_x": "5 mm", "cell_y": "5 mm"},
    "square": {"kind": "cartesian", "nx": 9, "ny": 9, "cell_x": "5 mm", "cell_y": "5 mm"},
    "cylindrical": {"kind": "cylindrical", "nr": 5, "nphi": 8, "cell_r": "4 mm"},
    "ragged": {
        "kind": "ragged",
        "layers": [
            {"id": 0, "r_edges": ["0 mm", "5 mm", "10 mm"], "nphi": 1},
            {"id": 1, "r_edges": ["0 mm", "2 mm", "10 mm", "20 mm"], "nphi": 4},
            {"id": 12, "r_edges": ["0 mm", "50 mm"], "nphi": 1},
        ],
    },
}
DETECTORS = {
    name: Detector.model_validate(
        {"name": name, "mesh": mesh}
        | ({} if name == "ragged" else {"layers": [_LAYER | {"repeat": 8}], "axis_layer": 4})
    )
    for name, mesh in _MESHES.items()
}


def as_batch(showers, energy=1e4, theta=np.pi / 2):
    """Showers with the same incident particle, or one energy and angle each."""
    n = len(showers)
    full = (np.broadcast_to(np.asarray(value, np.float32), n).copy() for value in (energy, theta, 0.0))
    return ShowerBatch(showers, *full, np.full(n, 11))


def random_showers(detector, n=12, seed=1):
    """Showers without physics, about half of the voxels empty."""
    rng = np.random.default_rng(seed)
    showers = rng.exponential(size=(n, *detector.shower_shape)).astype(np.float32)
    showers[showers < 0.7] = 0
    return showers


def read_truth(start, stop):
    with ShowerFile(TRUTH) as file:
        return file.read(start, stop), file.detector


def read_shipped(stop=400):
    with ShowerFile(SHIPPED) as file:
        return file.read(0, stop), file.detector
