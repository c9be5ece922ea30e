"""Generate showers with a trained model and stream them to a shower file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.errors import ConfigError, DataError
from caloforge.files import check_new, check_space
from caloforge.generation.noise import NoiseStream
from caloforge.models.base import Condition, ShowerModel
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter

Precision = Literal["fp32", "bf16"]
# compressed size over raw size of sparse showers, an upper estimate for the disk check
COMPRESSION = 0.5
# keeps the sampled conditions apart from the noise of the same seed
CONDITION_STREAM = 0x5EED


@dataclass(frozen=True)
class Columns:
    """What is asked of the model for N showers: float32 (N,) MeV, rad, rad and int32 (N,)."""

    energy: NDArray[np.float32]
    theta: NDArray[np.float32]
    phi: NDArray[np.float32]
    pdg_id: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.energy)


def columns_like(path: Path, model: ShowerModel, n: int | None) -> Columns:
    """The conditions of a shower file, in its order.

    Raises:
        DataError: The file has another geometry than the model, or fewer than `n` showers.
    """
    with ShowerFile(path) as truth:
        if truth.detector.geometry_digest != model.detector.geometry_digest:
            raise DataError(
                f"{path}: its detector is {truth.detector.name} {truth.detector.shower_shape}, "
                f"the model was trained for {model.detector.name} {model.detector.shower_shape}; "
                "give a file of that detector"
            )
        if n is not None and n > len(truth):
            raise DataError(f"{path}: holds {len(truth)} showers, {n} were asked for; give a smaller -n")
        names = ("incident_energy", "incident_theta", "incident_phi", "pdg_id")
        return Columns(*(truth.column(name)[:n] for name in names))


def columns_sampled(beam: BeamConfig, seed: int, n: int) -> Columns:
    """Conditions drawn from a beam description; shower i depends only on (seed, i)."""
    drawn = sample_conditions(beam, seed ^ CONDITION_STREAM, 0, n)
    return Columns(drawn.energy, drawn.theta, drawn.phi, drawn.pdg_id)


def stream(
    model: ShowerModel,
    columns: Columns,
    *,
    seed: int,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
) -> Iterator[ShowerBatch]:
    """Yield generated showers in order, `batch_size` at a time, with the wall time of each.

    Shower i is a function of (model, conditions of i, seed, i): the batch size changes it at most by
    float rounding.
    """
    device = torch.device(device)
    model.to(device)
    noise = NoiseStream(seed, model.noise_shape)
    for start in range(0, len(columns), batch_size):
        stop = min(start + batch_size, len(columns))
        begin = time.perf_counter()
        condition = Condition(
            energy=torch.from_numpy(columns.energy[start:stop]),
            theta=torch.from_numpy(columns.theta[start:stop]),
            phi=torch.from_numpy(columns.phi[start:stop]),
            pdg_id=torch.from_numpy(columns.pdg_id[start:stop]),
        ).to(device)
        latent = torch.from_numpy(noise.take(start, stop)).to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            showers = model.generate(condition, latent).float().cpu().numpy()
        seconds = (time.perf_counter() - begin) / (stop - start)
        yield ShowerBatch(
            showers=showers,
            incident_energy=columns.energy[start:stop],
            incident_theta=columns.theta[start:stop],
            incident_phi=columns.phi[start:stop],
            pdg_id=columns.pdg_id[start:stop],
            seconds=np.full(stop - start, seconds, np.float32),
        )


def generate_file(
    model: ShowerModel,
    columns: Columns,
    out: Path,
    *,
    seed: int,
    provenance: dict[str, Any],
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    extrapolate: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate showers for `columns` into a shower file, at constant memory.

    Args:
        model: A trained model.
        columns: Conditions of the showers.
        out: The shower file; appears only when complete.
        seed: Seed of the noise.
        provenance: Facts to store.
        batch_size: Showers a pass.
        device: Where the model runs.
        precision: "bf16" runs the network under autocast.
        extrapolate: Allow conditions outside the trained range.
        force: Replace an existing file.
        progress: Called with (done, total).

    Raises:
        ConfigError: Conditions outside the trained range without `extrapolate`; a bad batch size.
        OutputError: The file exists without `force`, or the disk is full.
    """
    if batch_size < 1:
        raise ConfigError(f"batch size: got {batch_size}, expected at least 1")
    check_new(out, force=force)
    model.ranges.check(
        energy=columns.energy,
        theta=columns.theta,
        phi=columns.phi,
        pdg_id=columns.pdg_id,
        extrapolate=extrapolate,
    )
    size = 4 * int(np.prod(model.detector.shower_shape)) * len(columns)
    check_space(out, int(size * COMPRESSION), f"a file of {len(columns)} showers")
    with ShowerWriter(
        out, model.detector, provenance, energy_meaning=model.energy_meaning, with_seconds=True, force=force
    ) as writer:
        batches = stream(model, columns, seed=seed, batch_size=batch_size, device=device, precision=precision)
        for batch in batches:
            writer.append(batch)
            if progress is not None:
                progress(writer.count, len(columns))
    return out
