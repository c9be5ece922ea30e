"""`caloforge simulate-events`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from caloforge.commands.options import FilePath, Seed, Workers
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.errors import ConfigError


def simulate_events(
    events: FilePath,
    *,
    detector: Annotated[str, Parameter(name=["-d", "--detector"])],
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    fast: str | None = None,
    threshold: str | None = None,
    acceptance: str | None = None,
    distance: str = "1.5 m",
    facing: Literal["x", "y", "z", "-x", "-y", "-z"] = "x",
    field: str = "0 T",
    contributions: Literal["none", "particle", "full"] = "particle",
    workers: Annotated[Workers | None, Parameter(name=["--workers", "-w"])] = None,
    cluster: str | None = None,
    seed: Seed = 0,
    resume: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    progress: bool = True,
) -> Outcome:
    """Simulate the hits that generated events leave in a calorimeter.

    Args:
        events: A HepMC 2 or 3 file (ASCII, plain or gzip), or an EDM4hep file with MCParticles.
        detector: The calorimeter: a preset, or a YAML file.
        out: The file to write: .root (a flat tree) or .h5.
        fast: A model that takes particles at the front face from Geant4; see `caloforge simulate`.
        threshold: Lowest kinetic energy that the model takes; the default is its lowest trained energy.
        acceptance: How far directions that the model takes may lie outside of its trained range; the default
            is 1 deg.
        distance: Distance of the front face from the origin of the events.
        facing: Axis of the events along which the calorimeter lies; the beam is z.
        field: Magnetic field along the beam, between the vertices and the face; the calorimeter has none.
        contributions: What each particle contributes to each hit: "particle" (one sum), "full" (each step of
            Geant4), or "none" for smaller files.
        workers: Processes; one per core is best. The default is 1, on a cluster one for each of its cores.
            The hits do not depend on it.
        cluster: A Ray cluster that simulates on all its nodes, such as auto or ray://head:10001; they must
            see the file of events.
        seed: Seed.
        resume: Continue an interrupted simulation of the same events and settings.
        force: Replace an existing output.
        set_: Change a setting: KEY=VALUE with keys of `detector` and `fullsim`, repeatable.
        progress: Show progress.
    """
    from caloforge.config import apply_overrides, build
    from caloforge.fastsim.config import FastSimConfig
    from caloforge.fastsim.events import ledger
    from caloforge.fastsim.events.campaign import simulate_events as run
    from caloforge.fastsim.events.transport import Face
    from caloforge.fullsim.config import FullSimConfig
    from caloforge.geometry import Detector, detector_document
    from caloforge.models.store import read_model
    from caloforge.units import parse_field, parse_length

    given = {"threshold": threshold, "acceptance": acceptance}
    given = {key: value for key, value in given.items() if value is not None}
    if fast is None and given:
        raise ConfigError("--threshold and --acceptance say which particles a model takes: give --fast MODEL")
    described, origin = detector_document(detector)
    document: dict[str, Any] = apply_overrides({"detector": described, "fullsim": {}}, set_ or [])
    if unknown := sorted(document.keys() - {"detector", "fullsim"}):
        raise ConfigError(f"--set: unknown setting {unknown[0]}; expected one of detector or fullsim")
    chosen = build(Detector, document["detector"], origin)
    away = parse_length(distance)
    if not 0 <= away <= 1e5:
        raise ConfigError(f"--distance: got {distance}, expected 0 mm to 100 m")
    tesla = parse_field(field)
    if not abs(tesla) <= 100:
        raise ConfigError(f"--field: got {field}, expected -100 T to 100 T")
    with Meter("simulate-events", 0, "events", enabled=progress) as meter:
        totals = run(
            Path(events),
            chosen,
            Face(facing, away, chosen.width, tesla),
            build(FullSimConfig, document["fullsim"], "fullsim"),
            Path(out),
            model=None if fast is None else read_model(fast),
            fast=build(FastSimConfig, given, "--fast"),
            contributions=contributions,
            workers=workers,
            cluster=cluster,
            seed=seed,
            resume=resume,
            force=force,
            progress=meter.update,
        )
    lines = [f"{totals['events']} events in {out}", *ledger.lines(totals)]
    return Outcome("\n".join(lines), path=Path(out), seed=seed, **totals)
