"""The published architectures (svalleco/3Dgan, branches Energy-gan and Anglegan) and a small one.

Kernels are written (depth, y, x). Counting the running statistics of batch normalisation, as Keras does, the
orthogonal networks have 872 948 (generator) and 73 450 parameters on a 25x25x25 mesh, those of the angle
version 1 365 047 and 87 402 on 51x51x25.
"""

from __future__ import annotations

from typing import Any

_HE = {"init": "he-uniform"}
_RELU = {"activation": "relu", **_HE}
_BN_DROP = {"batch_norm": True, "dropout": 0.2}

_ORTHOGONAL: dict[str, Any] = {
    "generator": {
        "latent": 200,
        "conditioning": "multiply",
        "seed_channels": 8,
        "blocks": [
            {"filters": 64, "kernel": (8, 6, 6), "same": True, "batch_norm": True, **_HE},
            {
                "filters": 6,
                "kernel": (8, 5, 6),
                "upsample": (2, 2, 2),
                "pad": (0, 2, 2),
                "batch_norm": True,
                **_HE,
            },
            {"filters": 6, "kernel": (8, 3, 3), "upsample": (3, 2, 2), "pad": (3, 0, 1), **_HE},
            {
                "filters": 1,
                "kernel": (2, 2, 2),
                "bias": False,
                "activation": "relu",
                "init": "glorot-normal",
            },
        ],
    },
    "discriminator": {
        "blocks": [
            {"filters": 32, "kernel": (5, 5, 5), "same": True, "dropout": 0.2},
            {"filters": 8, "kernel": (5, 5, 5), "pad": (2, 2, 2), **_BN_DROP},
            {"filters": 8, "kernel": (5, 5, 5), "pad": (2, 2, 2), **_BN_DROP},
            {"filters": 8, "kernel": (5, 5, 5), "pad": (1, 1, 1), **_BN_DROP},
        ],
        "pool": 2,
    },
    "weights": {"real_fake": 2.0, "energy": 0.1, "sum": 0.1},
    "cell_unit": "10 MeV",
    "power": 1.0,
    "fake_conditions": "fresh",
}

_ANGLE: dict[str, Any] = {
    "generator": {
        "latent": 256,
        "conditioning": "concatenate",
        "seed_channels": 8,
        "blocks": [
            {"filters": 8, "kernel": (8, 6, 6), "upsample": (6, 6, 6), "batch_norm": True, **_RELU},
            {"filters": 6, "kernel": (6, 4, 4), "pad": (1, 2, 2), "batch_norm": True, **_RELU},
            {"filters": 6, "kernel": (6, 4, 4), "pad": (1, 2, 2), "batch_norm": True, **_RELU},
            {"filters": 6, "kernel": (6, 4, 4), "pad": (1, 2, 2), "batch_norm": True, **_RELU},
            {"filters": 6, "kernel": (5, 3, 3), "pad": (0, 1, 1), "batch_norm": True, **_RELU},
            {"filters": 6, "kernel": (3, 3, 3), "pad": (0, 1, 1), **_RELU},
            {"filters": 1, "kernel": (2, 2, 2), "activation": "relu", "init": "glorot-normal"},
        ],
    },
    "discriminator": {
        "blocks": [
            {"filters": 16, "kernel": (6, 6, 5), "same": True, "dropout": 0.2},
            {"filters": 8, "kernel": (6, 6, 5), "pad": (1, 0, 0), **_BN_DROP},
            {"filters": 8, "kernel": (6, 6, 5), "pad": (1, 0, 0), **_BN_DROP},
            {"filters": 8, "kernel": (6, 6, 5), **_BN_DROP},
        ],
        "pool": 2,
    },
    "weights": {"real_fake": 3.0, "energy": 0.1, "sum": 0.1, "angle": 25.0},
    "cell_unit": "20 MeV",
    "power": 0.85,
    "fake_conditions": "batch",
    "batch_norm_epsilon": 1e-6,
}

# small enough for a laptop, and for any mesh, since all convolutions keep its size
_DEBUG: dict[str, Any] = {
    "generator": {
        "latent": 32,
        "conditioning": "concatenate",
        "seed_channels": 16,
        "blocks": [
            {"filters": 16, "kernel": (3, 3, 3), "same": True, "batch_norm": True, **_HE},
            {
                "filters": 8,
                "kernel": (3, 3, 3),
                "upsample": (2, 2, 2),
                "same": True,
                "batch_norm": True,
                **_HE,
            },
            {"filters": 4, "kernel": (3, 3, 3), "upsample": (2, 2, 2), "same": True, **_HE},
            {"filters": 1, "kernel": (3, 3, 3), "same": True, "activation": "relu", "init": "glorot-normal"},
        ],
    },
    "discriminator": {
        "blocks": [
            {"filters": 8, "kernel": (4, 4, 4), "stride": (2, 2, 2), "same": True},
            {"filters": 16, "kernel": (4, 4, 4), "stride": (2, 2, 2), "same": True, "batch_norm": True},
        ],
        "pool": 1,
    },
    "weights": {"real_fake": 6.0, "energy": 0.1, "sum": 0.5},
    "cell_unit": "5 MeV",
    "power": 0.5,
    "fake_conditions": "batch",
    "batch_norm_momentum": 0.1,
}

# most of the work at low resolution, from a closed-form start; trained on two cores
_COMPACT: dict[str, Any] = {
    "generator": {"kind": "compact"},
    "discriminator": {"kind": "compact"},
    "weights": {"real_fake": 0.5, "energy": 0.001, "sum": 0.0, "energy_distance": 40.0},
    "cell_unit": "1 MeV",
    "power": 0.5,
    "fake_conditions": "batch",
    "generator_updates": 1,
    "adversarial_after": 400,
}

# the same for inclined showers, in windows that follow their axes
_COMPACT_ANGLE: dict[str, Any] = {
    **_COMPACT,
    "generator": {
        "kind": "compact",
        "radial_bins": [0, 1, 2, 3, 5, 8, 12, 17],
        "window": 47,
        "energy_dependent": True,
        # coarser maps: its samples are smaller
        "map_energies": 3,
        "response_squared": False,
    },
    "discriminator": {"kind": "compact"},
    "weights": {**_COMPACT["weights"], "angle": 0.05},
}

PRESETS: dict[str, dict[str, Any]] = {
    "orthogonal": _ORTHOGONAL,
    "angle": _ANGLE,
    "compact": _COMPACT,
    "compact-angle": _COMPACT_ANGLE,
    "debug": _DEBUG,
}
