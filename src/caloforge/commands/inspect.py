"""`caloforge inspect`."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from caloforge.commands.outcome import Outcome
from caloforge.errors import ConfigError, nearest
from caloforge.files import check_writable, writing
from caloforge.geometry import load_detector, preset_names
from caloforge.run import load_run, recipe_names


def inspect(
    what: str,
    *,
    out: Annotated[Path | None, Parameter(name=["-o", "--out"])] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
) -> Outcome:
    """Show what a detector, a shower file, a run or a model holds.

    Args:
        what: A detector preset or YAML, a run.yaml, a shower file, a run directory or a model directory.
        out: Also draw it: directory for the pictures.
        set_: For detectors and runs: change a setting, KEY=VALUE, repeatable.
    """
    path = Path(what)
    if path.is_dir():
        facts, figures = _model(path)
    elif path.suffix in (".h5", ".hdf5") or (path.is_file() and path.suffix not in (".yaml", ".yml")):
        facts, figures = _showers(path, draw=out is not None)
    else:
        facts, figures = _detector(what, set_ or [])
    lines = [_lines(facts)]
    if out is not None:
        for name, figure in figures.items():
            target = check_writable(Path(out) / f"{name}.png")
            with writing(target):
                figure.savefig(target, dpi=150)
            lines.append(f"picture: {target}")
    return Outcome("\n".join(lines), **facts)


def _detector(what: str, overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    from caloforge.config import read_yaml
    from caloforge.geometry.pictures import cross_section
    from caloforge.geometry.summary import describe_detector

    is_file = what.endswith((".yaml", ".yml"))
    if (is_file and "detector" in read_yaml(what)) or (not is_file and what in recipe_names()):
        detector = load_run(what, overrides).detector
    elif is_file or what in preset_names():
        detector = load_detector(what, tuple(overrides))
    else:
        hint = nearest(what, [*preset_names(), *recipe_names()])
        raise ConfigError(f"{what}: no such file, detector preset or recipe. {hint}")
    return describe_detector(detector), {"detector": cross_section(detector)}


def _showers(path: Path, draw: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    from caloforge.showers import ShowerFile
    from caloforge.showers.summary import describe_showers

    facts = describe_showers(path)
    if not draw:
        return facts, {}
    from caloforge.showers.pictures import energy_overview, mean_shower, single_shower

    with ShowerFile(path) as file:
        batch, detector = file.read(0, 500), file.detector
    figures = {
        "mean_shower": mean_shower(batch, detector),
        "single_shower": single_shower(batch, 0, detector),
        "energies": energy_overview(path),
    }
    return facts, figures


def _model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from caloforge.models.store import read_card

    return read_card(path), {}


def _lines(facts: dict[str, Any], indent: int = 0) -> str:
    """Facts as aligned text; nested mappings are indented, long lists shortened."""
    out = []
    width = max((len(str(key)) for key in facts), default=0)
    for key, value in facts.items():
        pad = " " * indent
        if isinstance(value, dict):
            out.append(f"{pad}{key}:")
            out.append(_lines(value, indent + 2))
        else:
            out.append(f"{pad}{key!s:<{width}}  {_short(value)}")
    return "\n".join(out)


def _short(value: Any) -> str:
    text = (
        f"{value:.5g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, default=str)
    )
    return text if len(text) <= 160 else text[:157] + "..."
