"""What showers of other detectors bring to a new one: trees and W1 against the number of training showers.

    caloforge simulate par04-siw --seed 11 -n 1200 -o train.h5
    caloforge simulate par04-siw-electron --seed 704 -n 1000 -o test.h5
    python benchmarks/foundation_curves.py par04-siw-electron train.h5 test.h5 --train 100 300 1000

A model is trained from scratch on some of the showers, chosen at random. Its layer sampler is then fitted
anew, to the same showers and those of the library, as `train --from` does; the cells stay. Both are judged
with the particles of the test file: area under the curve of the boosted trees of `validate`, and the mean
over its observables of the Wasserstein distance, in thirds of the energies and in standard deviations (W1). A
number is the mean of two draws.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import caloforge
from caloforge.conditions import Conditions
from caloforge.metrics.tree_classifier import classifier_auc
from caloforge.models.released import library_folder
from caloforge.models.store import load_model
from caloforge.observables import default_threshold, high_level_features, observe
from caloforge.showers import ShowerFile, ShowerWriter

BATCH, DRAWS = 100, 2


def read(paths, limit):
    """Showers up to an energy, detector and provenance; several files with pattern or comma are one."""
    with ShowerFile(paths) as file:
        batch = file.read()
        return batch[np.flatnonzero(batch.incident_energy <= limit)], file.detector, file.provenance


@torch.no_grad()
def drawn(model, batch, seed):
    """Showers of the particles of a batch."""
    torch.manual_seed(seed)
    asked, showers = Conditions.of(batch), []
    for start in range(0, len(batch), BATCH):
        condition = asked[slice(start, start + BATCH)].to_torch()
        noise = torch.randn(len(condition.energy), *model.noise_shape)
        showers.append(model.generate(condition, noise).numpy())
    return asked.with_showers(np.concatenate(showers), np.ones(len(batch), np.float32))


def observed(batch, detector):
    """Features of the trees, and observables of one number a shower."""
    values = observe(batch, detector, threshold=default_threshold(detector))
    single = {name: value for name, value in values.items() if value.ndim == 1 and len(value) == len(batch)}
    return high_level_features(values, batch.incident_energy.astype(np.float64)), single


def wasserstein(truth, generated, energy):
    """Mean over observables and thirds of the energies of the Wasserstein distance over the spread."""
    parts, quantiles, found = np.array_split(np.argsort(energy), 3), (np.arange(200) + 0.5) / 200, []
    for name, values in truth.items():
        for part in parts:
            spread = values[part].std()
            if spread > 0:
                ends = (np.quantile(one[part], quantiles) for one in (values, generated[name]))
                found.append(np.abs(np.subtract(*ends)).mean() / spread)
    return float(np.mean(found))


def judged(model, batch, truth):
    """Trees and W1."""
    areas, distances = [], []
    for seed in range(1, DRAWS + 1):
        features, single = observed(drawn(model, batch, seed), model.detector)
        areas.append(classifier_auc(truth[0], features, seed=seed).value)
        distances.append(wasserstein(truth[1], single, batch.incident_energy))
    return f"trees {np.mean(areas):.3f}, W1 {np.mean(distances):.3f}"


def give_library(model, folder, showers):
    """Fit the layer sampler of a trained model anew, with a library; returns the CPU seconds."""
    kept = {name: value.clone() for name, value in model.cell_sampler.state_dict().items()}
    model.start_from_library(folder)
    start = time.process_time()
    model.fit([showers], np.random.default_rng(0))
    seconds = time.process_time() - start
    most = {name: value for name, value in model.cell_sampler.state_dict().items() if "max_hits" in name}
    model.cell_sampler.load_state_dict(kept | most)
    return seconds


def main():
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="run.yaml or recipe")
    parser.add_argument("showers", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--library", default="foundation")
    parser.add_argument("--train", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, nargs=2, default=[80, 40], help="likelihood, matching")
    parser.add_argument("--limit", type=float, default=300e3, help="largest energy, MeV")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="of the run")
    parser.add_argument("--runs", type=Path, help="where trainings are kept, and used if they are there")
    asked = parser.parse_args()
    likelihood, matching = asked.steps
    settings = [f"model.likelihood_steps={likelihood}", f"model.matching_steps={matching}"]
    settings += [f"training.max_steps={likelihood + matching}", "training.epochs=100000", "training.range={}"]
    (pool, detector, facts), (test, _, _) = read(asked.showers, asked.limit), read(asked.test, asked.limit)
    truth = observed(test, detector)
    with tempfile.TemporaryDirectory() as name:
        folder = asked.runs or Path(name)
        for seed in asked.seeds:
            for count in asked.train:
                run = folder / f"{count}-{seed}"
                own = pool[np.sort(np.random.default_rng(seed).permutation(len(pool))[:count])]
                if not run.exists():
                    with ShowerWriter(folder / f"{run.name}.h5", detector, facts, with_seconds=True) as file:
                        file.append(own)
                    caloforge.train(
                        asked.run,
                        data=folder / f"{run.name}.h5",
                        out=run,
                        seed=seed + 1,
                        set_=settings + asked.settings,
                        progress=False,
                    )
                model = load_model(run).eval()
                label = f"{detector.name}, {count} showers, choice {seed}"
                print(f"{label}: from scratch {judged(model, test, truth)}", flush=True)
                seconds = give_library(model, library_folder(asked.library), own)
                found = judged(model, test, truth)
                print(f"{label}: with {asked.library} {found}, {seconds:.0f} s of CPU time", flush=True)


if __name__ == "__main__":
    main()
