"""What the symmetries buy the layered model: the recipe without them, judged as in `layered_pieces.py`.

    python benchmarks/layered_symmetry.py train.h5 test.h5 -o runs --seed 1 2 3

No cell shares a number with its images, no displacement with its opposite, and no image of a shower is
trained on. Further options are those of `caloforge train`. Prints a row for the table; about ten minutes on
one core for each seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest import mock

import numpy as np
from layered_pieces import METRICS, draw, features, figures, whole

from caloforge.cli import main as caloforge
from caloforge.geometry import Detector
from caloforge.models.layered import geometry as layered_geometry
from caloforge.models.layered import model as layered_model
from caloforge.models.layered.model import Layered
from caloforge.models.store import load_model
from caloforge.models.symmetries import Symmetry
from caloforge.models.training_metadata import TrainedRange
from caloforge.showers import ShowerFile


def nothing_but_itself(_detector: Detector, _ranges: TrainedRange) -> tuple[Symmetry, ...]:
    return (Symmetry(),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    arguments, settings = parser.parse_known_args()
    with ShowerFile(arguments.test) as file:
        real, detector = file.read(), file.detector
    truth = features(real, detector)
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    with (
        mock.patch.object(layered_geometry, "symmetries", nothing_but_itself),
        mock.patch.object(layered_model, "symmetries", nothing_but_itself),
    ):
        for seed in arguments.seed:
            run = arguments.out / f"seed{seed}"
            training = ["train", "clic-electron-layered", "--data", str(arguments.train), "-o", str(run)]
            training += ["--seed", str(seed), "--set", "training.augment=false", "--force", *settings]
            code = caloforge(training)
            if code:
                raise SystemExit(code)
            model = load_model(run)
            assert isinstance(model, Layered)
            made = draw(model.eval(), whole, real, seed)
            for metric, result in figures(truth, features(made, detector)).items():
                found[metric].append(result.value)
            print(run, {metric: values[-1] for metric, values in found.items()}, flush=True)
    cells = [f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in found.values()]
    print(f"| no symmetry: each cell by itself | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
