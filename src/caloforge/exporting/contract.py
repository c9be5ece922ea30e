"""What a consumer feeds to an exported graph and reads from it, and the plain form that targets build on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from caloforge.errors import ModelError
from caloforge.exporting.graph import Exported
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.base import ShowerModel
from caloforge.models.parity import PARITY, Arrays, sample_inputs

GRAPH = "model.onnx"
# showers of the self-test
REFERENCE_SHOWERS = 3


@dataclass(frozen=True)
class TensorInfo:
    """An input or the output of a graph.

    Attributes:
        name: Its name in the graph.
        meaning: What it holds.
        unit: Unit of its values; "" for none.
        axes: What each axis after the first, the batch, counts.
        distribution: Of noise, "standard normal" or "uniform in [-1, 1]"; "" for what is not noise.
    """

    name: str
    meaning: str
    unit: str = ""
    axes: tuple[str, ...] = ()
    distribution: str = ""


@dataclass(frozen=True)
class Contract:
    """A module with exactly the tensors of a consumer, and what belongs to it.

    Attributes:
        module: Takes the inputs in order; (N, ...) each.
        inputs: Its inputs.
        output: Its output.
        examples: Arrays of all inputs, by name, for tracing and for the self-test.
        facts: Entries of the manifest about the consumer.
        texts: Further files of the folder by name, made from the manifest.
        convert: Turns the folder with the ONNX file into the files of another runtime, and returns their
            names, the first being the one that is opened; None keeps the ONNX file.
        runs: Runs the files of `convert` on named inputs; None is ONNX Runtime.
        tolerance: Share of the energy of a shower that may lie in other cells than torch puts it.
    """

    module: nn.Module
    inputs: tuple[TensorInfo, ...]
    output: TensorInfo
    examples: Arrays
    facts: Mapping[str, Any] = field(default_factory=dict)
    texts: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda manifest: {}  # noqa: ARG005
    convert: Callable[[Path], tuple[str, ...]] | None = None
    runs: Callable[[Path, Arrays], np.ndarray[Any, Any]] | None = None
    tolerance: float = PARITY

    def expected(self) -> np.ndarray[Any, Any]:
        """The output for the examples, computed by torch."""
        with torch.inference_mode():
            result: torch.Tensor = self.module(*(torch.from_numpy(value) for value in self.examples.values()))
        return result.float().numpy()


MEANINGS = {
    "energy": TensorInfo("energy", "kinetic energy of the incident particle", "MeV"),
    "theta": TensorInfo("theta", "polar angle; pi/2 is orthogonal incidence", "rad"),
    "phi": TensorInfo("phi", "azimuth", "rad"),
    "pdg_id": TensorInfo("pdg_id", "particle number of the Particle Data Group"),
    "impact_x": TensorInfo("impact_x", "impact point, from the axis of the mesh along x", "mm"),
    "impact_y": TensorInfo("impact_y", "impact point, from the axis of the mesh along y", "mm"),
}


def plain_contract(model: ShowerModel) -> Contract:
    """The contract of the plain graph: conditions and noise in, showers out."""
    examples = sample_inputs(model, REFERENCE_SHOWERS)
    noise = TensorInfo(
        "noise",
        "noise, new for each shower",
        axes=tuple(f"noise {axis}" for axis in range(len(model.noise_shape))),
        distribution="standard normal",
    )
    return Contract(
        Exported(model),
        tuple(MEANINGS.get(name, noise) for name in examples),
        TensorInfo("showers", f"{model.energy_meaning} energy of each cell", "MeV", shower_axes(model)),
        examples,
    )


def shower_axes(model: ShowerModel) -> tuple[str, ...]:
    """What the axes of a shower count."""
    mesh = model.detector.mesh
    if isinstance(mesh, CartesianMesh):
        return ("layer", "y", "x")
    return ("layer", "phi", "r") if isinstance(mesh, CylindricalMesh) else ("cell",)


def the_only_particle(model: ShowerModel, consumer: str) -> int:
    """PDG number of the particle of a model, for consumers that do not tell which one it is.

    Raises:
        ModelError: The model knows several.
    """
    known = model.ranges.pdg_ids
    if len(known) > 1:
        raise ModelError(
            f"{consumer} does not tell its model which particle comes in, this one was trained on several "
            f"(PDG {', '.join(map(str, known))}); train a model for each particle and export that"
        )
    return known[0]


def require_visible(model: ShowerModel, consumer: str) -> None:
    """Check that a model makes visible energies.

    Raises:
        ModelError: It makes energies that are corrected for the sampling fraction.
    """
    if model.energy_meaning != "visible":
        raise ModelError(
            f"{consumer} stores visible energies, those of this model are {model.energy_meaning}; import its "
            "training data with --visible, and train again"
        )


def voxel_depth(detector: Detector, consumer: str) -> float:
    """Depth of a readout layer, mm, the same for all.

    Raises:
        ModelError: Layers differ.
    """
    sizes = np.array([layer.thickness for layer in detector.physical_layers()])
    depths = sizes.reshape(detector.n_layers, -1).sum(axis=1)
    if np.ptp(depths) > 1e-6:
        raise ModelError(
            f"{consumer} has layers of one depth; those of {detector.name} are {depths.min():g} to "
            f"{depths.max():g} mm deep; take --target onnx"
        )
    return float(depths[0])
