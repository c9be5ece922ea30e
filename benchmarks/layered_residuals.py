"""Where the second stage of a layered model is still not like the showers: simple statistics, group by group.

    python benchmarks/layered_residuals.py test.h5 run1

The model fills the summaries of the test showers. Cells of both are seen as what they have beyond the density
that the summary gives them: hits less their probability, energies in standard deviations. Of each group of
statistics (one for each layer and ring) the table gives the sum of the squared differences of means in
standard deviations of a shower, less what two samples of the same origin would show, and the spread of that.
Were the statistics independent, a classifier could reach an area of Phi(sqrt(d2 / 2)): 0.5 for 0, 0.64 for
0.25, 0.76 for 1. About a minute on one core for 3000 showers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from layered_pieces import BATCH, draw, true_summaries
from numpy.typing import NDArray

from caloforge.models.base import TrainingBatch
from caloforge.models.layered.model import Layered
from caloforge.models.layered.plane import Plane
from caloforge.models.store import load_model
from caloforge.showers import ShowerBatch, ShowerFile

Array = NDArray[np.float32]
DISPLACEMENTS = ((0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (0, 3))
ORDERS = range(5)
# rings from here on are one
LAST_RING = 8


def residuals(model: Layered, showers: ShowerBatch) -> tuple[Array, Array, Array]:
    """Hits and energies beyond the density that the summary gives, (N, layers, cells) each.

    And the argument of the incident energy, (N, 1, 1), less its mean.
    """
    hits, scores, arguments = [], [], []
    with torch.inference_mode():
        for start in range(0, len(showers), BATCH):
            given, cells = model.known(TrainingBatch.of(showers[start : start + BATCH]))
            alone = model.cell_stage.alone(given)
            hits.append((cells.hits - alone.hit_probability()).numpy())
            scores.append(alone.scores(cells).numpy())
            arguments.append(given.argument.numpy())
    argument = np.concatenate(arguments)[:, None, None]
    return np.concatenate(hits), np.concatenate(scores), argument - argument.mean()


def statistics(plane: Plane, hits: Array, scores: Array, argument: Array) -> Iterator[tuple[str, Array]]:
    """Name and values, (N, statistics), of each group."""
    rings = (np.minimum(plane.ring, LAST_RING)[:, None] == np.arange(LAST_RING + 1)).astype(np.float32)
    orbits = (plane.orbit[:, None] == np.arange(plane.orbits)).astype(np.float32)
    for name, field in (("hits", hits), ("energies", scores)):
        yield f"{name} of each set of images", field @ orbits
        yield f"{name} of each set of images, by the incident energy", field * argument @ orbits
        yield f"{name} of rings", field @ rings
    for power in (2, 3, 4):
        yield f"energies of rings, power {power}", scores**power @ rings
    angle = np.arctan2(plane.direction[1], plane.direction[0])
    pairs = {"hits": (hits, hits), "energies": (scores, scores), "hits and energies": (hits, scores)}
    for name, (one, other) in pairs.items():
        for displacement in DISPLACEMENTS:
            yield f"{name}, {displacement} apart", products(plane, one, other, displacement) @ rings
        yield f"{name}, next layer", (one[:, 1:] * other[:, :-1]) @ rings
    for name, field in (("hits", hits), ("energies", scores)):
        for order in ORDERS:
            wave = [
                field @ (rings * part[:, None]) for part in (np.cos(order * angle), np.sin(order * angle))
            ]
            yield f"{name}, order {order} around the axis", sum(part**2 for part in wave)
            yield f"{name}, order {order}, next ring", sum(part[..., 1:] * part[..., :-1] for part in wave)
            yield f"{name}, order {order}, next layer", sum(part[:, 1:] * part[:, :-1] for part in wave)


def products(plane: Plane, one: Array, other: Array, displacement: tuple[int, int]) -> Array:
    """Of each cell with those so far away, each pair once, (N, layers, cells)."""
    grids = [field.reshape(*field.shape[:2], plane.rows, plane.columns) for field in (one, other)]
    total = np.zeros_like(grids[0])
    ways = {(y, sign * x) for y, x in (displacement, displacement[::-1]) for sign in (1, -1)}
    # the opposite ones are the same pairs
    for y, x in (way for way in ways if way > (0, 0)):
        here = (..., slice(0, plane.rows - y), slice(max(-x, 0), plane.columns - max(x, 0)))
        there = (..., slice(y, plane.rows), slice(max(x, 0), plane.columns - max(-x, 0)))
        total[here] += grids[0][here] * grids[1][there]
    return total.reshape(one.shape)


def squared_distance(one: Array, other: Array) -> tuple[float, float]:
    """Sum of squared differences of means in standard deviations, less its expectation; its spread."""
    first, second = (values.reshape(len(values), -1).astype(np.float64) for values in (one, other))
    variance = (first.var(axis=0) + second.var(axis=0)) / 2
    known = variance > 1e-12
    square = (first.mean(axis=0) - second.mean(axis=0))[known] ** 2 / variance[known]
    noise = 2 / len(first)
    return float(square.sum() - noise * known.sum()), noise * float(np.sqrt(2 * known.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test", type=Path)
    parser.add_argument("model", type=Path)
    arguments = parser.parse_args()
    with ShowerFile(arguments.test) as file:
        real = file.read()
    model = load_model(arguments.model)
    assert isinstance(model, Layered)
    model.eval()
    samples = [residuals(model, showers) for showers in (real, draw(model, true_summaries, real, 0))]
    print("| statistics | d2 | spread of 0 |", "|---|---|---|", sep="\n")
    groups = [statistics(model.plane, *sample) for sample in samples]
    for (name, ours), (_, theirs) in zip(*groups, strict=True):
        distance, spread = squared_distance(ours, theirs)
        print(f"| {name} | {distance:.3f} | {spread:.3f} |", flush=True)


if __name__ == "__main__":
    main()
