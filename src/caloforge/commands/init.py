"""`caloforge init` and `caloforge list`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.outcome import Outcome
from caloforge.files import check_new, write_text
from caloforge.geometry import load_detector, preset_names
from caloforge.run import recipe_names, recipe_text


def init(
    preset: str,
    *,
    out: Annotated[Path, Parameter(name=["-o", "--out"])] = Path("run.yaml"),
    force: Annotated[bool, Parameter(negative=())] = False,
) -> Outcome:
    """Write a complete, commented run.yaml to start from.

    Args:
        preset: A recipe or a detector preset; see `caloforge list`.
        out: The file to write.
        force: Replace an existing file.
    """
    text = recipe_text(preset)
    out = check_new(Path(out), force=force)
    write_text(out, text)
    return Outcome(f"{out} written; next: caloforge check {out}", path=out)


def list_() -> Outcome:
    """Show the recipes, detectors, models, particles, physics and file formats that exist."""
    from caloforge.beam import PARTICLES
    from caloforge.fullsim.config import PHYSICS
    from caloforge.models.registry import list_models

    detectors = {name: load_detector(name).description for name in preset_names()}
    facts = {
        "recipes": recipe_names(),
        "detectors": detectors,
        "models": list_models(),
        "particles": list(PARTICLES),
        "physics": list(PHYSICS),
        "formats": ["3dgan", "calochallenge"],
    }
    lines = ["recipes", *(f"  {name}" for name in recipe_names())]
    lines += ["detectors", *(f"  {name:<14} {text}" for name, text in detectors.items())]
    lines += ["models", *(f"  {family}: {', '.join(names)}" for family, names in list_models().items())]
    lines += [f"particles  {', '.join(PARTICLES)}", f"physics    {', '.join(PHYSICS)}"]
    lines += ["formats    3dgan, calochallenge"]
    return Outcome("\n".join(lines), **facts)
