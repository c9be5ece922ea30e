"""Inference runtimes for the ONNX graph of a model. Importing this does not import torch.

A runtime is prepared for one batch size and number of threads. Each thread runs whole batches: the memory of
a batch stays in the cache of its core, and no synchronisation within a layer is needed. A new runtime is one
line of `BUILT_IN`, or an entry point of the group `caloforge.backends` of any package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ModelError
from caloforge.plugins import Registry
from caloforge.signals import own_signal_stack

Arrays = dict[str, NDArray[np.generic]]
Worker = Callable[[Arrays], NDArray[np.float32]]
Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True)
class Backend:
    """A backend that can run models.

    Attributes:
        precisions: Precisions that it supports on a CPU.
        packages: Packages that it needs, besides those for the export of a graph.
        batch: Default batch size.
        open: "module:function" of (graph, *, precision, batch, threads, cache), which opens an ONNX file as
            `Runtime`; imported when it is used. Empty for the built-in backends that do not use a graph.
    """

    precisions: tuple[Precision, ...]
    packages: tuple[str, ...] = ()
    batch: int = 16
    open: str = ""


# with these batch sizes the activations of a small network fit into the L2 cache of a core
BUILT_IN = {
    "torch": Backend(("fp32", "bf16"), batch=64),
    "numba": Backend(("fp32",), batch=64),
    "onnx": Backend(("fp32", "int8"), ("onnxruntime",), open=f"{__name__}:open_onnx"),
    "openvino": Backend(("fp32", "bf16", "int8"), ("openvino",), open=f"{__name__}:OpenVino"),
}


def _complaint(name: str, backend: Backend) -> str:
    del name
    return "" if backend.open else "it names no function that opens a graph"


BACKENDS = Registry("caloforge.backends", "backend", BUILT_IN, Backend, _complaint)
# packages for the export of a graph
WRITER = ("onnx", "onnxscript")


class Runtime(Protocol):
    """A loaded graph; each thread calls `worker` once."""

    def worker(self) -> Worker:
        """A function from the inputs of the graph to showers, for use in one thread."""


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self, graph: Path) -> None:
        """Load the graph."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def worker(self) -> Worker:
        """A worker; the session is thread-safe and shared."""

        def run(inputs: Arrays) -> NDArray[np.float32]:
            (showers,) = self._session.run(None, {name: inputs[name] for name in self._inputs})
            return np.asarray(showers)

        return run


class OpenVino:
    """OpenVINO on the CPU, compiled for one batch size: static shapes are 25 to 40 % faster."""

    def __init__(self, graph: Path, *, precision: Precision, batch: int, threads: int, cache: Path) -> None:
        """Compile the graph.

        Args:
            graph: The ONNX file; for int8 the quantised one.
            precision: "fp32", "bf16" or "int8".
            batch: Showers per pass; smaller batches are padded.
            threads: Number of threads that will run workers.
            cache: Folder of compiled graphs.
        """
        import openvino

        self.batch = batch
        core = openvino.Core()
        settings = {
            # by default OpenVINO chooses bf16 or f16 if the processor supports it
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "CACHE_DIR": str(cache),
        }
        try:
            model = core.read_model(graph)
            # by position: the compiler may give an input further names
            self._inputs = [entry.any_name for entry in model.inputs]
            model.reshape({entry.any_name: [batch, *list(entry.partial_shape)[1:]] for entry in model.inputs})
            with own_signal_stack():
                self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO {openvino.get_version().split('-')[0]} cannot run the graph of this model: "
                f"{_cause(error)}; take another backend: numba, onnx or torch"
            ) from error

    def worker(self) -> Worker:
        """A worker with its own inference request."""
        request = self._compiled.create_infer_request()

        def run(inputs: Arrays) -> NDArray[np.float32]:
            count = len(inputs["energy"])
            if count > self.batch:
                parts = [
                    {name: value[start : start + self.batch] for name, value in inputs.items()}
                    for start in range(0, count, self.batch)
                ]
                return np.concatenate([run(part) for part in parts])
            given = {index: _padded(inputs[name], self.batch) for index, name in enumerate(self._inputs)}
            result: Any = request.infer(given, share_inputs=True, share_outputs=True)[0]
            # the next batch overwrites the memory of the request
            return np.array(result[:count], np.float32)

        return run


def _cause(error: RuntimeError) -> str:
    """What OpenVINO complains of: the last line of its message that says something."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    return next((line.rstrip(".") for line in reversed(lines) if line), type(error).__name__)


def _padded(values: NDArray[np.generic], batch: int) -> NDArray[np.generic]:
    """Pad to the batch size by repeating the last value."""
    if len(values) == batch:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.repeat(values[-1:], batch - len(values), axis=0)])


def open_onnx(graph: Path, *, precision: Precision, batch: int, threads: int, cache: Path) -> OnnxRuntime:
    """ONNX Runtime takes any batch, and the arithmetic from the graph."""
    del precision, batch, threads, cache
    return OnnxRuntime(graph)


def open_runtime(
    backend: str, graph: Path, *, precision: Precision, batch: int, threads: int, cache: Path
) -> Runtime:
    """Load a graph with the runtime of a backend.

    Raises:
        ConfigError: There is no such backend.
        PluginError: The package that adds it is broken.
    """
    make = BACKENDS.resolve(backend, BACKENDS.get(backend, "backend").open)
    runtime: Runtime = make(graph, precision=precision, batch=batch, threads=threads, cache=cache)
    return runtime
