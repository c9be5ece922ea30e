"""What a training for a new detector gains from a model of another one, and which part needs more showers.

    python benchmarks/transfer.py par04_electrons.h5 --run par04-siw-electron --donor clic-electron

The first showers of the file train, the last 500 judge. For a training from scratch and one that starts from
the donor it prints the negative log-likelihood of the judging showers' cells given their layer features, and
the AUC of the boosted trees of `validate`, for whole showers and for cells drawn with the layer features of
the judging showers themselves.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

import caloforge
from caloforge.conditions import Conditions
from caloforge.models.base import TrainingBatch
from caloforge.models.store import load_model
from caloforge.showers import ShowerFile, ShowerWriter

JUDGE, BATCH = 500, 50


def write(path, detector, provenance, batch):
    """A shower file of a batch."""
    with ShowerWriter(path, detector, provenance, with_seconds=True) as writer:
        writer.append(batch)
    return path


def conditioned(model, truth):
    """Batches of the judging showers: condition of the cells, and cells."""
    for start in range(0, len(truth), BATCH):
        part = truth[start : start + BATCH]
        batch = TrainingBatch(torch.from_numpy(part.showers), Conditions.of(part).to_torch())
        yield model.condition_and_cells(batch)


@torch.no_grad()
def likelihood(model, truth):
    """Mean negative log-likelihood of a shower's cells under the teacher."""
    sampler, found = model.cell_sampler, []
    for condition, cells in conditioned(model, truth):
        density = sampler.teacher_density(cells, sampler.independent(condition), condition)
        bin_hits = condition.hit_counts @ sampler.bin_membership.T
        found.append(density.negative_log_likelihood(cells, bin_hits))
    return float(torch.cat(found).mean())


@torch.no_grad()
def with_true_features(model, truth):
    """Showers whose cells are drawn with the layer features of the judging showers."""
    parts = []
    for condition, _ in conditioned(model, truth):
        cells = model.cell_sampler.draw(condition, model._noise(condition))
        parts.append(model.cell_sampler.cell_energies(cells, condition))
    showers = torch.cat(parts).numpy().reshape(len(truth), *model.detector.shower_shape)
    return Conditions.of(truth).with_showers(showers, np.ones(len(truth), np.float32))


def auc(truth, generated, out):
    """AUC of the boosted trees of `validate`, and its uncertainty."""
    caloforge.validate(truth, generated, out=out, thresholds="strict", pdf=False, progress=False)
    [sample] = json.loads((out / "metrics.json").read_text())["generators"].values()
    found = sample["observables"]["shower"]["inclusive"]["classifier_auc"]
    return f"{found['value']:.3f} +- {found['uncertainty']:.3f}"


def main():
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers", type=Path)
    parser.add_argument("--run", default="par04-siw-electron")
    parser.add_argument("--donor", default="clic-electron")
    parser.add_argument("--train", type=int, nargs="+", default=[300])
    parser.add_argument("--steps", type=int, nargs=2, default=[1000, 500], help="likelihood, matching")
    asked = parser.parse_args()
    with ShowerFile(asked.showers) as file:
        showers, detector, facts = file.read(), file.detector, file.provenance
    likelihood_steps, matching_steps = asked.steps
    settings = [f"model.likelihood_steps={likelihood_steps}", f"model.matching_steps={matching_steps}"]
    settings += [f"training.max_steps={sum(asked.steps)}", "training.epochs=100000", "training.range={}"]
    truth = showers[len(showers) - JUDGE :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judge = write(folder / "judge.h5", detector, facts, truth)
        for count in asked.train:
            data = write(folder / f"{count}.h5", detector, facts, showers[:count])
            for label, donor in (("scratch", None), ("adapted", asked.donor)):
                run = folder / f"{label}-{count}"
                caloforge.train(
                    asked.run, data=data, out=run, seed=1, from_=donor, set_=settings, progress=False
                )
                model = load_model(run).eval()
                torch.manual_seed(1)
                drawn = write(folder / f"{run.name}-cells.h5", detector, {}, with_true_features(model, truth))
                caloforge.generate(
                    run, out=folder / f"{run.name}.h5", like=judge, seed=5, extrapolate=True, progress=False
                )
                print(
                    f"{label}, {count} showers: likelihood {likelihood(model, truth):.1f}, trees "
                    f"{auc(judge, folder / f'{run.name}.h5', folder / f'{run.name}-report')}, with Geant4's "
                    f"layer features {auc(judge, drawn, folder / f'{run.name}-cells-report')}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
