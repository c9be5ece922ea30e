"""Generation by worker processes, here or on a Ray cluster, into one shower file; resumable at any time."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge._version import __version__
from caloforge.campaign.parts import Parts, load_arrays, save_arrays
from caloforge.campaign.pool import BlockSize
from caloforge.campaign.running import (
    Progress,
    Workers,
    check_no_blocks,
    check_workers,
    complete,
    parts_folder,
)
from caloforge.conditions import Conditions
from caloforge.errors import ConfigError, SimulationError
from caloforge.generation.generate import check_output
from caloforge.generation.opening import open_model
from caloforge.generation.plan import Plan, packages_of
from caloforge.models.store import StoredModel
from caloforge.showers import ShowerWriter
from caloforge.showers.writer import chunk_rows

WORKER = "caloforge.generation.worker"
# cells of the largest block, before compression
BLOCK_BYTES = 2**27


@dataclass(frozen=True)
class ChunkBlock:
    """Consecutive generated showers, as compressed chunks of a shower file.

    Attributes:
        start: Index of the first shower in the campaign.
        seconds: Wall time of each shower, shape (N,).
        chunks: Of `caloforge.showers.writer.compressed_chunks`.
    """

    start: int
    seconds: NDArray[np.float32]
    chunks: list[bytes]

    def __len__(self) -> int:
        return len(self.seconds)

    def save(self, folder: Path) -> None:
        """Write the block atomically.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {
            "seconds": self.seconds,
            "sizes": np.array([len(chunk) for chunk in self.chunks], np.int64),
            "chunks": np.frombuffer(b"".join(self.chunks), np.uint8),
        }
        save_arrays(folder, self.start, self.start + len(self), arrays)

    @classmethod
    def load(cls, path: Path) -> ChunkBlock:
        """Read a block; a damaged one is removed, so that it is made again.

        Raises:
            DamagedBlockError: The block is damaged.
            SimulationError: The operating system refuses to read it; nothing is removed.
        """
        start, arrays = load_arrays(path, _is_intact)
        pieces = np.split(arrays["chunks"], np.cumsum(arrays["sizes"])[:-1])
        return cls(start, arrays["seconds"], [piece.tobytes() for piece in pieces])


def _is_intact(arrays: Mapping[str, NDArray[Any]], count: int) -> bool:
    """Whether the arrays of a block fit together."""
    return len(arrays["seconds"]) == count and int(arrays["sizes"].sum()) == len(arrays["chunks"])


def encoded(conditions: Conditions) -> dict[str, Any]:
    """Conditions as JSON document, for the workers."""
    return {
        name: [str(column.dtype), b64encode(np.ascontiguousarray(column).tobytes()).decode()]
        for name, column in vars(conditions).items()
    }


def decoded(document: Mapping[str, Any]) -> Conditions:
    """The conditions of a document that `encoded` has made."""
    return Conditions(
        **{name: np.frombuffer(b64decode(text), kind) for name, (kind, text) in document.items()}
    )


def has_blocks(out: Path) -> bool:
    """Whether an interrupted campaign into an output is there."""
    return any(parts_folder(out).glob("*.npz"))


def discard_blocks(out: Path) -> None:
    """Remove the blocks that a kill has left after the output was finished."""
    if (folder := parts_folder(out)).exists():
        with Parts(folder, {}, 0, restart=True) as parts:
            parts.remove()


