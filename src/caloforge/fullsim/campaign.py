"""Simulation campaigns: many showers on several processes, into one shower file, resumable at any time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import provenance
from caloforge.beam import BeamConfig, sample_conditions
from caloforge.campaign.parts import Parts
from caloforge.campaign.pool import Pool
from caloforge.campaign.running import (
    Progress,
    Workers,
    check_no_blocks,
    check_workers,
    complete,
    parts_folder,
)
from caloforge.campaign_part import Part
from caloforge.errors import ConfigError, DataError, OutputError, SimulationError
from caloforge.files import check_named, check_new, check_space
from caloforge.fullsim.beam_placement import check_beam, check_physics
from caloforge.fullsim.blocks import Block, ledger_of, shower_batches
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.em_tables import FORMAT_VERSION as TABLES_VERSION
from caloforge.fullsim.geant4_import import atomic_numbers, check_data, uses_own_tables
from caloforge.geometry import CylindricalMesh, Detector
from caloforge.showers import ShowerFile, ShowerWriter

# version of the simulation; increase it whenever a change gives other showers for the same seed
ALGORITHM = 1
# version for rings and sectors in homogeneous detectors
PLACED_RINGS_ALGORITHM = 2
# disk space per voxel of blocks and compressed file together, rounded up
BYTES_PER_VOXEL = 2
MERGE_BYTES = 2**24
# threads that compress the file
MERGE_THREADS = 8
# the index of a shower is one 32-bit word of its random seeds
MAX_SHOWERS = 2**32 - 2
# distributions that must have one version on all nodes of a cluster
PACKAGES = ("geant4-pybind", "numpy")
WORKER = "caloforge.fullsim.worker"
PREFLIGHT_SHOWERS = 3
# showers whose energies are averaged to estimate the cost of one
PREFLIGHT_SAMPLE = 10_000


@dataclass(frozen=True)
class Simulator:
    """The program that simulates the showers of a campaign.

    Attributes:
        module: What each worker process runs.
        settings: What determines the showers besides detector, beam and Geant4; JSON-compatible.
        job: What else its workers need; JSON-compatible.
        packages: Distributions that are named in the provenance.
        summary: The sums of the ledgers of its blocks, for the provenance.
    """

    module: str = WORKER
    settings: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    summary: Callable[[NDArray[np.float64]], dict[str, Any]] = lambda _: {}


GEANT4 = Simulator()


def run_campaign(
    detector: Detector,
    beam: BeamConfig,
    fullsim: FullSimConfig,
    n: int,
    out: Path | str,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    seed: int = 0,
    part: Part | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], object] = lambda _: None,
    simulator: Simulator = GEANT4,
) -> Path:
    """Simulate showers with Geant4.

    Finished blocks lie in `<out>.parts/` until all are there; a kill at any moment loses only the running
    ones. Shower i depends only on (detector, beam, fullsim, seed, i), never on the number of workers.

    Args:
        detector: The detector.
        beam: The incident particles.
        fullsim: Settings of Geant4.
        n: Number of showers.
        out: The shower file.
        workers: Processes; the default is one, or one for each core of the cluster.
        cluster: Address of a Ray cluster whose nodes simulate; by default this machine does.
        seed: 0 to 2^64 - 1.
        part: Simulate this part of the showers alone.
        resume: Continue an interrupted campaign; it may be given more showers than before. One that is
            finished is left as it is.
        force: Replace an existing output, and an interrupted campaign that is not resumed.
        progress: Called with (showers done, n), on a cluster also with a note on its nodes.
        say: Called with notes to the user.
        simulator: The program that simulates them.

    Returns:
        The path of the finished file.

    Raises:
        ConfigError: Settings that cannot be simulated, or not those of the campaign to resume.
        GeometryError: A detector without layers.
        OutputError: An output that exists, cannot be written, or a disk that is full.
        SimulationError: Workers that keep dying.
        MissingDependencyError: No geant4-pybind, or physics whose data sets are not there.
        Interrupted: Ctrl-C or SIGTERM; finished blocks are kept.
    """
    out = check_named(Path(out))
    _check(detector, beam, fullsim, n, workers, seed)
    settings = {**_settings(detector, beam, fullsim, seed), **simulator.settings}
    folder = parts_folder(out)
    first, last = (0, n) if part is None else part.interval(n)
    if resume and _is_finished(out, settings, (first, last), force=force):
        say("it was finished already, nothing is left to simulate")
        # a kill after the file was renamed leaves the blocks
        if folder.exists():
            with Parts(folder, settings, last, restart=True, first=first) as parts:
                parts.remove()
        return out
    _check_output(out, folder, resume=resume, force=force)
    voxels = (last - first) * int(np.prod(detector.shower_shape))
    check_space(out, BYTES_PER_VOXEL * voxels, f"{last - first} showers")
    job = {**_worker_job(settings), **simulator.job}
    crew = Workers(simulator.module, job, workers, cluster, PACKAGES)
    with Parts(folder, settings, last, restart=not resume, first=first) as parts:
        complete(
            parts,
            crew,
            lambda check: _merge(parts, detector, beam, out, check, _provenance(parts, n, simulator)),
            load=Block.load,
            out=out,
            verb="simulate",
            progress=progress or (lambda *_: None),
            say=say,
        )
    return out


def preflight(detector: Detector, beam: BeamConfig, fullsim: FullSimConfig) -> float:
    """Simulate a few showers in a worker process, to test the settings and estimate the time.

    Returns:
        Estimated wall time of a shower on one core, s.

    Raises:
        CaloforgeError: Any error that a campaign with these settings would raise.
    """
    _check(detector, beam, fullsim, PREFLIGHT_SHOWERS, 1, 0)
    seconds, showers = 0.0, 0
    with tempfile.TemporaryDirectory(prefix="caloforge-") as name:
        folder = Path(name)
        job = _worker_job(_settings(detector, beam, fullsim, 0))
        with Pool(job, folder, 1, WORKER) as pool:
            for interval, facts in pool.run([(0, PREFLIGHT_SHOWERS)]):
                if interval is not None:
                    seconds += facts["seconds"]
                    showers += interval[1] - interval[0]
    per_shower = seconds / showers
    if beam.particle == "mu-":
        return per_shower
    # the time of a shower grows with its energy, and three are too few for the mean energy of the beam
    few, many = (
        float(sample_conditions(beam, detector.mesh, 0, 0, count).energy.mean())
        for count in (showers, PREFLIGHT_SAMPLE)
    )
    return per_shower * many / few


def _check(
    detector: Detector, beam: BeamConfig, fullsim: FullSimConfig, n: int, workers: int | None, seed: int
) -> None:
    if not 1 <= n <= MAX_SHOWERS:
        raise ConfigError(f"n: got {n} showers, expected 1 to {MAX_SHOWERS}")
    check_workers(workers)
    sample_conditions(beam, detector.mesh, seed, 0, 1)
    check_beam(detector, beam)
    # Geant4 aborts the worker without a reason where data sets are missing
    check_data(atomic_numbers(detector), fullsim.is_hadronic, fullsim.needs_full_em)
    check_physics(beam, fullsim)


def _settings(detector: Detector, beam: BeamConfig, fullsim: FullSimConfig, seed: int) -> dict[str, Any]:
    """All settings that determine the showers."""
    placed = detector.is_homogeneous and isinstance(detector.mesh, CylindricalMesh)
    return {
        "detector": _detector_document(detector),
        "beam": beam.model_dump(mode="json"),
        "fullsim": fullsim.model_dump(mode="json"),
        "seed": seed,
        "algorithm": PLACED_RINGS_ALGORITHM if placed else ALGORITHM,
        "geant4_pybind": provenance.package_version("geant4-pybind"),
        "tables": TABLES_VERSION if uses_own_tables() else "G4LEDATA of the user",
    }


def _detector_document(detector: Detector) -> dict[str, Any]:
    return detector.model_dump(mode="json", exclude={"description"})


def _worker_job(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in ("detector", "beam", "fullsim", "seed")}


def _is_finished(out: Path, settings: dict[str, Any], interval: tuple[int, int], *, force: bool) -> bool:
    """Whether the output is the finished file of this campaign."""
    if not out.exists():
        return False
    try:
        with ShowerFile(out) as file:
            count, old = len(file), file.provenance.get("simulation")
            found = tuple(file.provenance.get("interval", (0, count)))
            detector = _detector_document(file.detector)
    except DataError:
        if force:
            return False
        raise
    changes = ["all"]
    if isinstance(old, dict):
        changes = list(provenance.differences({**old, "detector": detector}, settings))
    if not changes and found == interval:
        return True
    if not force:
        what = f" of other settings ({'; '.join(changes[:4])})" if changes else ""
        raise OutputError(
            f"{out} is finished with {count} showers{what}: nothing is left to resume. Choose another "
            "output, or give --force to replace it"
        )
    return False


def _check_output(out: Path, folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse to overwrite an output, or the blocks of an interrupted campaign, without being told to."""
    if out.is_dir():
        raise OutputError(f"{out}: this is a directory, expected the name of a shower file (.h5)")
    check_new(out, force=force, hint="--force to replace it, --resume to keep it where it is this simulation")
    check_no_blocks(folder, resume=resume, force=force)


