"""`caloforge benchmark resources`."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.options import SEVERAL, Count, FilePath, FilePaths, Showers, Whole
from caloforge.commands.outcome import Outcome
from caloforge.commands.progress import Meter
from caloforge.files import replacing, write_text
from caloforge.run import load_run

DEFAULT_SHOWERS = (100, 300, 1000, 3000)


def benchmark_resources(
    run: str,
    *,
    data: Annotated[FilePaths, SEVERAL],
    truth: FilePath,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    showers: Annotated[list[Showers] | None, Parameter(negative=(), consume_multiple=1)] = None,
    seeds: Whole = 3,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    cnn: Annotated[bool, Parameter(negative=())] = False,
    geant4: Count = 20,
    resume: Annotated[bool, Parameter(negative=())] = False,
    progress: bool = True,
) -> Outcome:
    """Measure what training showers and training time give: train, generate and judge at several numbers.

    `--resume` goes on with a study that was killed, or adds trainings: other numbers, seeds or settings.

    Args:
        run: A run.yaml, or the name of a recipe.
        data: The shower file to train on. Several files, or a pattern such as `train-*.h5`, are read as one.
        truth: Shower file of Geant4 that judges; it must not be among the data.
        out: Folder of the study, with resources.json, resources.md and resources.png.
        showers: Numbers of showers to train on; the default is 100 300 1000 3000.
        seeds: Trainings of each number, with other showers and other weights.
        set_: Change a setting of the run, such as the steps of the training: KEY=VALUE, repeatable.
        cnn: Also train the CNN of `validate --neural strong` on the showers of each training: minutes.
        geant4: Showers of Geant4 whose CPU time is measured, for the cost; 0 for none.
        resume: Go on with the study in the folder, or begin it.
        progress: Show progress.
    """
    from caloforge.showers.file_pattern import joined_path

    config = load_run(run, set_ or [])

    from caloforge.timing.resources.pictures import fidelity_figure
    from caloforge.timing.resources.study import Plan, run_study
    from caloforge.timing.resources.tables import markdown_page

    plan = Plan(
        name=config.name,
        detector=config.detector,
        beam=config.beam,
        fullsim=config.fullsim,
        model=config.model,
        training=config.training,
        data=joined_path(data),
        truth=Path(truth),
        showers=tuple(showers or DEFAULT_SHOWERS),
        seeds=seeds,
        settings=tuple(set_ or ()),
        cnn=cnn,
        timed=geant4,
    )
    out = Path(out)
    with Meter("benchmark resources", 1, "trainings", enabled=progress) as meter:
        document = run_study(plan, out, resume=resume, report=meter.update)
    page = markdown_page(document)
    write_text(out / "resources.json", json.dumps(document, indent=1))
    write_text(out / "resources.md", page)
    with replacing(out / "resources.png") as temporary:
        fidelity_figure(document).savefig(temporary, format="png")
    return Outcome(page.rstrip(), path=out, **document)
