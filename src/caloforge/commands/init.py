"""`caloforge init` and `caloforge list`."""

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from caloforge.commands.options import FilePath
from caloforge.commands.outcome import Outcome
from caloforge.errors import ConfigError
from caloforge.files import check_new, write_text
from caloforge.geometry import load_detector, preset_names
from caloforge.run import recipe_names, recipe_text, study_names
from caloforge.run_directory import RUN


def init(
    preset: str | None = None,
    *,
    from_: Annotated[FilePath | None, Parameter(name="--from")] = None,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])] = Path(RUN),
    force: Annotated[bool, Parameter(negative=())] = False,
) -> Outcome:
    """Write a complete, commented run.yaml to start from.

    Args:
        preset: A recipe or a detector preset; see `caloforge list`.
        from_: A shower file instead; the run gets its detector, and a beam with the range of its showers.
        out: The file to write.
        force: Replace an existing file.
    """
    if (preset is None) == (from_ is None):
        raise ConfigError(
            "give a recipe or a detector preset (see caloforge list), or --from FILE for a shower file"
        )
    if from_ is not None:
        from caloforge.commands.run_from_showers import run_from_showers

        text = run_from_showers(Path(from_))
    else:
        text = recipe_text(str(preset))
    out = check_new(Path(out), force=force)
    write_text(out, text)
    data = f" --data {from_}" if from_ is not None else ""
    return Outcome(f"{out} written; next: caloforge check {out}{data}", path=out)


def list_() -> Outcome:
    """List the recipes, detectors, models, studies, particles, physics lists, formats and plug-ins.

    Formats are those of `convert`, targets those of `export`.
    """
    from caloforge.beam import PARTICLES
    from caloforge.commands.registries import added_names
    from caloforge.exporting.registry import TARGETS
    from caloforge.foreign_formats import FORMATS
    from caloforge.fullsim.config import PHYSICS
    from caloforge.generation.runtimes import BACKENDS
    from caloforge.models.registry import list_models
    from caloforge.tuning.samplers.config import SAMPLERS

    facts: dict[str, Any] = {
        "recipes": recipe_names(),
        "detectors": {name: load_detector(name).description for name in preset_names()},
        "models": list_models(),
        "released": _released(),
        "libraries": _libraries(),
        "studies": study_names(),
        "particles": list(PARTICLES),
        "physics": list(PHYSICS),
        "formats": FORMATS.names(),
        "targets": TARGETS.names(),
        "samplers": SAMPLERS.names(),
        "backends": BACKENDS.names(),
        "plugins": added_names(),
    }
    lines = ["recipes", *(f"  {name}" for name in facts["recipes"])]
    lines += ["detectors", *(f"  {name:<14} {text}" for name, text in facts["detectors"].items())]
    lines += ["models", *(f"  {family:<14} {', '.join(names)}" for family, names in facts["models"].items())]
    if facts["released"]:
        width = max(14, *map(len, facts["released"]))
        lines += [
            "released models",
            *(f"  {name:<{width}} {text}" for name, text in facts["released"].items()),
        ]
    if facts["libraries"]:
        lines += [
            "libraries of showers, for train --from; they generate nothing",
            *(f"  {name:<14} {text}" for name, text in facts["libraries"].items()),
        ]
    lines += ["studies", *(f"  {name}" for name in facts["studies"])]
    for kind in ("particles", "physics", "formats", "samplers", "backends", "targets"):
        lines += [
            kind,
            *textwrap.wrap(", ".join(facts[kind]), 100, initial_indent="  ", subsequent_indent="  "),
        ]
    if facts["plugins"]:
        lines += ["plug-ins", *(f"  {name}: {package}" for name, package in facts["plugins"].items())]
    return Outcome("\n".join(lines), **facts)


def _released() -> dict[str, str]:
    """A one-line description of each released model."""
    from caloforge.models.released import one_line, read_card, released_models

    names = released_models()
    if not names:
        return {}
    return {name: one_line(read_card(name)) for name in names}


def _libraries() -> dict[str, str]:
    """A one-line description of each released library of showers."""
    from caloforge.models.released import LIBRARY, RELEASED, library_line, released_libraries

    cards = {name: (RELEASED / name / LIBRARY).read_text("utf-8") for name in released_libraries()}
    return {name: library_line(json.loads(card)) for name, card in cards.items()}
