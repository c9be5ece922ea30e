"""Campaigns of events: a file of events on several processes, into one file of hits; resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from caloforge import provenance
from caloforge.campaign.parts import Parts
from caloforge.campaign.running import (
    Progress,
    Workers,
    check_no_blocks,
    check_workers,
    complete,
    parts_folder,
)
from caloforge.errors import OutputError, SimulationError
from caloforge.fastsim.campaign import ALGORITHM as FAST_ALGORITHM
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.events.hits import HitBlock
from caloforge.fastsim.events.ledger import summary
from caloforge.fastsim.events.reading import check_events
from caloforge.fastsim.events.transport import Face
from caloforge.fastsim.events.writing import Contributions, check_suffix, write_hits
from caloforge.fastsim.model import FastModel, plan_of
from caloforge.fastsim.plate import plate_of
from caloforge.files import check_named, check_new
from caloforge.fullsim.campaign import PACKAGES
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.em_tables import FORMAT_VERSION as TABLES_VERSION
from caloforge.fullsim.geant4_import import atomic_numbers, check_data, uses_own_tables
from caloforge.geometry import Detector
from caloforge.models.store import StoredModel

# version of the simulation of events; increase it whenever a change gives other hits for the same seed
ALGORITHM = 1
WORKER = "caloforge.fastsim.events.worker"


def simulate_events(
    events: Path,
    detector: Detector,
    face: Face,
    fullsim: FullSimConfig,
    out: Path,
    *,
    model: StoredModel | None = None,
    fast: FastSimConfig | None = None,
    contributions: Contributions = "particle",
    workers: int | None = None,
    cluster: str | None = None,
    seed: int = 0,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Simulate the events of a file.

    Finished blocks lie in `<out>.parts/` until all are there; a kill at any moment loses only the running
    ones. The hits of a particle depend only on the settings, the seed, and the numbers of event and particle.

    Args:
        events: A HepMC or EDM4hep file.
        detector: The calorimeter.
        face: Where it stands.
        fullsim: Settings of Geant4.
        out: The file of hits, .root or .h5.
        model: A model that takes particles at the gate.
        fast: Which particles it takes.
        contributions: Whether the contributions of the particles to each hit are written.
        workers: Processes; the default is one, or one for each core of the cluster.
        cluster: Address of a Ray cluster whose nodes simulate; by default this machine does.
        seed: Seed.
        resume: Continue an interrupted campaign.
        force: Replace an existing output, and an interrupted campaign that is not resumed.
        progress: Called with (events done, events), on a cluster also with a note on its nodes.

    Returns:
        The number of events, and where particles and energy went; see `caloforge.fastsim.events.ledger`.

    Raises:
        ConfigError: Settings that cannot be simulated, or not those of the campaign to resume.
        GeometryError: A detector without a cartesian mesh.
        DataError: A file of events that cannot be used.
        ModelError: A damaged model.
        OutputError: An output that exists, cannot be written, or a disk that is full.
        SimulationError: Workers that keep dying.
        MissingDependencyError: A package or data set that is not there.
        Interrupted: Ctrl-C or SIGTERM; finished blocks are kept.
    """
    check_named(out)
    check_suffix(out)
    check_workers(workers)
    plate = plate_of(detector)
    check_data(atomic_numbers(detector), fullsim.is_hadronic, fullsim.needs_full_em)
    folder = parts_folder(out)
    _check_output(out, folder, resume=resume, force=force)
    settings = _settings(events, detector, face, fullsim, seed)
    if model is not None:
        fast = FastSimConfig() if fast is None else fast
        # what is wrong is known before any worker starts, and compiled code is in the cache
        FastModel(model, detector, fast)
        settings["fast"] = {
            "model_digest": model.digest,
            "config": fast.model_dump(mode="json"),
            "backend": plan_of(model).backend,
            "algorithm": FAST_ALGORITHM,
        }
    settings["steps"] = contributions == "full"
    n = check_events(events)
    job = {
        **settings,
        "events": str(events.absolute()),
        "face": asdict(face),
        "model": None if model is None else str(model.folder.absolute()),
    }
    with Parts(folder, settings, n, restart=not resume) as parts:

        def merge(_check: Callable[[], None]) -> dict[str, Any]:
            totals = _totals(parts)
            write_hits(
                out,
                _blocks(parts),
                detector=detector,
                plate=plate,
                face=face,
                contributions=contributions,
                provenance=_provenance(parts, model, totals),
            )
            return totals

        totals = complete(
            parts,
            Workers(WORKER, job, workers, cluster, PACKAGES),
            merge,
            load=HitBlock.load,
            out=out,
            verb="simulate-events",
            what="events",
            progress=progress,
        )
    return {"events": n, **totals}


def _settings(
    events: Path, detector: Detector, face: Face, fullsim: FullSimConfig, seed: int
) -> dict[str, Any]:
    """All settings that determine the hits."""
    return {
        "events": {"name": events.name, "sha256": provenance.digest_file(events)}
        if events.is_file()
        else None,
        "detector": detector.model_dump(mode="json", exclude={"description"}),
        "face": {"facing": face.facing, "distance": face.distance, "field": face.field},
        "fullsim": fullsim.model_dump(mode="json"),
        "seed": seed,
        "algorithm": ALGORITHM,
        "geant4_pybind": provenance.package_version("geant4-pybind"),
        "tables": TABLES_VERSION if uses_own_tables() else "G4LEDATA of the user",
    }


def _check_output(out: Path, folder: Path, *, resume: bool, force: bool) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: this is a directory, expected the name of a file (.root or .h5)")
    if not (resume and out.exists()):
        check_new(out, force=force)
    elif not folder.exists() and not force:
        raise OutputError(f"{out} is finished: nothing is left to resume; give --force to replace it")
    check_no_blocks(folder, resume=resume, force=force)


def _blocks(parts: Parts) -> Iterator[HitBlock]:
    """The blocks in order, each event once."""
    position = 0
    for path in parts.paths():
        block = HitBlock.load(path)
        if block.start != position:
            raise SimulationError(
                f"{parts.folder}: event {position} is not there, or twice; run the same command with --force"
            )
        position += len(block)
        yield block


def _totals(parts: Parts) -> dict[str, Any]:
    return summary(np.concatenate([block.ledger for block in _blocks(parts)]))


def _provenance(parts: Parts, model: StoredModel | None, totals: dict[str, Any]) -> dict[str, Any]:
    return provenance.collect(
        packages=("geant4-pybind", "xraydb", "numpy", "pyhepmc", "uproot"),
        engine=f"Geant4 {parts.facts.get('geant4', '')}".strip(),
        seed=parts.settings["seed"],
        model=None if model is None else model.folder.name,
        simulation={key: value for key, value in parts.settings.items() if key != "detector"},
        totals=totals,
    )
