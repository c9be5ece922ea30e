"""Train hundreds of small networks on Geant4 showers: the table behind two problems for samplers.

    python benchmarks/layer_networks.py TRUTH.h5 --space architecture --count 350 --repeats 20
    python benchmarks/layer_networks.py TRUTH.h5 --space training --count 400

Each network is a density of the visible energies of the layers, layer by layer: a shared perceptron sees the
incident energy, which layer it is, and the layers before, and gives a mixture of normal distributions for the
next one. The figure is the mean negative log-likelihood of a layer in nats, on showers it was not trained on.
One to three seconds a network on one core; the table is appended to, so that a rerun goes on where the last
one ended.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from caloforge.showers import ShowerFile
from caloforge.testing.problems import CONDITIONS, SPACES, TABLE, TRAINED_WITH, TRAINING, Space, read_table

PASSES = 6
TRAIN, VALIDATION = 2000, 1000
# MeV; layers are smeared by it and it is added before the logarithm, so that no layer is exactly empty
SMEAR = 0.2
SMALLEST_WIDTH = 0.01
COLUMNS = ("space", "seed", *TRAINING, "validation_nll", "test_nll", "weights")
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU, "elu": nn.ELU}


class Block(nn.Module):
    """Linear layer, normalisation, activation, dropout; with a shortcut around where it is residual."""

    def __init__(self, inputs: int, width: int, choice: dict[str, Any], *, shortcut: bool) -> None:
        super().__init__()
        norms = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        norm = norms[choice["normalisation"]]
        self.body = nn.Sequential(
            nn.Linear(inputs, width),
            norm() if norm is nn.Identity else norm(width),
            ACTIVATIONS[choice["activation"]](),
            nn.Dropout(choice["dropout"]),
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The block at x, (n, inputs) to (n, width)."""
        return x + self.body(x) if self.shortcut else self.body(x)


class LayerDensity(nn.Module):
    """Mixture density of the next layer given the energy, its place and the layers before."""

    def __init__(self, layers: int, choice: dict[str, Any]) -> None:
        super().__init__()
        self.context, self.components = choice["context"], choice["components"]
        width = choice["width"]
        places = torch.linspace(-1, 1, layers)[:, None] if choice["place"] == "number" else torch.eye(layers)
        self.register_buffer("places", places)
        inputs = 1 + places.shape[1] + self.context
        blocks = [Block(inputs, width, choice, shortcut=False)]
        blocks += [
            Block(width, width, choice, shortcut=choice["residual"]) for _ in range(choice["depth"] - 1)
        ]
        self.network = nn.Sequential(*blocks, nn.Linear(width, 3 * self.components))

    def forward(self, layers: Tensor, energy: Tensor) -> Tensor:
        """Negative log-likelihood, mean over layers and showers; layers (B, Z), energy (B,)."""
        size, depth = layers.shape
        before = nn.functional.pad(layers, (self.context, 0))[:, :-1].unfold(1, self.context, 1)
        place = self.places.expand(size, *self.places.shape)
        inputs = torch.cat([energy[:, None, None].expand(size, depth, 1), place, before], dim=2)
        weight, mean, width = self.network(inputs.flatten(0, 1)).unflatten(1, (3, -1)).unbind(1)
        width = nn.functional.softplus(width) + SMALLEST_WIDTH
        pull = (layers.flatten()[:, None] - mean) / width
        terms = weight.log_softmax(1) - 0.5 * pull**2 - width.log() - 0.5 * math.log(2 * math.pi)
        return -terms.logsumexp(1).mean()


