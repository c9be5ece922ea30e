"""A model on a backend, ready to make showers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge._version import __version__
from caloforge.errors import ConfigError, MissingDependencyError, ModelError, nearest
from caloforge.export.graph import check_parity, condition_of, export_graph, graph_inputs, quantize_graph
from caloforge.files import cache_folder
from caloforge.generation.conditions import Columns
from caloforge.generation.runtimes import (
    PACKAGES,
    PRECISIONS,
    Arrays,
    Backend,
    Precision,
    Runtime,
    open_runtime,
)
from caloforge.models.base import Condition, NoiseOf, ShowerModel
from caloforge.provenance import digest_json, package_version

# showers in a pass where nobody measured: activations of a small network stay in the L2 cache of a core
BATCH = {"torch": 64, "numba": 64, "onnx": 16, "openvino": 16}
CUDA_BATCH = 2048

Generate = Callable[[Columns, NoiseOf], NDArray[np.float32]]


@dataclass(frozen=True)
class Plan:
    """How the network runs.

    Attributes:
        backend: What computes.
        precision: Arithmetic; fp32 is exact.
        batch_size: Showers in a pass, at most.
        threads: Passes at the same time, each on one core.
        device: "cpu", or a GPU, with torch alone.
    """

    backend: Backend = "torch"
    precision: Precision = "fp32"
    batch_size: int = BATCH["torch"]
    threads: int = 1
    device: str = "cpu"

    def check(self) -> None:
        """Make sure that it can be done here.

        Raises:
            ConfigError: A backend or arithmetic that does not exist, or not together.
            MissingDependencyError: The extra is not installed; with the command.
        """
        if self.batch_size < 1:
            raise ConfigError(f"batch size: got {self.batch_size}, expected at least 1")
        if self.threads < 1:
            raise ConfigError(f"threads: got {self.threads}, expected at least 1")
        if self.backend not in PACKAGES:
            hint = nearest(self.backend, ("auto", *PACKAGES))
            raise ConfigError(f"backend: got {self.backend!r}. {hint}")
        if self.precision not in PRECISIONS[self.backend]:
            able = [name for name, known in PRECISIONS.items() if self.precision in known]
            raise ConfigError(
                f"precision {self.precision}: the backend {self.backend} computes in "
                f"{' and '.join(PRECISIONS[self.backend])}; for {self.precision} take --backend "
                f"{' or '.join(able)}"
            )
        _check_device(self.device)
        if self.device != "cpu" and self.backend != "torch":
            raise ConfigError(f"device {self.device}: the backend {self.backend} runs on the CPU; take torch")
        missing = [name for name in packages_of(self) if find_spec(name) is None]
        if missing:
            raise MissingDependencyError(
                f"backend {self.backend}: {', '.join(missing)} not installed: pip install 'caloforge[onnx]'"
            )


def _check_device(device: str) -> None:
    """Refuse a device that is neither "cpu" nor a GPU that torch sees."""
    if device == "cpu":
        return
    if not (found := re.fullmatch(r"cuda(?::([0-9]{1,3}))?", device)):
        raise ConfigError(f"device: got {device!r}, expected cpu, cuda or cuda:NUMBER")
    seen = torch.cuda.device_count()
    if int(found[1] or 0) >= seen:
        there = f"{seen} GPUs, counted from 0" if seen else "no GPU"
        raise ConfigError(f"device {device}: torch sees {there} here; take --device cpu")


def packages_of(plan: Plan) -> tuple[str, ...]:
    """The packages of the extra that a plan needs."""
    quantiser = ("onnxruntime",) if plan.precision == "int8" else ()
    return tuple(dict.fromkeys(PACKAGES[plan.backend] + quantiser))


class Network:
    """A model made ready by `open_network`; `worker` is called once in each thread that generates."""

    def __init__(self, model: ShowerModel, plan: Plan, runtime: Runtime | None) -> None:
        """Keep the parts; torch and Numba have no runtime."""
        self.model = model
        self.plan = plan
        self._runtime = runtime

    @cached_property
    def _compiled(self) -> Callable[[Condition, NoiseOf], NDArray[np.float32]]:
        return self.model.compiled()

    def worker(self) -> Generate:
        """A function that makes showers (N, *shower_shape), MeV, of conditions and noise; for one thread."""
        if self.plan.backend == "numba":
            generate = self._compiled
            return lambda columns, noise: generate(columns.tensors(), noise)
        if self._runtime is None:
            return self._torch
        run, model = self._runtime.worker(), self.model
        return lambda columns, noise: run(graph_inputs(model, columns.tensors(), noise(0, len(columns))))

    def _torch(self, columns: Columns, noise: NoiseOf) -> NDArray[np.float32]:
        device = torch.device(self.plan.device)
        with (
            _one_thread(device),
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"),
        ):
            latent = torch.from_numpy(noise(0, len(columns))).to(device)
            showers: NDArray[np.float32] = (
                self.model.generate(columns.tensors().to(device), latent).float().cpu().numpy()
            )
        return showers


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU each pass has one core; torch's own setting is put back."""
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def open_network(model: ShowerModel, plan: Plan) -> Network:
    """Put a model on a backend.

    The graph of a model is written once and kept in the user's cache folder; before it is used its showers
    are compared with torch's.

    Raises:
        ConfigError, MissingDependencyError: The plan cannot be done here.
        ModelError: The network cannot be written as a graph, or the runtime makes other showers of it.
    """
    plan.check()
    model.to(plan.device).eval()
    if plan.backend == "torch":
        return Network(model, plan, None)
    if plan.backend == "numba":
        _check_compiled(model)
        return Network(model, plan, None)
    try:
        return Network(model, plan, _checked_runtime(model, plan))
    except ModelError:
        # a graph in the cache may be of an older state of this program
        for path in (graph_path(model), graph_path(model, "int8")):
            path.unlink(missing_ok=True)
        return Network(model, plan, _checked_runtime(model, plan))


