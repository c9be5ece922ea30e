"""Wall time of a full-simulation shower, measured on a sample stratified in energy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.campaign.pool import Pool
from caloforge.fullsim.blocks import Block
from caloforge.fullsim.campaign import WORKER
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector, Mesh
from caloforge.showers import ShowerBatch

# draws per stratum: the mean energy of the sample is that of the beam to 0.3 %
DRAWS = 1000


def stratified(beam: BeamConfig, mesh: Mesh, seed: int, count: int) -> NDArray[np.intp]:
    """Showers of a campaign, stratified by energy: a low-variance sample of the beam's spectrum.

    The draws are divided, by energy, into `count` strata of equal probability; each gives its median. For a
    quantity that is nearly linear in the energy, as the time is, their mean is that over the spectrum.

    Args:
        beam: The incident particles.
        mesh: Mesh of the detector.
        seed: Seed of the campaign.
        count: Number of strata and showers.

    Returns:
        Their indices in the campaign, by rising energy, shape (count,).
    """
    energy = sample_conditions(beam, mesh, seed, 0, DRAWS * count).energy
    return np.argsort(energy, kind="stable")[DRAWS // 2 :: DRAWS]


def time_showers(
    detector: Detector,
    beam: BeamConfig,
    fullsim: FullSimConfig,
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> ShowerBatch:
    """Simulate a stratified sample of the beam's spectrum, with the wall time of each shower.

    Starting Geant4, its tables and the first shower of each process, which fills caches, are not counted.

    Args:
        detector: The detector.
        beam: The incident particles.
        fullsim: Settings of Geant4.
        count: Number of showers.
        seed: Seed of the campaign.
        workers: Processes at a time.
        progress: Called with (showers done, count).

    Raises:
        ConfigError: Settings that cannot be simulated.
        SimulationError: Geant4 does not start, or workers keep dying.
        MissingDependencyError: No geant4-pybind, or physics whose data sets are not there.
    """
    chosen = stratified(beam, detector.mesh, seed, count)
    # the slowest first, so that the workers end together; before them one warm-up shower for each
    order = [*range(DRAWS * count, DRAWS * count + workers), *chosen[::-1].tolist()]
    job = {
        "detector": detector.model_dump(mode="json"),
        "beam": beam.model_dump(mode="json"),
        "fullsim": fullsim.model_dump(mode="json"),
        "seed": seed,
    }
    blocks: dict[int, Block] = {}
    with (
        tempfile.TemporaryDirectory(prefix="caloforge-") as name,
        Pool(job, Path(name), workers, WORKER) as pool,
    ):
        for interval, _ in pool.run([(index, index + 1) for index in order]):
            if interval is not None:
                [path] = Path(name).glob(f"{interval[0]:010d}-*.npz")
                blocks[interval[0]] = Block.load(path)
                progress(max(0, len(blocks) - workers), count)
    showers = [_batch(detector, beam, seed, blocks[index]) for index in chosen.tolist()]
    return ShowerBatch.concatenate(showers)


def _batch(detector: Detector, beam: BeamConfig, seed: int, block: Block) -> ShowerBatch:
    conditions = sample_conditions(beam, detector.mesh, seed, block.start, block.start + 1)
    showers = block.dense(block.start, block.start + 1, detector.shower_shape)
    return conditions.with_showers(showers, block.seconds)