def generate_campaign(
    model: StoredModel,
    conditions: Conditions,
    out: Path,
    *,
    seed: int,
    condition_source: Mapping[str, Any],
    total: int,
    first: int = 0,
    plan: Plan,
    provenance: dict[str, Any],
    workers: int | None = None,
    cluster: str | None = None,
    extrapolate: bool = False,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda *_: None,
) -> Path:
    """Generate showers for `conditions` into a shower file, in worker processes.

    Finished blocks lie in `<out>.parts/` until all are there; a kill at any moment loses only the running
    ones. The file is that of `generate_file` with one thread.

    Args:
        model: A trained model.
        conditions: Conditions of the showers.
        out: The shower file.
        seed: Seed of the noise.
        condition_source: Source of the conditions: a file (`like`) or a `beam`.
        total: Showers of the whole campaign.
        first: Number of the first shower, of a part of a campaign.
        plan: How the model runs in each worker; on a CPU, in one thread.
        provenance: Provenance to store in the file.
        workers: Number of workers; the default is one, or one for each core of the cluster.
        cluster: Address of a Ray cluster; by default the workers run here.
        extrapolate: Allow conditions outside the trained range.
        resume: Continue an interrupted campaign.
        force: Replace an existing output, and an interrupted campaign that is not resumed.
        progress: Called with (showers done, all), on a cluster also with a note on its nodes.

    Raises:
        ConfigError: Conditions outside the trained range without `extrapolate`, an impossible plan, or not
            the settings of the campaign to resume.
        ModelError: The model is damaged, or another one on a node.
        OutputError: The file exists without `force`, or the disk is full.
        SimulationError: Workers that keep dying, or a cluster that is lost.
        Interrupted: Ctrl-C or SIGTERM; finished blocks are kept.
    """
    plan = replace(plan, threads=1)
    plan.check()
    if plan.device != "cpu":
        raise ConfigError(f"device {plan.device}: the workers of a cluster generate on CPUs; leave it out")
    check_workers(workers)
    folder, detector = parts_folder(out), model.detector
    check_output(out, detector, len(conditions), force=force)
    check_no_blocks(folder, resume=resume, force=force)
    model.claim.check(conditions, extrapolate=extrapolate)
    # what is wrong is known before any worker starts, and compiled code is in the cache
    open_model(model, plan)
    run_by = ("backend", "precision", "batch_size")
    settings = {
        **condition_source,
        "model": model.digest,
        "seed": seed,
        "n": total,
        "plan": {name: getattr(plan, name) for name in run_by},
        "caloforge": __version__,
    }
    job = {
        "model": str(model.folder.absolute()),
        "model_digest": model.digest,
        "allow_large": model.allow_large,
        "plan": asdict(plan),
        "seed": seed,
        "first": first,
        "conditions": dict(condition_source) if "beam" in condition_source else encoded(conditions),
    }
    # blocks begin where chunks of the file do, and batches of one core
    unit = math.lcm(plan.batch_size, chunk_rows(detector))
    most = BLOCK_BYTES // (4 * math.prod(detector.shower_shape))
    packages = ("numpy", "isal", *(("numba",) if plan.backend == "numba" else ("torch", *packages_of(plan))))
    crew = Workers(WORKER, job, workers, cluster, packages, BlockSize(unit, most), reports="generator")
    with Parts(folder, settings, first + len(conditions), restart=not resume, first=first) as parts:

        def merge(check: Callable[[], None]) -> Path:
            return _merge(parts, model, conditions, out, provenance, check)

        return complete(parts, crew, merge, load=ChunkBlock.load, out=out, verb="generate", progress=progress)


def _merge(
    parts: Parts,
    model: StoredModel,
    conditions: Conditions,
    out: Path,
    provenance: dict[str, Any],
    check: Callable[[], None],
) -> Path:
    """Write the chunks of the blocks, in order, to the shower file."""
    with ShowerWriter(
        # force: whether an existing output may be replaced was decided before
        out,
        model.detector,
        provenance,
        energy_meaning=model.energy_meaning,
        with_seconds=True,
        force=True,
    ) as writer:
        for path in parts.paths():
            block = ChunkBlock.load(path)
            if block.start != parts.first + writer.count:
                raise SimulationError(
                    f"{parts.folder}: shower {parts.first + writer.count} is not there, or twice; run the "
                    "same command with --force"
                )
            own = conditions[writer.count : writer.count + len(block)]
            empty = np.zeros((len(block), 0), np.float32)
            writer.append_chunks(own.with_showers(empty, block.seconds), block.chunks)
            check()
    return out
