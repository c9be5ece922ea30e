"""What takes minutes to hours and is done only on request: networks, TriForce, the CaloChallenge protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, nearest
from caloforge.geometry import RaggedMesh
from caloforge.metrics.resampling import Metric
from caloforge.metrics.submission import submission
from caloforge.observables import high_level_features
from caloforge.showers import ShowerFile
from caloforge.validation.chapters import networks_table, protocol_table
from caloforge.validation.contents import Contents
from caloforge.validation.inputs import Input, Inputs, Progress
from caloforge.validation.reconstruction import add_reconstruction
from caloforge.validation.sample import Sample

NETWORKS = ("low", "low-normed", "high", "cnn")
PROTOCOLS = ("calochallenge",)
READ = 1024


@dataclass(frozen=True)
class Slow:
    """What was asked for.

    Attributes:
        neural: Neural classifiers.
        repeats: Trainings of each.
        triforce: Shower files of the full simulation to train TriForce on; empty leaves it out.
        protocol: "calochallenge" or None.
    """

    neural: Sequence[str]
    repeats: int
    triforce: Sequence[Path]
    protocol: str | None


def add_slow(contents: Contents, slow: Slow, inputs: Inputs, *, seed: int, progress: Progress) -> None:
    """Do what was asked for; adds chapters to the report and entries to metrics.json.

    Args:
        contents: Of the report.
        slow: What was asked for.
        inputs: The files; reconstruction and protocol read them whole.
        seed: Seed of all trainings.
        progress: Called with (what is being done, done, total).
    """
    truth, generated = inputs.files[0], inputs.files[1 : 1 + len(contents.generated)]
    results: dict[str, dict[str, Any]] = {file.name: {} for file in generated}
    if slow.protocol:
        _protocol(contents, slow, truth, generated, results, seed)
    elif slow.neural:
        for sample in contents.generated:
            found = classify(contents.truth, sample, slow.neural, repeats=slow.repeats, seed=seed)
            contents.tables.append(networks_table(sample.name, found))
            results[sample.name]["neural"] = {
                name: {"auc": auc.to_json(), "jsd": jsd.to_json()} for name, (auc, jsd) in found.items()
            }
            progress("train neural classifiers", len(contents.tables), len(generated))
    if slow.triforce:
        # torch is imported only where a network is trained
        from caloforge.validation.triforce import triforce

        answers = {}
        for file in generated:
            answers[file.name] = triforce(
                list(slow.triforce),
                truth.path,
                file.path,
                seed=seed,
                progress=lambda done, total: progress("train TriForce", done, total),
            )
            results[file.name]["triforce"] = answers[file.name].to_json()
        add_reconstruction(contents, answers)
    if any(results.values()):
        contents.metrics["on_request"] = results


def _protocol(
    contents: Contents,
    slow: Slow,
    truth: Input,
    generated: Sequence[Input],
    results: dict[str, dict[str, Any]],
    seed: int,
) -> None:
    """The rows of the CaloChallenge, Geant4 against Geant4 among the published ones."""
    networks: Any = slow.neural
    rows = []
    for file in generated:
        found = submission(truth.path, file.path, networks=networks, repeats=slow.repeats, seed=seed)
        rows.append((file.name, found))
        results[file.name]["calochallenge"] = found.row(file.name)
    contents.tables.append(protocol_table(rows[0][1].dataset, rows))


def check_protocol(name: str | None) -> None:
    """Refuse a protocol that does not exist.

    Raises:
        ConfigError: With the nearest name.
    """
    if name is not None and name not in PROTOCOLS:
        raise ConfigError(f"no protocol is called {name!r}. {nearest(name, PROTOCOLS)}")


def check_networks(names: Sequence[str]) -> None:
    """Refuse a network that does not exist.

    Raises:
        ConfigError: With the nearest name.
    """
    for name in names:
        if name not in NETWORKS:
            raise ConfigError(f"no neural classifier is called {name!r}. {nearest(name, NETWORKS)}")


def classify(
    truth: Sample, generated: Sample, names: Sequence[str], *, repeats: int, seed: int
) -> dict[str, tuple[Metric, Metric]]:
    """Train networks to tell two samples apart, by the protocol of the CaloChallenge.

    Args:
        truth: Full simulation.
        generated: The sample to judge.
        names: "low" (voxels), "low-normed" (voxels over the energy of their layer), "high" (observables),
            "cnn" (3D ResNet).
        repeats: Trainings of each.
        seed: Seed of splits and weights.

    Returns:
        By network, area under the ROC curve and Jensen-Shannon divergence.

    Raises:
        ConfigError: "cnn" on a mesh without images.
    """
    # torch is imported only where a network is trained
    from caloforge.metrics.neural import neural_classifier
    from caloforge.metrics.rows import DenseRows, Rows, low_level, low_level_normed

    def rows(sample: Sample, name: str) -> Rows:
        if name == "high":
            return DenseRows(high_level_features(sample.values, sample.conditions.energy))
        if name == "low-normed":
            return low_level_normed(_blocks(sample), sample.detector.mesh)
        return low_level(_blocks(sample), response=_response(truth))

    results = {}
    for name in names:
        shape: tuple[int, ...] | None = truth.detector.shower_shape if name == "cnn" else None
        if shape is not None and isinstance(truth.detector.mesh, RaggedMesh):
            raise ConfigError(f"neural cnn: {truth.detector.name} has layers of different binning, no image")
        found = neural_classifier(
            rows(truth, name),
            rows(generated, name),
            voxels=None if shape is None else (shape[0], shape[1], shape[2]),
            repeats=repeats,
            seed=seed,
        )
        results[name] = (found.auc, found.jsd)
    return results


def _response(truth: Sample) -> float:
    """Mean visible over incident energy, 1 where energies are corrected for the sampling fraction."""
    with ShowerFile(truth.path) as file:
        visible = file.energy_meaning == "visible"
    return float(np.mean(truth.values["response"])) if visible else 1.0


def _blocks(sample: Sample) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Voxels and incident energies of the showers that are used."""
    kept = np.zeros(int(sample.index[-1]) + 1, bool)
    kept[sample.index] = True
    with ShowerFile(sample.path) as file:
        start = 0
        for batch in file.iterate(READ, stop=len(kept)):
            chosen = kept[start : start + len(batch)]
            start += len(batch)
            yield batch.showers[chosen], batch.incident_energy[chosen]