def load(truth: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Standardised logarithms of the layers and of the energy, each split in training, validation, test."""
    with ShowerFile(truth) as file:
        showers = [(batch.showers.sum(axis=(2, 3)), batch.incident_energy) for batch in file.iterate()]
    visible, incident = (np.concatenate(column).astype(np.float64) for column in zip(*showers, strict=True))
    rng = np.random.default_rng(0)
    layers = np.log(visible + SMEAR * (1 + rng.uniform(size=visible.shape)))
    energy = np.log(incident)
    order = rng.permutation(len(energy))
    parts = np.split(order, [TRAIN, TRAIN + VALIDATION])
    layers = (layers - layers[parts[0]].mean(0)) / layers[parts[0]].std(0)
    energy = (energy - energy[parts[0]].mean()) / energy[parts[0]].std()
    return (
        [torch.tensor(layers[part], dtype=torch.float32) for part in parts],
        [torch.tensor(energy[part], dtype=torch.float32) for part in parts],
    )


def optimiser(model: nn.Module, choice: dict[str, Any]) -> torch.optim.Optimizer:
    settings = {"lr": choice["learning_rate"], "weight_decay": choice["weight_decay"]}
    if choice["optimiser"] == "sgd":
        return torch.optim.SGD(
            model.parameters(), momentum=choice["momentum"], nesterov=choice["momentum"] > 0, **settings
        )
    return {"adam": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[choice["optimiser"]](
        model.parameters(), **settings
    )


def train(choice: dict[str, Any], seed: int, layers: list[Tensor], energy: list[Tensor]) -> dict[str, Any]:
    """One row of the table: figures of a network trained for `PASSES` passes with a cosine schedule."""
    torch.manual_seed(seed)
    model = LayerDensity(layers[0].shape[1], choice)
    steps = optimiser(model, choice)
    batches = math.ceil(TRAIN / choice["batch"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, PASSES * batches)
    for _ in range(PASSES):
        for part in torch.randperm(TRAIN).split(choice["batch"]):
            steps.zero_grad()
            model(layers[0][part], energy[0][part]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            steps.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        figures = [float(model(a, b)) for a, b in zip(layers[1:], energy[1:], strict=True)]
    return {
        "validation_nll": round(figures[0], 5),
        "test_nll": round(figures[1], 5),
        "weights": sum(p.numel() for p in model.parameters()),
    }


def draw(space: Space, count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Different random points of a space, uniform in each parameter or in its logarithm."""
    points: dict[str, dict[str, Any]] = {}
    while len(points) < count:
        point: dict[str, Any] = {}
        for name, distribution in space.items():
            if name in CONDITIONS and point[CONDITIONS[name][0]] != CONDITIONS[name][1]:
                continue
            point[name] = _draw_one(distribution, rng)
        points.setdefault(json.dumps(point), point)
    return list(points.values())


def _draw_one(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    whole = isinstance(distribution, IntDistribution)
    low, high = (
        (distribution.low - 0.5, distribution.high + 0.5) if whole else (distribution.low, distribution.high)
    )
    value = (
        math.exp(rng.uniform(math.log(low), math.log(high))) if distribution.log else rng.uniform(low, high)
    )
    # four digits are what the table holds
    return min(max(round(value), distribution.low), distribution.high) if whole else float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("truth", type=Path)
    parser.add_argument("--space", choices=["architecture", "training"], required=True)
    parser.add_argument(
        "--count", type=int, required=True, help="networks of this space in the table in the end"
    )
    parser.add_argument(
        "--repeats", type=int, default=0, help="train the first N of them again with another seed"
    )
    parser.add_argument("--table", type=Path, default=TABLE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    layers, energy = load(arguments.truth)
    choices = draw(SPACES[arguments.space], arguments.count, np.random.default_rng(1))
    jobs = [(choice, 0) for choice in choices] + [(choice, 1) for choice in choices[: arguments.repeats]]
    if not arguments.table.exists():
        header = f"# {origin(arguments.truth)}\n{','.join(COLUMNS)}\n"
        arguments.table.write_text(header)
    done = [tuple(row[name] for name in COLUMNS[:-3]) for row in read_table(arguments.table)]
    with arguments.table.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        for choice, seed in jobs:
            row = {"space": arguments.space, "seed": seed, **choice}
            if tuple(str(row.get(name, "")) for name in COLUMNS[:-3]) in done:
                continue
            fixed = TRAINED_WITH if arguments.space == "architecture" else {}
            writer.writerow(row | train(choice | fixed, seed, layers, energy))
            stream.flush()


def origin(truth: Path) -> str:
    """Where the table comes from, as JSON."""
    with ShowerFile(truth) as file:
        return json.dumps(
            {
                "made_by": "benchmarks/layer_networks.py",
                "showers": truth.name,
                "number": len(file),
                "detector": file.detector.name,
                **file.provenance,
                "passes": PASSES,
                "split": [TRAIN, VALIDATION, len(file) - TRAIN - VALIDATION],
                "torch": torch.__version__,
            }
        )


if __name__ == "__main__":
    main()
