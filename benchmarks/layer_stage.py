"""Both layer samplers of the layered family, fitted to few showers and to many.

    python benchmarks/layer_stage.py TRAIN.h5 TEST.h5... --showers 500 2000 4000 --seeds 1 2 3

The cells are those of a trained model (the released one unless --model names another): only the layer stage
is fitted again, in seconds, so that differences are its own. Of TRAIN.h5 a random part is used, and the rest
of it (at most 1500 showers) is a test. Each test gives a row: for the same energies, area under the curve of
boosted trees on the layer features (energies and hits of the radial bins, response, position), and on
observables of whole showers, and the shifts of response and hits, and of their spreads, in per cent.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.metrics.tree_classifier import classifier_auc
from caloforge.models.base import Condition, TrainingBatch
from caloforge.models.layered.cell_density import CellCondition
from caloforge.models.layered.model import Layered
from caloforge.models.registry import build_model
from caloforge.models.store import load_model
from caloforge.observables import high_level_features, observe
from caloforge.showers import ShowerBatch, ShowerFile

BATCH = 100


def refitted(model: Layered, kind: str, showers: ShowerBatch, seed: int) -> Layered:
    """The model with a layer stage of a kind, fitted to showers."""
    config = model.config.model_copy(update={"layer_sampler": kind})
    changed = build_model(config, model.detector, model.facts, seed=seed)
    assert isinstance(changed, Layered)
    parts = [showers[start : start + BATCH] for start in range(0, len(showers), BATCH)]
    torch.manual_seed(seed)
    changed.fit(parts, np.random.default_rng(seed))
    changed.cell_sampler.load_state_dict(model.cell_sampler.state_dict())
    return changed.eval()


def numbers(condition: CellCondition, energy: NDArray[np.float32]) -> NDArray[np.float32]:
    """What trees are trained on, (N, ...): roots of the energies of bins, hits, position, energies."""
    total = condition.bin_energy.sum((1, 2)).numpy()
    roots = condition.bin_energy.flatten(1).numpy() ** (1 / 3)
    columns = [roots, condition.hit_counts.flatten(1).numpy(), condition.position.numpy()]
    return np.concatenate(
        [*columns, np.log(total / energy)[:, None], np.log(energy)[:, None]], axis=1
    ).astype(np.float32)


def draw(model: Layered, real: ShowerBatch, seed: int) -> tuple[NDArray[np.float32], ShowerBatch]:
    """Layer features, and whole showers, for the energies of real ones."""
    generator = torch.Generator().manual_seed(seed)
    features, showers = [], []
    with torch.inference_mode():
        for start in range(0, len(real), BATCH):
            part = real[start : start + BATCH]
            condition = Condition.of(part)
            noise = torch.randn((len(part), *model.noise_shape), generator=generator)
            of_features = noise[:, : model.layer_sampler.noise_size]
            features.append(numbers(model.sample_features(condition, of_features), part.incident_energy))
            showers.append(model.generate(condition, noise).numpy())
    made = ShowerBatch(
        np.concatenate(showers), real.incident_energy, real.incident_theta, real.incident_phi, real.pdg_id
    )
    return np.concatenate(features), made


def shift(real: NDArray[np.float64], made: NDArray[np.float64]) -> str:
    mean, spread = made.mean() / real.mean() - 1, made.std() / real.std() - 1
    return f"{100 * mean:+.1f} ({100 * spread:+.0f})"


def row(model: Layered, real: ShowerBatch, seed: int) -> str:
    """Trees on features, trees on showers, response and hits with their spreads."""
    features, made = draw(model, real, seed)
    with torch.inference_mode():
        condition, _ = model.condition_and_cells(TrainingBatch.of(real))
    area = classifier_auc(numbers(condition, real.incident_energy), features)
    threshold = model.config.cell_threshold
    whole = classifier_auc(
        *(
            high_level_features(observe(one, model.detector, threshold=threshold), one.incident_energy)
            for one in (real, made)
        )
    )
    response = [b.showers.sum((1, 2, 3), dtype=np.float64) / b.incident_energy for b in (real, made)]
    hits = [(b.showers >= threshold).sum((1, 2, 3)).astype(np.float64) for b in (real, made)]
    areas = " | ".join(f"{one.value:.3f} ± {one.uncertainty:.3f}" for one in (area, whole))
    return f"{areas} | {shift(*response)} | {shift(*hits)}"


def kilobytes(model: Layered) -> int:
    return round(sum(value.nbytes for value in model.state_dict().values()) / 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("tests", type=Path, nargs="*")
    parser.add_argument("--showers", type=int, nargs="+", default=[500, 2000, 4000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--kinds", nargs="+", default=["resampling", "flow"])
    parser.add_argument("--model", default="clic-electron")
    parser.add_argument(
        "--more", type=Path, help="train on these as well, from 0.8 times the least trained energy on"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    assert isinstance(model, Layered)
    with ShowerFile(arguments.train) as file:
        everything = file.read()
    print("| sampler | showers | seed | kB | fit, s | test | features | showers | response, % | hits, % |")
    print("|---|---:|---:|---:|---:|---|---|---|---|---|")
    for count in arguments.showers:
        for seed in arguments.seeds:
            order = np.random.default_rng(seed).permutation(len(everything))
            showers = everything[np.sort(order[:count])]
            # what is left of the training file is a test as well
            tests = {"rest": everything[np.sort(order[-min(1500, len(order) - count) :])]}
            if arguments.more:
                with ShowerFile(arguments.more) as file:
                    more = file.read()
                inside = more.incident_energy >= 0.8 * model.ranges.energy[0]
                showers = ShowerBatch.concatenate([showers, more[inside]])
            for path in arguments.tests:
                with ShowerFile(path) as file:
                    tests[path.stem] = file.read()
            for kind in arguments.kinds:
                start = time.process_time()
                fitted = refitted(model, kind, showers, seed)
                seconds = time.process_time() - start
                first = f"| {kind} | {len(showers)} | {seed} | {kilobytes(fitted)} | {seconds:.0f}"
                for name, real in tests.items():
                    print(f"{first} | {name} | {row(fitted, real, seed)} |", flush=True)


if __name__ == "__main__":
    main()
