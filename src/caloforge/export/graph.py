"""Export of a model's `generate` as an ONNX graph from conditions and noise to showers, for any batch size.

Inputs, in this order: `energy` (N,) MeV, `theta` (N,) rad, `phi` (N,) rad, all float32; `pdg_id` (N,) int32
where the model was trained on several particles; `impact_x` and `impact_y` (N,) float32, mm, where it was
trained on showers off the axis of the mesh; `noise` (N, *noise_shape) float32, standard normal.
Output: `showers` (N, *shower_shape) float32, MeV.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from caloforge.errors import MissingDependencyError, ModelError
from caloforge.files import check_writable, replacing
from caloforge.models.base import Condition, ShowerModel
from caloforge.models.parity import Arrays, sample_inputs

LARGEST_BATCH = 2**20


class Exported(nn.Module):
    """A module whose `forward` is `generate` with the inputs of the graph."""

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


def export_graph(model: ShowerModel, path: Path) -> Path:
    """Write the graph; `check_parity` then tests that a runtime gives the same showers.

    Raises:
        MissingDependencyError: The extra `onnx` is not installed.
        ModelError: The family cannot be exported, or the network has an operation that ONNX lacks.
    """
    if not model.exportable:
        raise ModelError(f"the family {model.family} cannot be written as a graph; take the backend torch")
    require_packages("onnx", "onnxscript")
    inputs = sample_inputs(model)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    tensors = [torch.from_numpy(value) for value in inputs.values()]
    dynamic = {name: {0: batch} for name in ("energy", "theta", "phi")}
    # for `*rest` of `forward`
    shapes = {**dynamic, "rest": tuple({0: batch} for _ in tensors[3:])}
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                Exported(model.cpu().eval()).eval(),
                tuple(tensors),
                dynamo=True,
                input_names=list(inputs),
                output_names=["showers"],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ModelError(f"the model family {model.family} cannot be written as ONNX: {reason}") from error
    assert program is not None
    check_writable(path)
    with replacing(path) as temporary:
        program.save(str(temporary), external_data=False)
    return path


def quantize_graph(model: ShowerModel, graph: Path, path: Path, count: int = 64) -> Path:
    """Quantise a graph: convolutions in 8-bit integers, calibrated on conditions over the trained range.

    Weights get a scale for each output channel (ONNX Runtime's static quantisation); the rest stays fp32.
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

    with replacing(path) as temporary, _quiet():
        quantize_static(
            graph,
            temporary,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
        )
    return path


def require_packages(*packages: str) -> None:
    """Check that packages of the extra `onnx` are installed.

    Raises:
        MissingDependencyError: One is not; names the command to install it.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"{', '.join(missing)} not installed: pip install 'caloforge[onnx]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and log messages of the exporter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
