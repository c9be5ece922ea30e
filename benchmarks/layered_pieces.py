"""What each piece of the layered model buys: one piece taken away, judged on the same showers.

    for seed in 1 2 3; do caloforge train clic-electron-layered --data train.h5 --seed $seed -o run$seed; done
    python benchmarks/layered_pieces.py test.h5 others.h5 run1 run2 run3

Prints a table. Real summaries are those of the other showers, as many of the same conditions (those of the
training will do): were they the test showers' own, what they have by chance would be the same on both sides.
Every variant is drawn once from each model, with noise of its own; the spread is that of the
trainings and draws (of draws alone, where one model is named several times), the floor that of two halves of
the test showers. About twenty minutes on one core for three trainings and 3000 showers.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from caloforge.geometry import Detector
from caloforge.metrics.resampling import Metric
from caloforge.models.base import Condition, TrainingBatch
from caloforge.models.layered.constants import CHOICES
from caloforge.models.layered.context import legendre
from caloforge.models.layered.density import Given
from caloforge.models.layered.model import Layered
from caloforge.models.store import load_model
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.validation import judge_batches

BATCH = 100
METRICS = ("classifier_auc", "fpd")
Draw = Callable[[Layered, TrainingBatch], torch.Tensor]


def whole(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    noise = torch.randn(len(batch.showers), *model.noise_shape)
    return model.generate(batch.condition, noise)


def true_summaries(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    given, _ = model.known(batch)
    return second_stage(model, given)


def teacher(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    given = drawn_summaries(model, batch.condition)
    cells = model.cell_stage.draw_by_teacher(given, cell_noise(model, given), 6)
    return model.cell_stage.showers(cells, given).view(batch.showers.shape)


def independent(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    given = drawn_summaries(model, batch.condition)
    cells = model.cell_stage.draw_by_teacher(given, cell_noise(model, given), 0)
    return model.cell_stage.showers(cells, given).view(batch.showers.shape)


def drawn_summaries(model: Layered, condition: Condition) -> Given:
    return model.draw_layers(condition, torch.randn(len(condition.energy), CHOICES))


def cell_noise(model: Layered, given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*given.hits.shape[:2], model.plane.cells)
    return torch.randn(shape), torch.randn(shape)


def second_stage(model: Layered, given: Given) -> torch.Tensor:
    cells = model.cell_stage.draw(given, cell_noise(model, given))
    return model.cell_stage.showers(cells, given).view(-1, *model.detector.shower_shape)


def unmatched(model: Layered) -> Layered:
    """The student as it was when it began."""
    changed = copy.deepcopy(model)
    changed.cell_stage.graduate()
    with torch.no_grad():
        changed.cell_stage.student.level.zero_()
        changed.cell_stage.student.amplitude.zero_()
        changed.cell_stage.student.turned.zero_()
        changed.cell_stage.student.depth.share.zero_()
    return straight(changed)


def straight(model: Layered) -> Layered:
    """The spectrum as it was fitted."""
    changed = copy.deepcopy(model)
    changed.cell_stage.alone.spectrum.shift.zero_()
    changed.cell_stage.alone.spectrum.fit_polynomials()
    return changed


def undirected(model: Layered) -> Layered:
    """Hits that say the same along the direction from the axis and across it."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.cell_stage.student.turned.zero_()
    return changed


def steady(model: Layered) -> Layered:
    """Levels that do not go with the energy: their means over energies that are all as frequent."""
    changed = copy.deepcopy(model)
    means = legendre(model.layer_stage.argument(torch.linspace(*model.ranges.energy, 1000))).mean(0)
    level = changed.cell_stage.student.level
    with torch.no_grad():
        level[:, 0] = (means[:, None, None] * level).sum(1)
        level[:, 1:].zero_()
    return changed


def apart(model: Layered) -> Layered:
    """Zones that take nothing over from each other."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.cell_stage.student.depth.share.zero_()
    return changed


def coarse(model: Layered) -> Layered:
    """Factors of what neighbours say for each zone of all layers, not for each ring of each layer."""
    changed = copy.deepcopy(model)
    student, plane = changed.cell_stage.student, model.plane
    with torch.no_grad():
        for zone in range(len(plane.zone_sizes)):
            rings = sorted(set(plane.ring[plane.zone == zone].tolist()))
            student.amplitude[:, :, rings] = student.amplitude[:, :, rings].mean((1, 2), keepdim=True)
    return changed


def last(model: Layered, run: Path) -> Layered:
    """The weights of the last step, where the model has their running average."""
    changed = copy.deepcopy(model)
    checkpoint = max((run / "checkpoints").glob("step-*"))
    changed.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return changed


def variants(model: Layered, run: Path) -> dict[str, tuple[Layered, Draw]]:
    found: dict[str, tuple[Layered, Draw]] = {
        "the whole model": (model, whole),
        "real summaries in place of drawn ones": (model, true_summaries),
        "the teacher, 6 passes, in place of the student": (straight(model), teacher),
        "no neighbours at all": (straight(model), independent),
        "the student before it was matched": (unmatched(model), whole),
        "matched, but the spectrum not bent": (straight(model), whole),
        "matched, but neighbours alike in all directions": (undirected(model), whole),
        "matched, but levels alike at all energies": (steady(model), whole),
        "matched, but zones do not hear of each other": (apart(model), whole),
        "matched, but one strength of neighbours for all layers": (coarse(model), whole),
    }
    if (run / "checkpoints").exists():
        found["the weights of the last step, not their average"] = (last(model, run), whole)
    return found


def draw(model: Layered, how: Draw, real: ShowerBatch, seed: int) -> ShowerBatch:
    torch.manual_seed(seed)
    with torch.inference_mode():
        parts = [
            how(model, TrainingBatch.of(real[start : start + BATCH])).numpy()
            for start in range(0, len(real), BATCH)
        ]
    return ShowerBatch(
        np.concatenate(parts), real.incident_energy, real.incident_theta, real.incident_phi, real.pdg_id
    )


def figures(real: ShowerBatch, made: ShowerBatch, detector: Detector) -> dict[str, Metric]:
    """The figures of whole showers that the table has."""
    verdict = judge_batches(real, made, detector, thresholds="strict", classifier=True)
    differences = [judgement.difference for judgement in verdict.judgements]
    return {d.metric: d.result for d in differences if d.metric in METRICS and d.observable == "shower"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()
    with ShowerFile(arguments.test) as file:
        real, detector = file.read(), file.detector
    with ShowerFile(arguments.others) as file:
        others = file.read()
    table: dict[str, dict[str, list[float]]] = {}
    floors = {}
    for seed, path in enumerate(arguments.models):
        model = load_model(path)
        assert isinstance(model, Layered)
        for name, (changed, how) in variants(model.eval(), path).items():
            found = table.setdefault(name, {metric: [] for metric in METRICS})
            made = draw(changed.eval(), how, others if how is true_summaries else real, seed)
            for metric, result in figures(real, made, detector).items():
                found[metric].append(result.value)
                floors[metric] = result.floor
            print(path, name, {metric: values[-1] for metric, values in found.items()}, flush=True)
    lines = ["| | area of boosted trees | Fréchet physics distance |", "|---|---|---|"]
    for name, found in table.items():
        cells = [f"{np.mean(found[m]):.3f} ± {np.std(found[m]):.3f}" for m in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| *two halves of Geant4* | {' | '.join(f'{floors[m]:.3f}' for m in METRICS)} |")
    print(f"{len(real)} showers; mean and spread of {len(arguments.models)} trainings.", *lines, sep="\n")


if __name__ == "__main__":
    main()
