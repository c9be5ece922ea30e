"""What the parts of the training of the compact 3DGAN bring: each left out, same steps, several seeds.

    caloforge simulate demo -n 1500 -o train.h5
    caloforge simulate demo -n 500 --seed 2 -o test.h5
    python benchmarks/compact_ablation.py train.h5 test.h5 -o ablation

Trains the recipe `demo` once for each part and seed, generates showers of the conditions of test.h5, which no
training has seen, validates them, and prints a table: mean and spread over the seeds of the AUC of boosted
trees, the Frechet physics distance times 1000, the comparisons of the `3dgan` thresholds that fail and that
are undecided, and the farthest mean number of hits and its spread. What is there already is not done again.
Two to three minutes on one core for each training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 200
VARIANTS: dict[str, dict[str, str]] = {
    "all parts": {},
    "without the energy distance": {
        "model.weights.energy_distance": "0",
        "model.adversarial_after": "0",
    },
    "without the discriminator": {"model.adversarial_after": str(STEPS)},
    "convolutions of one channel": {"model.generator.channels": "[1, 1, 1]"},
    "without the regression of the energy": {"model.weights.energy": "0"},
    "without the moving average": {"training.ema": "null"},
}
COLUMNS = {
    "boosted trees": ("classifier_auc", 1.0),
    "Frechet physics distance x 1000": ("fpd", 1000.0),
}


def run(*words: object) -> None:
    """A command of caloforge; verdicts of `validate` are no errors."""
    done = subprocess.run(["caloforge", *map(str, words), "--no-progress"], check=False)
    if done.returncode not in (0, 3, 4):
        raise SystemExit(f"caloforge {words[0]} ended with {done.returncode}")


def judged(train: Path, test: Path, settings: dict[str, str], seed: int, folder: Path) -> dict[str, Any]:
    """The document of the report of one training."""
    if not (folder / "run" / "model").exists():
        changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        run("train", "demo", "--data", train, "-o", folder / "run", "--seed", seed, "--force", *changes)
    if not (folder / "fast.h5").exists():
        run("generate", folder / "run", "--like", test, "-o", folder / "fast.h5", "--backend", "torch")
    if not (folder / "report" / "metrics.json").exists():
        run("validate", test, folder / "fast.h5", "-o", folder / "report", "--no-pdf")
    document: dict[str, Any] = json.loads((folder / "report" / "metrics.json").read_text())
    return document


def figures(document: dict[str, Any]) -> list[float]:
    """The columns of the table."""
    (found,) = document["generators"].values()
    inclusive = {name: bins["inclusive"] for name, bins in found["observables"].items()}
    values = []
    for name, factor in COLUMNS.values():
        (value,) = [of[name]["value"] for of in inclusive.values() if name in of]
        values.append(factor * value)
    hits = inclusive["hits"]
    return [
        *values,
        len(found["failures"]),
        found["undecided"],
        100 * hits["mean_shift"]["value"],
        100 * hits["width_shift"]["value"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    found: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for seed in args.seeds:
        for name, settings in VARIANTS.items():
            folder = args.out / f"{name.replace(' ', '-')}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            found[name].append(figures(judged(args.train, args.test, settings, seed, folder)))
    print(" | ".join(("", *COLUMNS, "fail", "undecided", "mean hits %", "spread of hits %")))
    for name, rows in found.items():
        table = np.array(rows)
        spread = table.std(0, ddof=1) if len(rows) > 1 else np.zeros(table.shape[1])
        cells = (f"{mean:.3g} ± {error:.2g}" for mean, error in zip(table.mean(0), spread, strict=True))
        print(" | ".join((name, *cells)))


if __name__ == "__main__":
    main()
