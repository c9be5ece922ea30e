"""Speed of a training step of the published 3DGAN: memory layout of the images, forward and backward.

    python benchmarks/published_training.py

Steps (the discriminator on real and on generated images, the generator twice) with random showers, one core,
with channels last, as caloforge trains, and channels first, as torch does by default. Both are timed in turn.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch

from caloforge.conditions import Conditions
from caloforge.config import build
from caloforge.geometry import load_detector
from caloforge.models.base import TrainingBatch
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.model import Gan3d
from caloforge.models.registry import build_model
from caloforge.models.training_metadata import DataFacts, TrainedRange

PRESETS = {"orthogonal": "clic-ecal-25", "angle": "clic-ecal-51"}
LAYOUTS = {"channels last": torch.channels_last_3d, "channels first": torch.contiguous_format}


def model_and_batch(preset: str, size: int) -> tuple[Gan3d, TrainingBatch]:
    detector = load_detector(PRESETS[preset])
    half = 0.5 if preset == "angle" else 0.0
    ranges = TrainedRange(
        energy=(1e4, 5e5), theta=(math.pi / 2 - half, math.pi / 2 + half), phi=(0.0, 0.0), pdg_ids=(11,)
    )
    facts = DataFacts(ranges=ranges, response_fit=(0.02,))
    model = build_model(build(Gan3dConfig, {"preset": preset}, "model"), detector, facts, seed=1)
    assert isinstance(model, Gan3d)
    rng = np.random.default_rng(0)
    showers = rng.exponential(1.0, (size, *detector.shower_shape)).astype(np.float32)
    straight = np.full(size, np.pi / 2, np.float32)
    conditions = Conditions(
        np.full(size, 1e5, np.float32), straight, 0 * straight, np.full(size, 11, np.int32)
    )
    return model, TrainingBatch.of(conditions.with_showers(showers, detector=detector))


def step(model: Gan3d, batch: TrainingBatch) -> float:
    """Seconds of CPU time of one step, without the optimiser."""
    start = time.process_time()
    for phase in model.step(batch):
        model.zero_grad()
        phase.loss.backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for preset in PRESETS:
        model, batch = model_and_batch(preset, args.batch)
        seconds: dict[str, list[float]] = {name: [] for name in LAYOUTS}
        for _ in range(args.repeats):
            for name, layout in LAYOUTS.items():
                model.to(memory_format=layout)
                seconds[name].append(step(model, batch))
        rates = {name: args.batch / min(found) for name, found in seconds.items()}
        print(preset, ", ".join(f"{name} {rate:.2f} showers/s" for name, rate in rates.items()), flush=True)


if __name__ == "__main__":
    main()
