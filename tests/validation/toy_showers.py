"""Small showers that look like some: gamma profiles with fluctuations, quick to make in any number."""

import numpy as np

from caloforge.geometry import Detector, load_detector
from caloforge.geometry.detector import Detector as _Detector
from caloforge.showers import ShowerBatch, ShowerWriter

RAGGED = {
    "name": "toy-ragged",
    "mesh": {
        "kind": "ragged",
        "layers": [
            {"id": 0, "r_edges": ["0 mm", "5 mm", "10 mm", "30 mm"], "nphi": 1},
            {"id": 1, "r_edges": ["0 mm", "4 mm", "10 mm", "30 mm"], "nphi": 6},
            {"id": 2, "r_edges": ["0 mm", "10 mm", "30 mm"], "nphi": 6},
        ],
    },
}


def detector(kind: str = "cartesian") -> Detector:
    if kind == "cartesian":
        return load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))
    if kind == "cylindrical":
        return load_detector("par04-siw", ("mesh.nr=5", "mesh.nphi=8", "mesh.cell_r=10 mm"))
    return _Detector.model_validate(RAGGED)


def batch(n: int, seed: int, kind: str = "cartesian", *, low=10e3, high=100e3, theta=None) -> ShowerBatch:
    """Showers of a flat spectrum; every voxel fluctuates, so do depth and response."""
    rng = np.random.default_rng(seed)
    where = detector(kind)
    energy = rng.uniform(low, high, n)
    angle = np.full(n, np.pi / 2) if theta is None else rng.uniform(*theta, n)
    shape = where.shower_shape
    if kind == "ragged":
        mean = np.linspace(2, 0.2, shape[0])[None, :].repeat(n, 0)
    else:
        depth = np.arange(shape[0]) + 0.5
        peak = shape[0] * (0.4 + 0.05 * rng.normal(size=n))[:, None]
        along = (depth / peak) ** 3 * np.exp(3 - 3 * depth / peak)
        across = np.ones(shape[1:])
        if kind == "cartesian":
            y, x = np.meshgrid(*(np.arange(k) - (k - 1) / 2 for k in shape[1:]), indexing="ij")
            across = np.exp(-np.hypot(x, y) / 0.9)
        else:
            across *= np.exp(-np.arange(shape[2]) / 1.2)
        mean = along[:, :, None, None] * across
    mean = mean.reshape(n, -1)
    mean *= (0.02 * energy * (1 + 0.03 * rng.normal(size=n)) / mean.sum(axis=1))[:, None]
    voxels = rng.gamma(np.maximum(mean, 1e-6), 1.0)
    voxels[voxels < 0.05] = 0
    return ShowerBatch(
        voxels.reshape(n, *shape).astype(np.float32), energy, angle, np.zeros(n), np.full(n, 11, np.int32)
    )


def write(path, showers: ShowerBatch, kind: str = "cartesian", **options):
    """A shower file; `provenance` and `energy_meaning` may be given."""
    provenance = options.pop("provenance", {"engine": "Geant4, in jest"})
    with ShowerWriter(path, options.pop("detector", detector(kind)), provenance, **options) as writer:
        writer.append(showers)
    return path


def one_layer(n: int, seed: int) -> tuple[ShowerBatch, Detector]:
    """Showers of a homogeneous block with a single readout layer."""
    block = {
        "name": "block",
        "width": "60 mm",
        "layers": [{"slabs": [{"material": "G4_PbWO4", "thickness": "220 mm", "active": True}]}],
        "mesh": {"kind": "cartesian", "nx": 7, "ny": 7, "cell_x": "5 mm", "cell_y": "5 mm"},
    }
    showers = batch(n, seed)
    showers.showers = showers.showers.sum(axis=1, keepdims=True)
    return showers, _Detector.model_validate(block)
