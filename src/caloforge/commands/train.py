"""`caloforge train`."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from caloforge.amounts import percent
from caloforge.commands.options import Seed
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.config import to_yaml
from caloforge.errors import DataError, ModelError
from caloforge.files import check_new, write_text
from caloforge.run import RunConfig, load_run, run_file

if TYPE_CHECKING:
    from caloforge.models.base import ShowerModel
    from caloforge.training.processes import Processes

RESOLVED = "resolved.yaml"


def train(
    run: str,
    *,
    data: Path,
    out: Annotated[Path, Parameter(name=["-o", "--out"])],
    seed: Seed | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    start: str | Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    progress: bool = True,
) -> Outcome:
    """Train a model on a shower file.

    Args:
        run: A run.yaml, or the name of a recipe.
        data: The shower file to learn from.
        out: The run directory to make.
        seed: Seed; the default is the one of the run.
        resume: Continue an interrupted training from its last checkpoint; begin where there is none yet.
        force: Train anew in an existing run directory.
        start: Begin with the weights of this model, of the same network, instead of random ones.
        set_: Change a setting of the run: KEY=VALUE, repeatable.
        progress: Show progress.
    """
    config = load_run(run, set_ or [])
    out, data = Path(out), Path(data)
    seed = config.seed if seed is None else seed

    from caloforge.models.registry import create_model
    from caloforge.training.loop import train_model
    from caloforge.training.processes import Processes

    with Processes(config.training.distribution.timeout_seconds) as processes:
        # what a launcher starts anew after a failure goes on by itself
        again = resume or processes.again
        resume = again and processes.from_first(_has_checkpoint(out))
        # a job script may always say --resume: an earlier try may have ended before its first checkpoint
        begun = again and processes.from_first((out / RESOLVED).is_file())
        if not resume and not begun:
            hint = "--resume to continue it, --force to train anew"
            processes.first_does(lambda: check_new(out, force=force, hint=hint))
        near = _near(config, data, processes)
        if not resume:
            processes.first_does(lambda: _begin(run, config, out))
        model = create_model(config.model, near, seed=seed)
        if start is not None and not resume:
            _take_weights(model, start)
        with Meter("train", 1, "steps", enabled=progress and processes.first) as meter:
            result = train_model(
                model,
                data,
                config.training,
                out,
                seed=seed,
                resume=resume,
                progress=meter.update,
                processes=processes,
            )
        if processes.first and resume:
            # only now is it known to be the same run, if with another number of epochs
            _record(run, config, out)
        first = processes.first
    done = f"trained {result.steps} steps" if result.steps else "fitted"
    text = f"{done}; best figure of merit {result.best:.4g}; model in {out / 'model'}"
    if result.steps:
        text += f"\nwaited for showers {percent(result.seconds.waiting)} of the time"
        if processes.ranks > 1:
            share = result.seconds.communication / result.seconds.total
            text += f", for other processes {percent(share)}"
    return Outcome(
        text if first else "",
        run_dir=out,
        model=out / "model",
        steps=result.steps,
        best=result.best,
        seconds=asdict(result.seconds),
    )


def _near(config: RunConfig, data: Path, processes: "Processes") -> Path:
    """The shower file, or its copy on this machine; of the detector of the run."""
    from caloforge.showers import ShowerFile
    from caloforge.training.cache import local_copy

    near = local_copy(data, config.training.cache, processes)
    with ShowerFile(near) as file:
        if file.detector.geometry_digest != config.detector.geometry_digest:
            raise DataError(
                f"{data}: its detector is {file.detector.name} {file.detector.shower_shape}, "
                f"the run describes {config.detector.name} {config.detector.shower_shape}; "
                "use the run the data were made with"
            )
    return near


def _begin(run: str, config: RunConfig, out: Path) -> None:
    _forget(out)
    _record(run, config, out)


def _take_weights(model: "ShowerModel", start: str | Path) -> None:
    """Give a model the weights of a trained one.

    Raises:
        ModelError: There is no such model, or its network is another.
    """
    from caloforge.models.store import load_model

    try:
        model.load_state_dict(load_model(start).state_dict())
    except RuntimeError as error:
        raise ModelError(f"{start}: not a model of the network of this run ({error})") from error


def _has_checkpoint(out: Path) -> bool:
    from caloforge.training.checkpoint import checkpoints

    return bool(checkpoints(out / "checkpoints"))


def _record(run: str, config: RunConfig, out: Path) -> None:
    """Keep the run as it was given and as it was understood."""
    write_text(check_new(out / RESOLVED, force=True), to_yaml(config))
    if file := run_file(run):
        write_text(out / "run.yaml", file.read_text(encoding="utf-8"))


def _forget(out: Path) -> None:
    """Remove what an earlier training left, or its checkpoints would be taken for those of this one."""
    if not (out / RESOLVED).is_file():
        return
    for name in ("checkpoints", "model"):
        shutil.rmtree(out / name, ignore_errors=True)