def _check_compiled(model: ShowerModel) -> None:
    if not model.compilable:
        raise ModelError(f"the family {model.family} has no compiled form; take the backend torch")
    from numba.core.errors import NumbaError

    generate = model.compiled()

    def run(given: Arrays) -> NDArray[np.float32]:
        noise = np.asarray(given["noise"], np.float32)
        return generate(condition_of(model, given), lambda start, stop: noise[start:stop])

    try:
        check_parity(model, run, "numba")
    except NumbaError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the family {model.family} cannot be compiled here: {reason}; take the backend torch"
        ) from error


def _checked_runtime(model: ShowerModel, plan: Plan) -> Runtime:
    runtime = open_runtime(
        plan.backend,
        graph_of(model, plan.precision),
        precision=plan.precision,
        batch=plan.batch_size,
        threads=plan.threads,
        cache=cache_folder() / "openvino",
    )
    name = f"{plan.backend} {plan.precision}"
    check_parity(model, runtime.worker(), name, exact=plan.precision == "fp32")
    return runtime


def graph_of(model: ShowerModel, precision: Precision = "fp32") -> Path:
    """The graph of a model in the cache folder, written where it is not there yet."""
    path = graph_path(model)
    if not path.is_file():
        export_graph(model, path)
    if precision != "int8":
        return path
    quantised = graph_path(model, "int8")
    return quantised if quantised.is_file() else quantize_graph(model, path, quantised)


def graph_path(model: ShowerModel, kind: str = "fp32") -> Path:
    """Where the graph is kept: named by the model and the versions that write it."""
    facts = {"model": state_digest(model), "caloforge": __version__, "torch": package_version("torch")}
    return cache_folder() / "graphs" / f"{digest_json(facts)[:16]}-{kind}.onnx"


def state_digest(model: ShowerModel) -> str:
    """SHA-256 of everything that decides what a model generates: family, configuration, detector, weights."""
    digest = hashlib.sha256(model.family.encode())
    for part in (model.config, model.detector, model.facts):
        digest.update(part.model_dump_json().encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
