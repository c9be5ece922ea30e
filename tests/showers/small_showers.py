"""Small showers in small detectors, for tests."""

import numpy as np

from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerWriter

SLABS = [
    {"material": "G4_W", "thickness": "3 mm"},
    {"material": "G4_Si", "thickness": "0.5 mm", "active": True},
]
MESHES = {
    "cartesian": {"kind": "cartesian", "nx": 4, "ny": 5, "cell_x": "5 mm", "cell_y": "5 mm"},
    "cylindrical": {"kind": "cylindrical", "nr": 4, "nphi": 5, "cell_r": "5 mm"},
    "ragged": {
        "kind": "ragged",
        "layers": [
            {"id": 0, "r_edges": ["0 mm", "5 mm", "9 mm"], "nphi": 1},
            {"id": 2, "r_edges": ["0 mm", "5 mm", "9 mm"], "nphi": 6},
        ],
    },
}


def make_detector(kind="cartesian"):
    layers = {} if kind == "ragged" else {"layers": [{"repeat": 6, "slabs": SLABS}]}
    return load_detector({"name": f"small-{kind}", "mesh": MESHES[kind], **layers})


def make_batch(detector, n=10, seed=0, seconds=True):
    """Sparse showers with energies from 1 to 100 GeV."""
    rng = np.random.default_rng(seed)
    shape = (n, *detector.shower_shape)
    energy = rng.uniform(1e3, 1e5, n).astype(np.float32)
    weights = rng.exponential(size=shape) * (rng.random(shape) < 0.6)
    scale = 0.02 * energy / weights.reshape(n, -1).sum(axis=1)
    return ShowerBatch(
        showers=weights * scale.reshape(n, *[1] * len(detector.shower_shape)),
        incident_energy=energy,
        incident_theta=np.full(n, np.pi / 2),
        incident_phi=np.zeros(n),
        pdg_id=rng.choice([11, 22], n),
        seconds=rng.random(n) if seconds else None,
    )


def write(path, detector, *batches, seconds=True, **options):
    with ShowerWriter(
        path, detector, {"engine": "test", "seed": 7}, with_seconds=seconds, **options
    ) as writer:
        for batch in batches:
            writer.append(batch)
    return path
