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
from caloforge.models.compiled_model import NoiseOf
from caloforge.showers.file import EnergyMeaning

CUDA_BATCH = 2048

Generate = Callable[[Conditions, NoiseOf], NDArray[np.float32]]


@dataclass(frozen=True)
class Plan:
    """Backend and settings with which a model runs.

    Attributes:
        backend: Name of the backend.
        precision: "fp32" (the reference), "bf16" or "int8".
        batch_size: Largest number of showers per pass.
        threads: Number of passes in parallel, each on one core.
        device: "cpu", or a GPU, with torch only.
    """

    backend: str = "torch"
    precision: Precision = "fp32"
    batch_size: int = BUILT_IN["torch"].batch
    threads: int = 1
    device: str = "cpu"

    def check(self) -> None:
        """Check that the plan can be executed on this machine.

        Raises:
            ConfigError: The backend does not exist, or does not support the precision or the device.
            MissingDependencyError: A package is not installed; with the command to install it.
            PluginError: The backend comes from a package that cannot be used.
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
        # before the search for a GPU, which such a backend could not use
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
    """Names of the optional packages that a plan needs."""
    backend = BACKENDS.get(plan.backend, "backend")
    writer = WRITER if backend.open else ()
    quantiser = ("onnxruntime",) if plan.precision == "int8" else ()
    return tuple(dict.fromkeys(writer + backend.packages + quantiser))


@dataclass(frozen=True)
class LoadedModel:
    """A model loaded on a backend.

    Attributes:
        plan: Backend and settings.
        detector: Detector of the showers.
        energy_meaning: Meaning of the energy of a voxel.
        noise_shape: Shape of the noise of one shower.
        worker: Called once in each thread; returns a function from conditions and noise to showers
            (N, *shower_shape) in MeV.
    """

    plan: Plan
    detector: Detector
    energy_meaning: EnergyMeaning
    noise_shape: tuple[int, ...]
    worker: Callable[[], Generate]
