"""Loading a model on a backend (torch, ONNX Runtime, OpenVINO, Numba), checked against torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge._version import __version__
from caloforge.conditions import Conditions
from caloforge.errors import ModelError
from caloforge.exporting.graph import export_graph, quantize_graph
from caloforge.files import cache_folder
from caloforge.generation.compiled import as_loaded_model
from caloforge.generation.plan import Generate, LoadedModel, Plan
from caloforge.generation.runtimes import Arrays, Precision, Runtime, open_runtime
from caloforge.models.base import ShowerModel
from caloforge.models.compiled_model import CompiledModel, NoiseOf
from caloforge.models.parity import check_parity, condition_of, graph_inputs
from caloforge.provenance import digest_json, package_version


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Limit torch to one thread on a CPU inside the context: each pass runs on one core."""
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_on_backend(model: ShowerModel, plan: Plan) -> LoadedModel:
    """Load a model in memory on a backend; `caloforge.generation.opening` does it for one on disk.

    The ONNX graph of a model is exported once and kept in the user's cache folder. Before it is used, its
    showers are compared with those of torch.

    Raises:
        ConfigError, MissingDependencyError: The plan cannot be executed on this machine.
        ModelError: The network cannot be exported, or the runtime generates other showers than torch.
    """
    plan.check()
    model.to(plan.device).eval()
    if plan.backend == "numba":
        return as_loaded_model(compile_and_check(model), model, plan)
    if plan.backend == "torch":
        generate = _with_torch(model, plan)
        return _loaded_model(model, plan, lambda: generate)
    try:
        runtime = _checked_runtime(model, plan)
    except ModelError:
        # a graph in the cache may come from an older state of the code
        for path in (graph_path(model), graph_path(model, "int8")):
            path.unlink(missing_ok=True)
        runtime = _checked_runtime(model, plan)

    def worker() -> Generate:
        run = runtime.worker()
        return lambda conditions, noise: run(
            graph_inputs(model, conditions.to_torch(), noise(0, len(conditions)))
        )

    return _loaded_model(model, plan, worker)


def _loaded_model(model: ShowerModel, plan: Plan, worker: Callable[[], Generate]) -> LoadedModel:
    return LoadedModel(plan, model.detector, model.energy_meaning, model.noise_shape, worker)


def _with_torch(model: ShowerModel, plan: Plan) -> Generate:
    device = torch.device(plan.device)

    def generate(conditions: Conditions, noise: NoiseOf) -> NDArray[np.float32]:
        with (
            _one_thread(device),
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"),
        ):
            latent = torch.from_numpy(noise(0, len(conditions))).to(device)
            showers: NDArray[np.float32] = (
                model.generate(conditions.to_torch().to(device), latent).float().cpu().numpy()
            )
        return showers

    return generate


def compile_and_check(model: ShowerModel) -> CompiledModel:
    """Compile a model with Numba and compare it with torch.

    Raises:
        ModelError: The family has no compiled form, it cannot be compiled here, or it generates other showers
            than torch.
    """
    if not model.compilable:
        raise ModelError(f"the family {model.family} has no compiled form; take the backend torch")
    from numba.core.errors import NumbaError

    compiled = model.cpu().eval().compiled()

    def run(given: Arrays) -> NDArray[np.float32]:
        noise = np.asarray(given["noise"], np.float32)
        return compiled(condition_of(model, given).to_numpy(), lambda start, stop: noise[start:stop])

    try:
        check_parity(model, run, "numba")
    except NumbaError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the family {model.family} cannot be compiled here: {reason}; take the backend torch"
        ) from error
    return compiled


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
    """Path of the ONNX graph of a model in the cache folder; exports it if it is missing."""
    path = graph_path(model)
    if not path.is_file():
        export_graph(model, path)
    if precision != "int8":
        return path
    quantised = graph_path(model, "int8")
    return quantised if quantised.is_file() else quantize_graph(model, path, quantised)


def graph_path(model: ShowerModel, kind: str = "fp32") -> Path:
    """Path of the graph in the cache folder, named by a digest of the model and the exporting versions."""
    facts = {"model": state_digest(model), "caloforge": __version__, "torch": package_version("torch")}
    return cache_folder() / "graphs" / f"{digest_json(facts)[:16]}-{kind}.onnx"


def state_digest(model: ShowerModel) -> str:
    """SHA-256 of everything that determines the showers: family, configuration, detector, facts, weights."""
    digest = hashlib.sha256(model.family.encode())
    for part in (model.config, model.detector, model.facts):
        digest.update(part.model_dump_json().encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
