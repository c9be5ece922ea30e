"""`caloforge simulate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.options import FilePath, Seed, Showers, Workers
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.run import load_run


def simulate(
    run: str,
    *,
    n: Annotated[Showers, Parameter(name=["-n", "--n"])],
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    workers: Annotated[Workers, Parameter(name=["--workers", "-w"])] = 1,
    seed: Seed | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    progress: bool = True,
) -> Outcome:
    """Simulate showers with Geant4.

    Args:
        run: A run.yaml, or the name of a recipe.
        n: Number of showers.
        out: The shower file to write.
        workers: Processes; one per core is best. The showers do not depend on it.
        seed: Seed; the default is the one of the run.
        resume: Continue an interrupted simulation of the same run, seed and number; a finished one
            is left unchanged, so that batch jobs can always set it.
        force: Replace an existing output.
        set_: Change a setting of the run: KEY=VALUE, repeatable.
        progress: Show progress.
    """
    from caloforge.fullsim.campaign import run_campaign
    from caloforge.validation.conditions import MIN_SHOWERS

    config = load_run(run, set_ or [])
    out = Path(out)
    seed = config.seed if seed is None else seed
    notes: list[str] = []
    with Meter("simulate", n, enabled=progress) as meter:
        path = run_campaign(
            config.detector,
            config.beam,
            config.fullsim,
            n,
            out,
            workers=workers,
            seed=seed,
            resume=resume,
            force=force,
            progress=lambda done, total, *_: meter.update(done, total),
            say=notes.append,
        )
    if n < MIN_SHOWERS:
        notes.append(f"{n} showers cannot be validated, which takes {MIN_SHOWERS} or more")
    lines = [f"{n} showers of {config.detector.name} in {path}", *(f"note: {note}" for note in notes)]
    return Outcome("\n".join(lines), path=path, n=n, seed=seed, notes=notes)
