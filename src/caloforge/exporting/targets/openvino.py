"""Target `openvino`: the plain graph in OpenVINO's format, model.xml and model.bin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.exporting.contract import GRAPH, Contract, plain_contract
from caloforge.exporting.graph import require_packages
from caloforge.models.base import ShowerModel
from caloforge.models.parity import Arrays
from caloforge.signals import own_signal_stack

FILES = ("model.xml", "model.bin")


def contract(model: ShowerModel) -> Contract:
    """The plain contract, converted.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    require_packages("openvino")
    facts = {"batch": "reshape the model to a fixed number of showers before it is compiled"}
    return replace(plain_contract(model), facts=facts, convert=_convert, runs=run)


def _convert(folder: Path) -> tuple[str, ...]:
    import openvino

    graph = folder / GRAPH
    # fp16 is the default of the compression
    openvino.save_model(openvino.Core().read_model(graph), folder / FILES[0], compress_to_fp16=False)
    graph.unlink()
    return FILES


def run(graph: Path, inputs: Arrays) -> np.ndarray[Any, Any]:
    """Run a graph in fp32, compiled for the batch of the inputs."""
    import openvino

    core = openvino.Core()
    network = core.read_model(graph)
    network.reshape({name: list(value.shape) for name, value in inputs.items()})
    with own_signal_stack():
        compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.array(compiled(inputs)[0])
