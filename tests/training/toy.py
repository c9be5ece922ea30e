"""A small detector, model and showers for the tests of the training."""

import numpy as np

import caloforge
from caloforge.showers import ShowerBatch

DETECTOR = {
    "name": "toy",
    "width": "1 m",
    "layers": [
        {
            "repeat": 6,
            "slabs": [
                {"material": "G4_W", "thickness": "3 mm"},
                {"material": "G4_Si", "thickness": "0.5 mm", "active": True},
            ],
        }
    ],
    "mesh": {"kind": "cartesian", "nx": 8, "ny": 8, "cell_x": "5 mm", "cell_y": "5 mm"},
}
MODEL = {
    "family": "gan3d",
    "preset": "debug",
    "generator": {
        "latent": 6,
        "seed_channels": 2,
        "blocks": [
            {"filters": 2, "kernel": [3, 3, 3], "same": True, "upsample": [2, 2, 2], "batch_norm": True},
            {"filters": 1, "kernel": [3, 3, 3], "same": True, "activation": "relu"},
        ],
    },
    "discriminator": {
        "blocks": [{"filters": 2, "kernel": [3, 3, 3], "same": True, "batch_norm": True, "dropout": 0.2}]
    },
}


def make_showers(count, seed=0):
    """Blobs whose depth grows with energy: enough structure for a merit that means something."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1e4, 1e5, count).astype(np.float32)
    z, y, x = np.meshgrid(np.arange(6), np.arange(8) - 3.5, np.arange(8) - 3.5, indexing="ij")
    depth = 1 + np.log(energy / 1e4)
    shape = np.exp(-((z - depth[:, None, None, None]) ** 2) / 2 - (x**2 + y**2) / 3)
    shape *= rng.gamma(4, 0.25, shape.shape)
    showers = 0.02 * energy[:, None, None, None] * shape / shape.sum(axis=(1, 2, 3), keepdims=True)
    half = np.full(count, np.pi / 2)
    return ShowerBatch(showers, energy, half, np.zeros(count), np.full(count, 11))


def train(run, data, out, steps, **options):
    """The verb, for some steps."""
    settings = [f"training.max_steps={steps}", "training.threads=1"]
    return caloforge.train(run, data=data, out=out, set_=settings, progress=False, **options)
