"""Export of a model as an ONNX graph, for any batch size.

The plain graph has the inputs of `caloforge.models.parity`: `energy` (N,) MeV, `theta` and `phi` (N,) rad,
all float32; `pdg_id` (N,) int32 where the model was trained on several particles; `impact_x` and `impact_y`
(N,) mm, float32, where it was trained on impact points off the axis; `noise` (N, *noise_shape) float32,
standard normal. Its output is `showers` (N, *shower_shape) float32, MeV.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from caloforge.errors import MissingDependencyError, ModelError
from caloforge.files import check_writable, replacing
from caloforge.models.base import Condition, ShowerModel
from caloforge.models.parity import Arrays, sample_inputs

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_BATCH = 2**20
# of ONNX 1.10 (2021), which ONNX Runtime 1.10 reads: the oldest that describes the shapes of a dynamic batch
OLDEST_OPSET, IR_VERSION = 15, 8


class Exported(nn.Module):
    """A module whose `forward` is `generate` with the inputs of the plain graph."""

    def __init__(self, model: ShowerModel) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model
        self.particle = model.ranges.pdg_ids[0]
        self.several = len(model.ranges.pdg_ids) > 1

    def forward(self, energy: Tensor, theta: Tensor, phi: Tensor, *rest: Tensor) -> Tensor:
        """Showers, (N, *shower_shape) MeV."""
        *others, noise = rest
        pdg_id = others.pop(0) if self.several else torch.full_like(energy, self.particle, dtype=torch.int32)
        # what is left are the impact points, if there are any
        return self.model.generate(Condition(energy, theta, phi, pdg_id, *others), noise)


class _OfTuple(nn.Module):
    """A module that takes any number of tensors: one form of dynamic shapes suits all."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> Tensor:
        result: Tensor = self.module(*tensors)
        return result


def export_graph(model: ShowerModel, path: Path) -> Path:
    """Write the plain graph; `check_parity` then tests that a runtime gives the same showers.

    Raises:
        MissingDependencyError: The extra `onnx` is not installed.
        ModelError: The family cannot be exported, or the network has an operation that ONNX lacks.
    """
    check_exportable(model)
    return export_module(Exported(model), sample_inputs(model), "showers", path, model.family)


def check_exportable(model: ShowerModel) -> None:
    """Check that the family of a model can be exported, and that the packages for it are installed.

    Raises:
        ModelError: The family cannot be exported.
        MissingDependencyError: The extra `onnx` is not installed.
    """
    if not model.exportable:
        raise ModelError(
            f"the family {model.family} cannot be written as a graph: the shapes in it depend on values; "
            "generate with --backend torch"
        )
    require_packages("onnx", "onnxscript")


def export_module(
    module: nn.Module, inputs: Mapping[str, object], output: str, path: Path, family: str
) -> Path:
    """Write a module as a graph in one file.

    Args:
        module: Takes the inputs in their order; it is moved to the CPU.
        inputs: Arrays by name, (N, ...), to trace the module with; N is free in the graph.
        output: Name of the output.
        path: The ONNX file.
        family: Name of the model family, for messages.

    Raises:
        ModelError: The module has an operation that ONNX lacks.
    """
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    tensors = tuple(torch.as_tensor(value) for value in inputs.values())
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                _OfTuple(module.cpu().eval()).eval(),
                tensors,
                dynamo=True,
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes={"tensors": tuple({0: batch} for _ in tensors)},
                opset_version=18,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ModelError(f"the model family {family} cannot be written as ONNX: {reason}") from error
    assert program is not None
    with quiet():
        graph = _for_old_consumers(program.model_proto)
    check_writable(path)
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def _for_old_consumers(graph: ModelProto) -> ModelProto:
    """The same graph with the oldest opset that describes it, and without the exporter's notes."""
    import onnx

    for node in graph.graph.node:
        # traces with the paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.metadata_props[:]
    graph.ir_version = IR_VERSION
    (domain,) = [entry for entry in graph.opset_import if not entry.domain]
    newest = domain.version
    for version in range(OLDEST_OPSET, newest + 1):
        # between these versions operators gained inputs, attributes and types, but none changed its meaning
        domain.version = version
        try:
            onnx.checker.check_model(graph, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            if version == newest:
                raise
        else:
            break
    return graph


def quantize_graph(
    model: ShowerModel, graph: Path, path: Path, count: int = 64, *, for_hardware: bool = False
) -> Path:
    """Quantise a graph: convolutions in 8-bit integers, calibrated on conditions over the trained range.

    Weights get a scale for each output channel (ONNX Runtime's static quantisation); the rest stays fp32.
    For hardware each tensor has one scale and no offset, and dense layers are quantised as well.
    """
    require_packages("onnx", "onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            inputs = sample_inputs(model, count)
            self.rows = iter(
                [{name: value[i : i + 8] for name, value in inputs.items()} for i in range(0, count, 8)]
            )

        def get_next(self) -> Arrays | None:
            return next(self.rows, None)

    with replacing(path) as temporary, quiet():
        quantize_static(
            graph,
            temporary,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"] if for_hardware else ["Conv"],
            per_channel=not for_hardware,
            extra_options={"ActivationSymmetric": for_hardware},
        )
    return path


def require_packages(*packages: str, extra: str = "onnx") -> None:
    """Check that packages of an extra are installed.

    Raises:
        MissingDependencyError: One is not; names the command to install it.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"{', '.join(missing)} not installed: pip install 'caloforge[{extra}]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and log messages of the exporter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
