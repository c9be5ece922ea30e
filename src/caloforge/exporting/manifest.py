"""The manifest of an exported model: everything a consumer has to know, and the data of its self-test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caloforge.exporting.contract import Contract, TensorInfo
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.geometry.mesh import IMPACT
from caloforge.models.base import ShowerModel
from caloforge.models.parity import Arrays
from caloforge.models.training_metadata import TrainedRange
from caloforge.provenance import collect, digest_file

MANIFEST, REFERENCE = "manifest.json", "reference.bin"
FORMAT, FORMAT_VERSION = "caloforge-export", 1


def manifest(
    model: ShowerModel,
    contract: Contract,
    target: str,
    folder: Path,
    files: tuple[str, ...],
    name: str,
    reference: Arrays,
    digest: str,
) -> dict[str, Any]:
    """The manifest of a folder whose graph and reference data are written.

    Args:
        model: The model.
        contract: What the consumer feeds and expects.
        target: Name of the target.
        folder: Where the files are.
        files: Names of the files of the graph; the first is the one that is opened.
        name: What the model is called.
        reference: Arrays of `reference.bin` by name, in its order.
        digest: SHA-256 of the weights.
    """
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "target": target,
        "model": {"name": name, "family": model.family, "weights_sha256": digest},
        "graph": {
            "file": files[0],
            "files": [_file(folder / file) for file in files],
            **graph_versions(folder / files[0]),
        },
        "inputs": [_tensor(info, reference[info.name]) for info in contract.inputs],
        "output": _tensor(contract.output, reference[contract.output.name]),
        "trained": _trained(model.ranges),
        "energy_meaning": model.energy_meaning,
        "mesh": mesh_facts(model.detector),
        "detector": model.detector.model_dump(mode="json"),
        "reference": {
            **_file(folder / REFERENCE),
            **_layout(reference),
            "largest_difference": contract.tolerance,
        },
        **contract.facts,
        "provenance": collect(packages=("torch", "onnx", "onnxruntime")),
    }


def _trained(ranges: TrainedRange) -> dict[str, Any]:
    """The trained range of each condition that a model takes."""
    quantities = {"energy": "MeV", "theta": "rad", "phi": "rad"}
    quantities |= dict.fromkeys(IMPACT, "mm") if ranges.off_axis else {}
    facts: dict[str, Any] = {
        name: {"unit": unit, "min": getattr(ranges, name)[0], "max": getattr(ranges, name)[1]}
        for name, unit in quantities.items()
    }
    return facts | {"pdg_id": list(ranges.pdg_ids)}


def mesh_facts(detector: Detector) -> dict[str, Any]:
    """Where the cells are: the mesh, and the depth of each readout layer where the layers are known."""
    mesh = detector.mesh
    facts: dict[str, Any] = {"kind": mesh.kind, "shape": list(detector.shower_shape), "unit": "mm"}
    if isinstance(mesh, CartesianMesh):
        facts |= {"cell_x": mesh.cell_x, "cell_y": mesh.cell_y}
        facts |= {"x": mesh.x_centres().tolist(), "y": mesh.y_centres().tolist()}
    elif isinstance(mesh, CylindricalMesh):
        facts |= {"cell_r": mesh.cell_r, "r": ((np.arange(mesh.nr) + 0.5) * mesh.cell_r).tolist()}
    if detector.layers:
        front = float(detector.layer_fronts()[detector.axis_layer])
        facts |= {"z": detector.active_depths().tolist(), "axis_crosses_centre_at_z": front}
    return facts


def graph_versions(graph: Path) -> dict[str, int]:
    """Opset and version of the format of an ONNX file; nothing for other files."""
    if graph.suffix != ".onnx":
        return {}
    import onnx

    read = onnx.load(graph, load_external_data=False)
    (opset,) = [entry.version for entry in read.opset_import if not entry.domain]
    return {"opset": opset, "ir_version": read.ir_version}


def write_reference(path: Path, arrays: Arrays) -> None:
    """Write arrays one after another, little-endian, without a header."""
    path.write_bytes(b"".join(_bytes(value) for value in arrays.values()))


def _layout(arrays: Arrays) -> dict[str, Any]:
    tensors, start = [], 0
    for name, value in arrays.items():
        tensors.append(
            {"name": name, "type": str(value.dtype), "shape": list(value.shape), "first_byte": start}
        )
        start += value.nbytes
    return {"showers": len(next(iter(arrays.values()))), "tensors": tensors}


def _bytes(value: np.ndarray[Any, Any]) -> bytes:
    return value.astype(value.dtype.newbyteorder("<")).tobytes()


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest_file(path)}


def _tensor(info: TensorInfo, example: np.ndarray[Any, Any]) -> dict[str, Any]:
    facts = {
        "name": info.name,
        "meaning": info.meaning,
        "unit": info.unit,
        "type": str(example.dtype),
        "shape": ["batch", *example.shape[1:]],
        "axes": ["shower", *info.axes],
    }
    return facts | ({"distribution": info.distribution} if info.distribution else {})
