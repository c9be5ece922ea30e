"""Target `qonnx`: an 8-bit graph for tools that build firmware of FPGAs, with an estimate of its cost.

QONNX is ONNX with operators that name the number of bits; hls4ml and FINN read it. Convolutions and dense
layers get 8-bit weights and activations, after training; the rest stays float32. The graph takes one shower:
hardware does them one after another.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.errors import ModelError
from caloforge.exporting.contract import GRAPH, Contract, plain_contract
from caloforge.exporting.graph import quantize_graph, quiet, require_packages
from caloforge.files import write_text
from caloforge.models.base import ShowerModel
from caloforge.models.parity import ROUGH_PARITY, Arrays
from caloforge.provenance import package_version

COST = "cost.json"
DOMAIN = "qonnx.custom_op.general"
BITS = 8
# operators that sort or look up by values: no pipeline of hardware has a fixed schedule for them
UNSUITED = {"TopK", "GatherND", "GatherElements", "NonZero", "Loop"}


def contract(model: ShowerModel) -> Contract:
    """The plain contract, quantised.

    Raises:
        MissingDependencyError: qonnx is not installed.
    """
    require_packages("qonnx", extra="fpga")
    facts = {"batch": "one shower; the graph has no other size", "bits": BITS}
    return replace(
        plain_contract(model),
        facts=facts,
        convert=lambda folder: _convert(model, folder),
        runs=run,
        tolerance=ROUGH_PARITY,
    )


def _convert(model: ShowerModel, folder: Path) -> tuple[str, ...]:
    import onnx

    graph = folder / GRAPH
    found = {node.op_type for node in onnx.load(graph).graph.node}
    if unsuited := sorted(found & UNSUITED):
        raise ModelError(
            f"the family {model.family} cannot become firmware: its graph has {', '.join(unsuited)}, which "
            "have no fixed schedule in hardware; a network of convolutions alone (gan3d, but for its preset "
            "compact) has none of them"
        )
    quantize_graph(model, graph, graph, for_hardware=True)
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant
    from qonnx.util.inference_cost import inference_cost

    with quiet():
        wrapped = ModelWrapper(_of_one_shower(graph)).transform(QCDQToQuant())
        wrapped.model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
        wrapped.save(str(graph))
        cost = inference_cost(wrapped, discount_sparsity=False)["total_cost"]
    write_text(folder / COST, json.dumps(_estimate(cost), indent=1))
    return GRAPH, COST


def _of_one_shower(graph: Path) -> Any:
    """The graph with a batch of one, and the shapes of all its tensors."""
    import onnx

    read = onnx.load(graph)
    for entry in (*read.graph.input, *read.graph.output):
        entry.type.tensor_type.shape.dim[0].dim_value = 1
    del read.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(read, data_prop=True)


def _estimate(cost: dict[str, Any]) -> dict[str, Any]:
    """The content of cost.json, from the figures of qonnx."""
    macs = {key.removeprefix("op_mac_"): int(value) for key, value in cost.items() if "op_mac_" in key}
    return {
        "what": (
            f"estimate of qonnx {package_version('qonnx')} for one shower, from the graph alone, without "
            "synthesis"
        ),
        "bit_operations": int(cost["total_bops"]),
        "multiplications": int(cost["total_macs"]),
        "multiplications_by_type": macs,
        "weight_bits": int(cost["total_mem_w_bits"]),
        "activation_bits": int(cost["total_mem_o_bits"]),
        # the text of a Python set
        "not_counted": sorted(re.findall(r"'(\w+)'", str(cost["unsupported"]))),
    }


def run(graph: Path, inputs: Arrays) -> np.ndarray[Any, Any]:
    """Run the graph in qonnx, shower by shower."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    with quiet():
        wrapped = ModelWrapper(str(graph))
        (output,) = [entry.name for entry in wrapped.graph.output]
        rows = [
            execute_onnx(wrapped, {name: value[i : i + 1] for name, value in inputs.items()})[output]
            for i in range(len(next(iter(inputs.values()))))
        ]
    return np.concatenate(rows)
