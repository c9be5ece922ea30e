"""What the pieces of the compact 3DGAN's closed-form start bring, and what its training adds.

    python benchmarks/compact_pieces.py test.h5 train.h5 run

Fits the closed-form start to train.h5, takes pieces of it away, and compares them and the trained models with
the showers of test.h5, which none of them has seen. Each is drawn three times with new noise. Columns: energy
distance of the standardised features times 1000 (0 for two samples of Geant4); the following in percent: mean
response and mean hits above the model's threshold in thirds of the energy, spread of these hits at a given
energy, the farthest layer and the farthest row or column among those with more than 2 % of the energy, and
the mean absolute error of the energy that the discriminator estimates for real showers, after training.
About three minutes on one core for 2165 showers.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caloforge.config import build
from caloforge.models.base import Condition
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.energy_argument import least_squares, powers
from caloforge.models.gan3d.energy_distance import energy_distance
from caloforge.models.gan3d.model import Gan3d
from caloforge.models.registry import create_model
from caloforge.models.store import load_model
from caloforge.showers import ShowerFile

BATCH, DRAWS = 100, 3
HEAVY = 0.02
COLUMNS = "energy distance", "response", "hits", "spread of hits", "layers", "rows", "estimated energy"


def closed_form(train: Path) -> Gan3d:
    """The start of a training on a shower file."""
    model = create_model(build(Gan3dConfig, {"preset": "compact"}, "model"), train, seed=1)
    assert isinstance(model, Gan3d)
    with ShowerFile(train) as file:
        batches = [file.read(first, min(first + BATCH, len(file))) for first in range(0, len(file), BATCH)]
    model.fit(batches, np.random.default_rng(0))
    return model.eval()


def without(model: Gan3d, *names: str) -> Gan3d:
    """A model in which these parameters and buffers of the generator are 0."""
    model = copy.deepcopy(model)
    state = model.generator.state_dict()
    for name in names:
        # the same memory
        state[name].zero_()
    return model


def without_transport(model: Gan3d) -> Gan3d:
    """A model whose sums of layers and rings are as they fall."""
    model = copy.deepcopy(model)
    model.generator.sums.forward = lambda sums, *_: torch.ones_like(sums)
    return model


def without_wanted_hits(model: Gan3d) -> Gan3d:
    """A model whose numbers of hits are as they fall."""
    model = copy.deepcopy(model)
    model.generator.hits.forward = lambda latent, *_: torch.zeros_like(latent[..., 0])
    return model


@torch.inference_mode()
def draw(model: Gan3d, condition: Condition, seed: int) -> Tensor:
    """Showers, (N, L, Y, X), MeV."""
    torch.manual_seed(seed)
    parts = [condition[slice(first, first + BATCH)] for first in range(0, len(condition), BATCH)]
    return torch.cat([model.generate(part, model.example_noise(len(part))) for part in parts])


@torch.inference_mode()
def figures(judge: Gan3d, fast: Tensor, full: Tensor, energy: Tensor) -> list[object]:
    """The columns of the table for one draw; `judge` standardises the features."""
    features = [judge.feature_scale(judge.features(x.flatten(2), energy), energy) for x in (fast, full)]
    hits = [(x > 0).float().sum((1, 2, 3)) for x in (fast, full)]
    visible = [x.sum((1, 2, 3)) for x in (fast, full)]
    thirds = torch.tensor_split(torch.argsort(energy), 3)
    design = powers(judge.generator.argument(energy), 4)
    spreads = [(n - design @ least_squares(design, n)).std() for n in hits]
    profiles = [[x.sum(axes) for axes in ((0, 2, 3), (0, 1, 3), (0, 1, 2))] for x in (fast, full)]
    farthest = []
    for of_fast, of_full in zip(*profiles, strict=True):
        heavy = of_full > HEAVY * of_full.sum()
        farthest.append(float((of_fast / of_full - 1)[heavy].abs().max()))
    shift = [
        [float((a[rows] / energy[rows]).mean() / (b[rows] / energy[rows]).mean() - 1) for rows in thirds]
        for a, b in (visible, hits)
    ]
    distance = 1000 * float(energy_distance(*features).mean())
    return [distance, *shift, float(spreads[0] / spreads[1] - 1), farthest[0], max(farthest[1:])]


@torch.inference_mode()
def estimate_error(model: Gan3d, full: Tensor, energy: Tensor) -> float:
    """Mean absolute error of the energy that the discriminator estimates for real showers, percent."""
    errors = []
    for cells, own in zip(full.flatten(2).split(BATCH), energy.split(BATCH), strict=True):
        _, estimate = model.discriminator(cells, (cells > 0).float(), own)
        errors.append((estimate.exp() / own - 1).abs())
    return 100 * float(torch.cat(errors).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("test", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("models", nargs="*", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = closed_form(args.train)
    variants = {
        "closed form": start,
        "without neighbours": without(start, "correlation"),
        "without factors": without(start, "field.loadings", "field.response_loadings"),
        "without dipoles": without(start, "field.dipole"),
        "without the wanted numbers of hits": without_wanted_hits(start),
        "without the sums of layers and rings": without_transport(start),
        **{str(path): load_model(path).eval() for path in args.models},
    }
    with ShowerFile(args.test) as file:
        truth = file.read(0, len(file))
    condition, full = Condition.of(truth), start.transform.threshold_only(torch.from_numpy(truth.showers))
    print(" | ".join(("", *COLUMNS)))
    for name, model in variants.items():
        rows = [figures(start, draw(model, condition, seed), full, condition.energy) for seed in range(DRAWS)]
        cells = [f"{np.mean([r[0] for r in rows]):.1f} ± {np.std([r[0] for r in rows], ddof=1):.1f}"]
        for column in range(1, len(rows[0])):
            mean = np.atleast_1d(np.mean([r[column] for r in rows], axis=0))
            cells.append(", ".join(f"{100 * value:+.1f}" for value in mean))
        cells.append(f"{estimate_error(model, full, condition.energy):.1f}" if model.steps else "")
        print(" | ".join((name, *cells)), flush=True)


if __name__ == "__main__":
    main()