def _merge(
    parts: Parts,
    detector: Detector,
    beam: BeamConfig,
    out: Path,
    check: Callable[[], None],
    facts: dict[str, Any],
) -> None:
    """Write the blocks, in order, to the shower file."""
    shape = detector.shower_shape
    size = max(1, MERGE_BYTES // (4 * int(np.prod(shape))))
    # force: `_check_output` has decided whether an existing output may be replaced
    with (
        ThreadPoolExecutor(min(MERGE_THREADS, len(os.sched_getaffinity(0)))) as pool,
        ShowerWriter(out, detector, facts, with_seconds=True, force=True, pool=pool) as writer,
    ):
        for start, showers, seconds in shower_batches(parts, size, shape):
            conditions = sample_conditions(
                beam, detector.mesh, parts.settings["seed"], start, start + len(showers)
            )
            writer.append(conditions.with_showers(showers, seconds))
            check()
        if writer.count != parts.count:
            raise SimulationError(
                f"{parts.folder}: {writer.count} of {parts.count} showers are there; run the same command "
                "with --resume"
            )


def _provenance(parts: Parts, n: int, simulator: Simulator) -> dict[str, Any]:
    settings = parts.settings
    fullsim = settings["fullsim"]
    ledger = ledger_of(parts)
    return provenance.collect(
        packages=("geant4-pybind", "xraydb", "numpy", "h5py", *simulator.packages),
        engine=f"Geant4 {parts.facts.get('geant4', '')}".strip(),
        physics=fullsim["physics"],
        production_cut=fullsim["production_cut"],
        cell_threshold=fullsim["cell_threshold"],
        beam=settings["beam"],
        seed=settings["seed"],
        n=n,
        **({} if parts.count == n else {"interval": [parts.first, parts.n]}),
        simulation={key: value for key, value in settings.items() if key != "detector"},
        **({} if ledger is None else simulator.summary(ledger)),
    )
