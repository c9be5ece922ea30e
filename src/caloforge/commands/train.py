"""`caloforge train`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from caloforge.commands.options import SEVERAL, FilePath, FilePaths, Seed
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.config import to_yaml
from caloforge.errors import ConfigError, DataError, ModelError
from caloforge.number_format import percent
from caloforge.run import RunConfig, load_run, run_file
from caloforge.run_directory import MODEL, RESOLVED, RUN
from caloforge.units import format_energy

if TYPE_CHECKING:
    from torch import Tensor

    from caloforge.models.base import ShowerModel
    from caloforge.training.config import EvaluationConfig
    from caloforge.training.loop import TrainingResult
    from caloforge.training.process_group import Communicator

# why a training ended, for the message
ENDS = {
    "epochs": "training.epochs",
    "steps": "training.max_steps",
    "minutes": "training.max_minutes",
    "patience": "training.evaluation.patience",
    "fitted": "the fit",
}


def train(
    run: str,
    *,
    data: Annotated[FilePaths, SEVERAL],
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    seed: Seed | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    start: str | Path | None = None,
    from_: Annotated[str | Path | None, Parameter(name="--from")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    progress: bool = True,
) -> Outcome:
    """Train a model on a shower file, or on several.

    Args:
        run: A run.yaml, or the name of a recipe.
        data: The shower file to train on. Several files, or a pattern such as `train-*.h5`, are read as one.
        out: The run directory to create.
        seed: Seed; the default is the one of the run.
        resume: Continue an interrupted training from its last checkpoint, if there is one.
        force: Replace the training in an existing run directory.
        start: Start from the weights of this model, which has the same network, instead of random ones.
        from_: Start the learned parts from this model of another detector (family layered): mesh, layers and
            materials may differ. Or the name of a library of showers, such as `foundation`: its showers help
            where those of the new detector are few.
        set_: Change a setting of the run: KEY=VALUE, repeatable.
        progress: Show progress.
    """
    from caloforge.showers.file_pattern import joined_path

    if start is not None and from_ is not None:
        raise ConfigError("--start takes all weights of a model, --from what fits another detector; give one")
    config = load_run(run, set_ or [])
    out, data = Path(out), joined_path(data)
    seed = config.seed if seed is None else seed

    from caloforge.models.registry import create_model
    from caloforge.training.directory import RunDirectory
    from caloforge.training.loop import train_model
    from caloforge.training.process_group import Communicator

    with (
        Communicator(config.training.distribution.timeout_seconds) as communicator,
        RunDirectory(out, _record(run, config)) as directory,
    ):
        launched = communicator.world_size > 1 or "TORCHELASTIC_RUN_ID" in os.environ
        # a job that its launcher restarts resumes by itself; a job script may always pass --resume
        restarted = communicator.restarted
        communicator.run_on_main(
            lambda: directory.take(resume=resume, force=force, launched=launched, restarted=restarted)
        )
        resume, directory.replaces = communicator.broadcast_value([directory.resumes, directory.replaces])
        near = _local_data(config, data, communicator)
        claim = config.training.range
        model = create_model(config.model, near, seed=seed, beam=config.beam, claim=claim)
        if start is not None and not resume:
            _load_weights(model, start)
        origin, notes = (None, []) if from_ is None else _transfer(model, from_, resume=resume)
        with Meter("train", 1, "steps", enabled=progress and communicator.is_main) as meter:
            result = train_model(
                model,
                data,
                config.training,
                out,
                near=near,
                seed=seed,
                resume=resume,
                progress=meter.update,
                communicator=communicator,
                directory=directory,
                origin=origin,
            )
        first, world_size = communicator.is_main, communicator.world_size
    lines = [_summary(result, config, out, world_size), *(f"note: {from_}: {note}" for note in notes)]
    return Outcome(
        "\n".join(lines) if first else "",
        run_dir=out,
        model=out / MODEL,
        steps=result.steps,
        best=result.best,
        ended_before=result.ended_before,
        parts=result.parts,
        stalled_at=result.stalled_at,
        seconds=asdict(result.seconds),
    )


def _summary(result: "TrainingResult", config: RunConfig, out: Path, world_size: int) -> str:
    """Summary of a finished training."""
    done = f"trained {result.steps} steps" if result.steps else "fitted"
    figure = f"best figure of merit {result.best:.4g}; model in {out / MODEL}"
    if result.ended_before:
        return f"nothing is left to train ({done}, ended by {ENDS[result.reason]}); {figure}"
    trained, held = (
        f"{part['showers']} showers of {_energies(part['energy'])}" for part in result.parts.values()
    )
    lines = [f"{done}; {figure}", f"trained on {trained}; judged by {held} that were held out"]
    if result.steps and result.batch_size < config.training.batch_size:
        shared = f" for each of {world_size} processes" if world_size > 1 else ""
        lines.append(f"in batches of {result.batch_size}: there are no more showers{shared}")
    if result.steps:
        waited = f"waited for showers {percent(result.seconds.input_fraction)} of the time"
        if world_size > 1:
            waited += f", for other processes {percent(result.seconds.communication / result.seconds.total)}"
        lines.append(waited)
    if result.stalled_at is not None:
        lines.append(_stalled(result.stalled_at, result.steps, config.training.evaluation, out))
    return "\n".join(lines)


def _stalled(best_step: int, steps: int, evaluation: "EvaluationConfig", out: Path) -> str:
    """What to say of a training that has not got better for long."""
    kept = "of that step" if evaluation.keep == "best" else "of the last step"
    early = "" if evaluation.patience else "; training.evaluation.patience ends such a training early"
    return (
        f"note: the training stalled: no better figure of merit since step {best_step} of {steps}. The model "
        f"is the one {kept}. See the curves with caloforge inspect {out} -o pictures; a smaller "
        f"training.optimizer.learning_rate or more showers may help{early}"
    )


def _energies(limits: list[float]) -> str:
    return " to ".join(dict.fromkeys(format_energy(float(f"{value:.3g}")) for value in limits))


def _local_data(config: RunConfig, data: Path, communicator: "Communicator") -> Path:
    """The shower file, or its local copy; checks that it has the detector of the run."""
    from caloforge.showers import ShowerFile
    from caloforge.training.local_copy import local_copy

    near = local_copy(data, config.training.cache, communicator)
    with ShowerFile(near) as file:
        if file.detector.geometry_digest != config.detector.geometry_digest:
            raise DataError(
                f"{data}: its detector is {file.detector.name} {file.detector.shower_shape}, "
                f"the run describes {config.detector.name} {config.detector.shower_shape}; "
                "use the run the data were made with"
            )
    return near


def _load_weights(model: "ShowerModel", start: str | Path) -> None:
    """Load the weights of a trained model into a model.

    Raises:
        ModelError: There is no such model, or it has another network.
    """
    from caloforge.models.store import read_model

    stored = read_model(start)
    if stored.family != model.family:
        raise ModelError(
            f"--start {start}: got a model of the family {stored.family}, expected {model.family}, that "
            "of the run: all weights are taken over"
        )
    given, own = stored.load().state_dict(), model.state_dict()
    try:
        # a family may adapt to the shapes of some tensors
        model.load_state_dict(given)
    except RuntimeError as error:
        shapes = {name: (_shape(own.get(name)), _shape(given.get(name))) for name in {**own, **given}}
        name = next(name for name, (expected, got) in shapes.items() if expected != got)
        expected, got = shapes[name]
        raise ModelError(
            f"--start {start}: it has another network than this run: {name} is {got} there, expected "
            f"{expected}; take a run with its model settings, or leave --start out"
        ) from error


def _shape(tensor: "Tensor | None") -> str:
    return "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"


def _transfer(model: "ShowerModel", source: str | Path, *, resume: bool) -> tuple[dict[str, str], list[str]]:
    """Start a model from one of another detector: the record of that for the model, and notes.

    Raises:
        ModelError: There is no such model, or nothing can be taken over from it.
    """
    from caloforge.models.released import library_folder
    from caloforge.models.store import read_model

    if folder := library_folder(source):
        try:
            return model.start_from_library(folder)
        except ModelError as error:
            raise ModelError(f"--from {source}: {error}") from error
    stored = read_model(source)
    record = {
        "model": stored.folder.parent.name if stored.folder.name == MODEL else stored.folder.name,
        "detector": stored.detector.name,
        "weights_sha256": stored.weights_sha256,
    }
    if resume:
        return record, []
    try:
        return record, model.transfer_from(stored.load())
    except ModelError as error:
        raise ModelError(f"--from {source}: {error}") from error


def _record(run: str, config: RunConfig) -> dict[str, str]:
    """Texts to store in the run directory: the run as given, and with all defaults."""
    texts = {RESOLVED: to_yaml(config)}
    # a pipe, as of <(...), was read to its end already
    if (file := run_file(run)) and file.is_file():
        texts[RUN] = file.read_text(encoding="utf-8")
    return texts
