"""What each piece of the layered model buys: one piece taken away, judged on the same showers.

    for seed in 1 2 3; do caloforge train clic-electron-layered --data train.h5 --seed $seed -o run$seed; done
    python benchmarks/layered_pieces.py test.h5 others.h5 run1 run2 run3

Prints a table. Real layer features are those of the other showers, as many of the same conditions (those of
the training will do): were they the test showers' own, both samples would have the same fluctuations.
Every variant is drawn once from each model, with noise of its own; the spread is that of the
trainings and draws (of draws alone, where one model is named several times), the floor that of two halves of
the test showers. A sample may be several files, "{low,flat}.h5". `--only TEXT...` draws the variants whose
names contain a text. About twenty minutes on one core for three trainings and 3000 showers.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from caloforge.conditions import Conditions
from caloforge.generation.generate import stream
from caloforge.generation.plan import Plan
from caloforge.geometry import Detector
from caloforge.metrics.fpd import frechet_physics_distance
from caloforge.metrics.resampling import Metric
from caloforge.metrics.tree_classifier import classifier_auc
from caloforge.models.base import Condition, TrainingBatch
from caloforge.models.layered.cell_density import CellCondition
from caloforge.models.layered.constants import RESAMPLER_NOISE
from caloforge.models.layered.couplings import legendre
from caloforge.models.layered.model import Layered
from caloforge.models.store import load_model
from caloforge.observables import default_threshold, high_level_features, observe
from caloforge.showers import ShowerBatch, ShowerFile

BATCH = 100
METRICS = ("classifier_auc", "fpd")
Draw = Callable[[Layered, TrainingBatch], torch.Tensor]


def whole(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    noise = torch.randn(len(batch.showers), *model.noise_shape)
    return model.generate(batch.condition, noise)


def real_features(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    condition, _ = model.condition_and_cells(batch)
    return cells_given_features(model, condition)


def teacher(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    condition = resampled_features(model, batch.condition)
    cells = model.cell_sampler.draw_by_teacher(condition, cell_noise(model, condition), 6)
    return model.cell_sampler.cell_energies(cells, condition).view(batch.showers.shape)


def independent(model: Layered, batch: TrainingBatch) -> torch.Tensor:
    condition = resampled_features(model, batch.condition)
    cells = model.cell_sampler.draw_by_teacher(condition, cell_noise(model, condition), 0)
    return model.cell_sampler.cell_energies(cells, condition).view(batch.showers.shape)


def resampled_features(model: Layered, condition: Condition) -> CellCondition:
    return model.sample_features(condition, torch.randn(len(condition.energy), RESAMPLER_NOISE))


def cell_noise(model: Layered, condition: CellCondition) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (*condition.hit_counts.shape[:2], model.geometry.cells)
    return torch.randn(shape), torch.randn(shape)


def cells_given_features(model: Layered, condition: CellCondition) -> torch.Tensor:
    cells = model.cell_sampler.draw(condition, cell_noise(model, condition))
    return model.cell_sampler.cell_energies(cells, condition).view(-1, *model.detector.shower_shape)


def unmatched(model: Layered) -> Layered:
    """The student as it starts, before moment matching."""
    changed = copy.deepcopy(model)
    changed.cell_sampler.start_student()
    with torch.no_grad():
        changed.cell_sampler.student.offsets.zero_()
        changed.cell_sampler.student.log_gain.zero_()
        changed.cell_sampler.student.anisotropy.zero_()
        changed.cell_sampler.student.azimuthal.mode_coupling.zero_()
    return unmatched_spectrum(changed)


def unmatched_spectrum(model: Layered) -> Layered:
    """The energy transform as it was fitted, without matched quantiles."""
    changed = copy.deepcopy(model)
    changed.cell_sampler.independent.energy_transform.shift.zero_()
    changed.cell_sampler.independent.energy_transform.fit_polynomials()
    return changed


def isotropic(model: Layered) -> Layered:
    """Isotropic kernels."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.cell_sampler.student.anisotropy.zero_()
    return changed


