"""Execution plan of a model (backend, precision, batch, threads), and a model loaded for it.

Importing this does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError, MissingDependencyError
from caloforge.generation.runtimes import BACKENDS, BUILT_IN, WRITER, Precision
from caloforge.geometry import Detector
from caloforge.models.columns import NoiseOf
from caloforge.showers.file import EnergyMeaning

CUDA_BATCH = 2048

Generate = Callable[[Conditions, NoiseOf], NDArray[np.float32]]


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

    backend: str = "torch"
    precision: Precision = "fp32"
    batch_size: int = BUILT_IN["torch"].batch
    threads: int = 1
    device: str = "cpu"

    def check(self) -> None:
        """Make sure that it can be done here.

        Raises:
            ConfigError: A backend or arithmetic that does not exist, or not together.
            MissingDependencyError: The extra is not installed; with the command.
            PluginError: The backend is of a package that is broken.
        """
        if self.batch_size < 1:
            raise ConfigError(f"batch size: got {self.batch_size}, expected at least 1")
        if self.threads < 1:
            raise ConfigError(f"threads: got {self.threads}, expected at least 1")
        known = BACKENDS.get(self.backend, "backend").precisions
        if self.precision not in known:
            able = [name for name, entry in BACKENDS.usable().items() if self.precision in entry.precisions]
            raise ConfigError(
                f"precision {self.precision}: the backend {self.backend} computes in "
                f"{' and '.join(known)}; for {self.precision} take --backend "
                f"{' or '.join(able)}"
            )
        # before the search for a GPU: another device would not help such a backend
        if self.device != "cpu" and self.backend != "torch":
            raise ConfigError(f"device {self.device}: the backend {self.backend} runs on the CPU; take torch")
        _check_device(self.device)
        missing = [name for name in packages_of(self) if find_spec(name) is None]
        if missing:
            raise MissingDependencyError(
                f"backend {self.backend}: {', '.join(missing)} not installed: pip install 'caloforge[onnx]'"
            )


def _check_device(device: str) -> None:
    """Check that a device is "cpu" or a GPU that torch can use."""
    if device == "cpu":
        return
    if not (found := re.fullmatch(r"cuda(?::([0-9]{1,3}))?", device)):
        raise ConfigError(f"device: got {device!r}, expected cpu, cuda or cuda:NUMBER")
    import torch

    seen = torch.cuda.device_count()
    if int(found[1] or 0) >= seen:
        there = f"{seen} GPUs, counted from 0" if seen else "no GPU"
        raise ConfigError(f"device {device}: torch sees {there} here; take --device cpu")


def packages_of(plan: Plan) -> tuple[str, ...]:
    """The packages of the extra that a plan needs."""
    backend = BACKENDS.get(plan.backend, "backend")
    writer = WRITER if backend.open else ()
    quantiser = ("onnxruntime",) if plan.precision == "int8" else ()
    return tuple(dict.fromkeys(writer + backend.packages + quantiser))


@dataclass(frozen=True)
class Network:
    """A model made ready.

    Attributes:
        plan: How it runs.
        detector: What its showers are made in.
        energy_meaning: What the energy of a voxel means.
        noise_shape: Shape of the noise of one shower.
        worker: Called once in each thread that generates; gives a function that makes showers
            (N, *shower_shape), MeV, of conditions and noise.
    """

    plan: Plan
    detector: Detector
    energy_meaning: EnergyMeaning
    noise_shape: tuple[int, ...]
    worker: Callable[[], Generate]
