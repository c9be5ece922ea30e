"""`caloforge card`."""

import json
from pathlib import Path
from typing import Annotated

from caloforge.commands.options import SEVERAL, FilePath
from caloforge.commands.outcome import Outcome
from caloforge.files import write_text
from caloforge.run_directory import CARD, README


def card(
    model: str | Path,
    *reports: FilePath,
    benchmark: FilePath | None = None,
    data: Annotated[list[FilePath] | None, SEVERAL] = None,
    name: str | None = None,
) -> Outcome:
    """Write the card of a model from the reports of its validations.

    README.md and model.json in the model directory are replaced; the weights stay as they are. Reports must
    validate showers of exactly these weights, against showers that were not trained on.

    Args:
        model: A run directory, a model directory, or the name of a released model.
        reports: Report directories of `caloforge validate`; one for each precision that was validated.
        benchmark: Directory or benchmark.json of a `caloforge benchmark` in which the model was timed.
        data: Shower files it was trained on, where the training did not record them.
        name: What the model is called; the default is the name of its directory.
    """
    from caloforge.cards import card_markdown, collect_card, describe_model
    from caloforge.models.released import model_folder, read_card

    folder = model_folder(model)
    document = collect_card(
        read_card(folder),
        [Path(report) for report in reports],
        benchmark=None if benchmark is None else Path(benchmark),
        data=[Path(file) for file in data or ()],
    )
    name = name or folder.absolute().name
    page = card_markdown(document, name)
    # the page first: model.json says that there is one
    write_text(folder / README, page)
    write_text(folder / CARD, json.dumps(document, indent=1, allow_nan=False))
    verdicts = [report["verdict"] for report in document["card"]["validations"]]
    text = "\n".join([*(f"{name}: {verdict}" for verdict in verdicts), str(folder / README)])
    return Outcome(text, path=folder / README, verdicts=verdicts, summary=describe_model(document))
