"""`caloforge demo`: the whole workflow on a small scale, in minutes."""

import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from caloforge.commands.options import FilePath, ShortSeed, Showers, Workers
from caloforge.commands.outcome import Outcome
from caloforge.errors import ConfigError, OutputError
from caloforge.files import check_new, write_text
from caloforge.number_format import duration, plain
from caloforge.output import write_line
from caloforge.run import load_run, recipe_text
from caloforge.run_directory import RUN

RECIPE = "demo"
# the released model that is validated as well, which is also the name of its recipe; the smallest number of
# showers that can be validated, with a log-flat spectrum, since high energies are slow
RELEASED = "clic-electron"
RELEASED_SHOWERS = 120
RELEASED_BEAM = ["beam.energy.kind=log-flat"]
# written first into the directory, so that --force never removes anything that is not a demo
MARKER = ".caloforge-demo"


def demo(
    *,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])] = Path("demo"),
    train_showers: Showers = 1500,
    test_showers: Showers = 500,
    workers: Workers | None = None,
    seed: ShortSeed = 1,
    force: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Simulate, train, generate and validate on a small scale, and print where the reports are.

    A released model is validated as well, against new Geant4 showers of its own detector.

    Args:
        out: Output directory.
        train_showers: Geant4 showers to train on.
        test_showers: Further Geant4 showers to validate with.
        workers: Processes of the simulation; the default is one per core.
        seed: Seed of all random numbers.
        force: Replace the directory of an earlier demo.
        progress: Show progress.
    """
    from caloforge.commands.generate import generate
    from caloforge.commands.simulate import simulate
    from caloforge.commands.train import train
    from caloforge.commands.validate import validate
    from caloforge.models.released import released_models

    start = time.perf_counter()
    _check_numbers(train_showers, test_showers)
    # before an earlier demo is removed
    _check_geant4()
    out = _new_directory(Path(out), force)
    run = out / RUN
    write_text(run, recipe_text(RECIPE))
    workers = workers or len(os.sched_getaffinity(0))
    released = RELEASED in released_models()
    steps = _Steps(8 if released else 5)

    steps.begin(f"simulate {train_showers} showers to train on, with Geant4")
    simulate(str(run), n=train_showers, out=out / "train.h5", workers=workers, seed=seed, progress=progress)
    steps.begin(f"simulate {test_showers} further showers to validate with")
    simulate(
        str(run), n=test_showers, out=out / "truth.h5", workers=workers, seed=seed + 1, progress=progress
    )
    steps.begin("train a compact 3DGAN")
    train(str(run), data=out / "train.h5", out=out / "model", seed=seed, progress=progress)
    steps.begin("generate the same showers with the network")
    generate(out / "model", out=out / "generated.h5", like=out / "truth.h5", seed=seed, progress=progress)
    steps.begin("compare them with Geant4")
    result = validate(out / "truth.h5", out / "generated.h5", out=out / "report", seed=seed)

    shown = _validate_released(out, steps, workers, seed, progress) if released else {}

    speed = _speed_up(out / "truth.h5", out / "generated.h5")
    seconds = time.perf_counter() - start
    text = (
        f"\ndone in {duration(seconds)}. On this machine the network makes a shower {plain(speed)} times "
        f"faster than Geant4.\nIt is a compact 3DGAN, fitted to {train_showers} showers and trained for "
        f"about a minute. Against {test_showers} further Geant4 showers:\n{_verdict(result)}"
    )
    if shown:
        text += (
            f"\nThe released model {RELEASED} makes a shower {plain(shown['speed_up'])} times faster than "
            f"Geant4. Against {RELEASED_SHOWERS} Geant4 showers:\n{shown['text']}"
        )
    return Outcome(
        text,
        report=result["report"],
        verdict=result["verdict"],
        passed=result["passed"],
        seconds=seconds,
        speed_up=speed,
        released=shown,
    )


def _check_geant4() -> None:
    """Check that Geant4 starts for the detector of the demo.

    Raises:
        SimulationError, MissingDependencyError: It does not, or is not installed.
    """
    from caloforge.fullsim.campaign import preflight

    config = load_run(RECIPE)
    preflight(config.detector, config.beam, config.fullsim)


def _check_numbers(train_showers: int, test_showers: int) -> None:
    """Refuse numbers of showers that a later step would not take."""
    from caloforge.training.data_split import min_showers
    from caloforge.validation.conditions import MIN_SHOWERS

    fewest = min_showers(load_run(RECIPE).training)
    if train_showers < fewest:
        raise ConfigError(f"--train-showers: got {train_showers}, expected at least {fewest} to train on")
    if test_showers < MIN_SHOWERS:
        raise ConfigError(f"--test-showers: got {test_showers}, expected at least {MIN_SHOWERS} to compare")


def _validate_released(out: Path, steps: "_Steps", workers: int, seed: int, progress: bool) -> dict[str, Any]:
    """Validate the released model on new showers of its own detector: report, verdict and speed."""
    from caloforge.commands.generate import generate
    from caloforge.commands.simulate import simulate
    from caloforge.commands.validate import validate

    truth, fast = out / f"{RELEASED}-truth.h5", out / f"{RELEASED}.h5"
    steps.begin(f"simulate {RELEASED_SHOWERS} showers of {RELEASED}, 10 to 500 GeV")
    simulate(
        RELEASED,
        n=RELEASED_SHOWERS,
        out=truth,
        workers=workers,
        seed=seed + 2,
        set_=RELEASED_BEAM,
        progress=progress,
    )
    steps.begin(f"generate the same showers with the released model {RELEASED}")
    # the backend that `auto` selects for more showers
    generate(Path(RELEASED), out=fast, like=truth, seed=seed, backend="numba", progress=progress)
    steps.begin("compare them with Geant4")
    result = validate(truth, fast, out=out / f"{RELEASED}-report", seed=seed)
    return {
        "report": result["report"],
        "verdict": result["verdict"],
        "passed": result["passed"],
        "speed_up": _speed_up(truth, fast),
        "text": _verdict(result),
    }


def _verdict(result: Outcome) -> str:
    """The verdict of each generator, and the path of the report."""
    lines = [f"{name}: {entry['sentence']}" for name, entry in result["generators"].items()]
    return "\n".join([*lines, str(result["report"])])


class _Steps:
    """Prints numbered steps to standard error."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0

    def begin(self, what: str) -> None:
        self.number += 1
        write_line(f"{self.number}/{self.total} {what}")


def _new_directory(out: Path, force: bool) -> Path:
    if out.exists() and force:
        if not (out / MARKER).is_file():
            raise OutputError(
                f"{out} was not made by the demo, so --force does not remove it; choose another"
            )
        shutil.rmtree(out)
    check_new(out)
    out.mkdir()
    write_text(out / MARKER, "made by caloforge demo; --force removes this directory\n")
    return out


def _speed_up(truth: Path, generated: Path) -> float:
    """Median time of a Geant4 shower over that of a generated one, from the recorded wall times."""
    import numpy as np

    from caloforge.showers import ShowerFile

    with ShowerFile(truth) as full, ShowerFile(generated) as fast:
        return float(np.median(full.column("seconds")) / np.median(fast.column("seconds")))