def constant_offsets(model: Layered) -> Layered:
    """Offsets that do not depend on the incident energy: their means over a flat spectrum."""
    changed = copy.deepcopy(model)
    means = legendre(model.layer_sampler.energy_argument(torch.linspace(*model.ranges.energy, 1000))).mean(0)
    offsets = changed.cell_sampler.student.offsets
    with torch.no_grad():
        offsets[:, 0] = (means[:, None, None] * offsets).sum(1)
        offsets[:, 1:].zero_()
    return changed


def without_azimuthal(model: Layered) -> Layered:
    """No coupling of azimuthal modes."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.cell_sampler.student.azimuthal.mode_coupling.zero_()
    return changed


def gains_by_bin(model: Layered) -> Layered:
    """One gain for each radial bin of all layers, not one for each ring of each layer."""
    changed = copy.deepcopy(model)
    student, geometry = changed.cell_sampler.student, model.geometry
    with torch.no_grad():
        for radial_bin in range(len(geometry.radial_bin_sizes)):
            rings = sorted(set(geometry.ring[geometry.radial_bin == radial_bin].tolist()))
            student.log_gain[:, :, rings] = student.log_gain[:, :, rings].mean((1, 2), keepdim=True)
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
        "real layer features in place of resampled ones": (model, real_features),
        "the teacher, 6 passes, in place of the student": (unmatched_spectrum(model), teacher),
        "no couplings at all": (unmatched_spectrum(model), independent),
        "the student before moment matching": (unmatched(model), whole),
        "without matched quantiles of the energies": (unmatched_spectrum(model), whole),
        "without anisotropy of the kernels": (isotropic(model), whole),
        "offsets that do not depend on the incident energy": (constant_offsets(model), whole),
        "without azimuthal modes": (without_azimuthal(model), whole),
        "one gain for all layers of a radial bin": (gains_by_bin(model), whole),
    }
    if (run / "checkpoints").exists():
        found["the weights of the last step, not their average"] = (last(model, run), whole)
    return found


def draw(model: Layered, how: Draw, real: ShowerBatch, seed: int) -> ShowerBatch:
    if how is whole:
        # machine code, twenty times as fast
        plan = Plan("numba", batch_size=BATCH)
        parts = [batch.showers for batch in stream(model, Conditions.of(real), seed=seed, plan=plan)]
    else:
        torch.manual_seed(seed)
        with torch.inference_mode():
            parts = [
                how(model, TrainingBatch.of(real[start : start + BATCH])).numpy()
                for start in range(0, len(real), BATCH)
            ]
    return ShowerBatch(
        np.concatenate(parts), real.incident_energy, real.incident_theta, real.incident_phi, real.pdg_id
    )


def features(showers: ShowerBatch, detector: Detector) -> NDArray[np.float32]:
    """What `validate` gives to trees and Fréchet distance."""
    values = observe(showers, detector, threshold=default_threshold(detector))
    return high_level_features(values, showers.incident_energy)


def figures(real: NDArray[np.float32], made: NDArray[np.float32]) -> dict[str, Metric]:
    """The figures of whole showers that the table has, from their features."""
    found = classifier_auc(real, made), frechet_physics_distance(real, made, seed=0)
    return dict(zip(METRICS, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("test")
    parser.add_argument("others")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--only", nargs="+", default=[""])
    arguments = parser.parse_args()
    with ShowerFile(arguments.test) as file:
        real, detector = file.read(), file.detector
    with ShowerFile(arguments.others) as file:
        others = file.read()
    truth = features(real, detector)
    table: dict[str, dict[str, list[float]]] = {}
    floors = {}
    for seed, path in enumerate(arguments.models):
        model = load_model(path)
        assert isinstance(model, Layered)
        for name, (changed, how) in variants(model.eval(), path).items():
            if not any(text in name for text in arguments.only):
                continue
            found = table.setdefault(name, {metric: [] for metric in METRICS})
            made = draw(changed.eval(), how, others if how is real_features else real, seed)
            for metric, result in figures(truth, features(made, detector)).items():
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
