"""A graph that OpenVINO cannot run is refused in one line."""

import pytest

from caloforge.errors import ModelError
from caloforge.generation.runtimes import open_runtime


def test_what_openvino_cannot_run_is_said_in_one_line(tmp_path):
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto
    # wraps around an axis, which OpenVINO's reader of ONNX refuses
    pad = helper.make_node("Pad", ["showers", "pads"], ["padded"], mode="wrap")
    graph = helper.make_graph(
        [pad],
        "wrap",
        [helper.make_tensor_value_info("showers", number.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("padded", number.FLOAT, [2, 10])],
        [helper.make_tensor("pads", number.INT64, [4], [0, 1, 0, 1])],
    )
    path = tmp_path / "wrap.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), path)
    with pytest.raises(ModelError) as refused:
        open_runtime("openvino", path, precision="fp32", batch=2, threads=1, cache=tmp_path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith("OpenVINO 20")
    assert "cannot run the graph of this model: Conversion is failed for: Pad" in line
    assert "take another backend: numba, onnx or torch" in line
