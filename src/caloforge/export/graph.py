"""Export of a model's `generate` as an ONNX graph from conditions and noise to showers, for any batch size.

Inputs, in this order: `energy` (N,) MeV, `theta` (N,) rad, `phi` (N,) rad, all float32; `pdg_id` (N,) int32
where the model was trained on several particles; `noise` (N, *noise_shape) float32, standard normal.
Output: `showers` (N, *shower_shape) float32, MeV.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.errors import MissingDependencyError, ModelError
from caloforge.files import check_writable, replacing
from caloforge.models.base import Condition, ShowerModel

Arrays = dict[str, NDArray[np.generic]]
LARGEST_BATCH = 2**20
# number of showers to compare a graph with torch, and seed of their noise
SAMPLE, SAMPLE_SEED = 4, 1
# tolerated fraction of the energy in different cells; rounding may push a cell over a threshold
PARITY = 1e-3
# the same for reduced precision: only detects broken graphs, `validate` measures the quality
ROUGH_PARITY = 0.3


class Exported(nn.Module):
    """A module whose `forward` is `generate` with the inputs of the graph."""

    def __init__(self, model: ShowerModel) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model
        self.particle = model.ranges.pdg_ids[0]

    def forward(self, energy: Tensor, theta: Tensor, phi: Tensor, *rest: Tensor) -> Tensor:
        """Showers, (N, *shower_shape) MeV."""
        *particles, noise = rest
        pdg_id = particles[0] if particles else torch.full_like(energy, self.particle, dtype=torch.int32)
        return self.model.generate(Condition(energy, theta, phi, pdg_id), noise)


def graph_inputs(model: ShowerModel, condition: Condition, noise: NDArray[np.float32]) -> Arrays:
    """The inputs of the graph by name, in order."""
    arrays: Arrays = {
        "energy": condition.energy.numpy(),
        "theta": condition.theta.numpy(),
        "phi": condition.phi.numpy(),
    }
    if len(model.ranges.pdg_ids) > 1:
        arrays["pdg_id"] = condition.pdg_id.numpy()
    return arrays | {"noise": noise}


def condition_of(model: ShowerModel, inputs: Arrays) -> Condition:
    """The conditions contained in the inputs of the graph."""
    columns = {name: torch.from_numpy(inputs[name]) for name in ("energy", "theta", "phi")}
    if "pdg_id" in inputs:
        pdg_id = torch.from_numpy(inputs["pdg_id"])
    else:
        pdg_id = torch.full_like(columns["energy"], model.ranges.pdg_ids[0], dtype=torch.int32)
    return Condition(**columns, pdg_id=pdg_id)


def sample_inputs(model: ShowerModel, count: int = SAMPLE) -> Arrays:
    """Random inputs over the trained range, to trace, compare and calibrate graphs with."""
    ranges = model.ranges
    rng = np.random.default_rng(SAMPLE_SEED)

    def within(limits: tuple[float, float]) -> Tensor:
        return torch.from_numpy(rng.uniform(*limits, count).astype(np.float32))

    pdg_id = torch.from_numpy(rng.choice(np.array(ranges.pdg_ids, np.int32), count))
    condition = Condition(within(ranges.energy), within(ranges.theta), within(ranges.phi), pdg_id)
    return graph_inputs(model, condition, rng.standard_normal((count, *model.noise_shape), np.float32))


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


def check_parity(
    model: ShowerModel, run: Callable[[Arrays], NDArray[np.float32]], name: str, *, exact: bool = True
) -> float:
    """Compare a runtime with torch on a few showers.

    Args:
        model: The model, on the CPU.
        run: The runtime: a function from the graph's inputs to showers.
        name: Name of the runtime, for the message.
        exact: Whether it computes in fp32.

    Returns:
        The fraction of the energy in different cells, mean over the showers.

    Raises:
        ModelError: The fraction exceeds the tolerance.
    """
    inputs = sample_inputs(model)
    tensors = [torch.from_numpy(value) for value in inputs.values()]
    with torch.inference_mode():
        want = Exported(model)(*tensors).numpy().reshape(SAMPLE, -1).astype(np.float64)
    got = run(inputs).reshape(SAMPLE, -1).astype(np.float64)
    fraction = float(np.mean(np.abs(got - want).sum(axis=1) / np.maximum(want.sum(axis=1), 1e-12)))
    # also true where it is NaN
    if not fraction <= (PARITY if exact else ROUGH_PARITY):
        raise ModelError(
            f"{name} makes other showers of this model than torch: {fraction:.2g} of the energy in other "
            "cells, "
            f"expected at most {PARITY if exact else ROUGH_PARITY:g}; use --backend torch"
        )
    return fraction


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
