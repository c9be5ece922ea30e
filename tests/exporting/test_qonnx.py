"""Target `qonnx`: the 8-bit graph, and the estimate of its cost."""

import json

import numpy as np
import onnx
import pytest
from small_models import small_model

from caloforge.errors import ModelError
from caloforge.exporting.folder import export_folder
from caloforge.exporting.targets.qonnx import COST, run
from caloforge.models.parity import sample_inputs

pytest.importorskip("onnxscript")
pytest.importorskip("qonnx")


def test_a_network_of_convolutions_becomes_an_8_bit_graph(exported):
    folder = exported("qonnx")
    manifest, cost = (json.loads((folder / name).read_text()) for name in ("manifest.json", COST))
    graph = onnx.load(folder / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    # a quantiser for the input and one for the weights of each convolution, at least
    assert kinds.count("Quant") >= 2 * kinds.count("Conv") > 0
    assert "QuantizeLinear" not in kinds
    assert [entry.name for entry in graph.input] == [tensor["name"] for tensor in manifest["inputs"]]
    assert manifest["bits"] == 8 and manifest["graph"]["files"][1]["name"] == COST
    # every multiplication, counted from the shapes of weights and outputs
    weights = {entry.name: list(entry.dims) for entry in graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    source = {node.output[0]: node for node in graph.node}
    wanted = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            kernel = weights[source[node.input[1]].input[0]]
            wanted += np.prod(kernel) * np.prod(shapes[node.output[0]][2:])
    assert cost["multiplications_by_type"] == {"SCALEDINT<8>_SCALEDINT<8>": wanted}
    assert cost["multiplications"] == wanted and cost["bit_operations"] == 64 * wanted
    assert cost["weight_bits"] > 0 and "LeakyRelu" in cost["not_counted"]


def test_it_makes_about_the_showers_of_torch(exported):
    model = small_model()
    inputs = sample_inputs(model, 2)
    got = run(exported("qonnx") / "model.onnx", inputs)
    manifest = json.loads((exported("qonnx") / "manifest.json").read_text())
    assert got.shape == (2, *model.detector.shower_shape)
    assert manifest["reference"]["largest_difference"] == 0.3


def test_a_family_without_a_fixed_schedule_is_refused(tmp_path, monkeypatch):
    from onnx import TensorProto, helper

    from caloforge.exporting import folder

    # in place of the slow export: one operator that sorts
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "k", "values")]
    sorting = helper.make_model(helper.make_graph([node], "g", info[:2], info[2:]))
    monkeypatch.setattr(folder, "export_module", lambda *given: onnx.save(sorting, given[3]))
    with pytest.raises(ModelError, match="gan3d cannot become firmware: its graph has TopK"):
        export_folder(small_model(), tmp_path / "out", "qonnx", name="m", digest="0")
    assert list(tmp_path.iterdir()) == []
