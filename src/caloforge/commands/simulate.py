"""`caloforge simulate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from caloforge.campaign_part import Part
from caloforge.commands.options import FilePath, Seed, Showers, Workers
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.errors import ConfigError
from caloforge.run import load_run

if TYPE_CHECKING:
    from caloforge.fullsim.campaign import Simulator
    from caloforge.geometry import Detector


def simulate(
    run: str,
    *,
    n: Annotated[Showers, Parameter(name=["-n", "--n"])],
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    workers: Annotated[Workers | None, Parameter(name=["--workers", "-w"])] = None,
    cluster: str | None = None,
    seed: Seed | None = None,
    part: str | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    fast: str | None = None,
    threshold: str | None = None,
    acceptance: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    progress: bool = True,
) -> Outcome:
    """Simulate showers with Geant4; with --fast, a model makes those that it can.

    Args:
        run: A run.yaml, or the name of a recipe.
        n: Number of showers.
        out: The shower file to write.
        workers: Processes; one per core is best. The default is 1, on a cluster one for each of its cores.
            The showers do not depend on it.
        cluster: A Ray cluster that simulates on all its nodes, such as auto or ray://head:10001.
        seed: Seed; the default is the one of the run.
        part: Simulate one of several equal parts alone, such as 3/16, into a file named OUT-3-of-16.h5;
            `caloforge join` makes one file of them.
        resume: Continue an interrupted simulation of the same run, seed and number; a finished one
            is left unchanged, so that batch jobs can always set it.
        force: Replace an existing output.
        fast: A model that takes particles at the front face from Geant4: a run directory, a model directory,
            or the name of a released model; see `caloforge list`.
        threshold: Lowest kinetic energy that the model takes; the default is its lowest trained energy.
        acceptance: How far directions that the model takes may lie outside of its trained range; the default
            is 1 deg.
        set_: Change a setting of the run: KEY=VALUE, repeatable.
        progress: Show progress.
    """
    from caloforge.fullsim.campaign import GEANT4, run_campaign
    from caloforge.validation.conditions import MIN_SHOWERS

    config = load_run(run, set_ or [])
    piece = None if part is None else Part.parse(part)
    out = Path(out) if piece is None else piece.path(Path(out))
    seed = config.seed if seed is None else seed
    notes: list[str] = []
    simulator = GEANT4 if fast is None else _fast(fast, config.detector, threshold, acceptance)
    if fast is None and (threshold, acceptance) != (None, None):
        raise ConfigError("--threshold and --acceptance say which particles a model takes: give --fast MODEL")
    with Meter("simulate", n, enabled=progress) as meter:
        path = run_campaign(
            config.detector,
            config.beam,
            config.fullsim,
            n,
            out,
            workers=workers,
            cluster=cluster,
            seed=seed,
            part=piece,
            resume=resume,
            force=force,
            progress=meter.update,
            say=notes.append,
            simulator=simulator,
        )
    if piece is not None:
        first, last = piece.interval(n)
        n = last - first
    elif n < MIN_SHOWERS:
        notes.append(f"{n} showers cannot be validated, which takes {MIN_SHOWERS} or more")
    routes: dict[str, Any] = {} if fast is None else _routes(path)
    lines = [f"{n} showers of {config.detector.name} in {path}", *(f"note: {note}" for note in notes)]
    return Outcome("\n".join([*lines, *_words(routes)]), path=path, n=n, seed=seed, notes=notes, **routes)


def _fast(model: str, detector: "Detector", threshold: str | None, acceptance: str | None) -> "Simulator":
    """The simulator with a model at the gate."""
    from caloforge.config import build
    from caloforge.fastsim.campaign import simulator_of
    from caloforge.fastsim.config import FastSimConfig
    from caloforge.models.store import read_model

    given = {"threshold": threshold, "acceptance": acceptance}
    config = build(FastSimConfig, {key: value for key, value in given.items() if value is not None}, "--fast")
    return simulator_of(read_model(model), detector, config)


def _routes(path: Path) -> dict[str, Any]:
    """Where the particles went, from the provenance of the file."""
    from caloforge.showers import ShowerFile

    with ShowerFile(path) as file:
        return {"fast_simulation": file.provenance["fast_simulation"]}


def _words(routes: dict[str, Any]) -> list[str]:
    from caloforge.fastsim import ledger

    return ledger.lines(routes["fast_simulation"]) if routes else []
