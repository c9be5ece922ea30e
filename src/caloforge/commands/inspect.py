"""`caloforge inspect`."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from caloforge.commands.options import FilePath
from caloforge.commands.outcome import Outcome
from caloforge.errors import ConfigError, ModelError, OutputError, nearest
from caloforge.files import check_writable, replacing
from caloforge.geometry import load_detector, preset_names
from caloforge.names import shipped_name
from caloforge.run import load_run, recipe_names
from caloforge.run_directory import METRICS


def inspect(
    what: str,
    *more: FilePath,
    out: Annotated[FilePath | None, Parameter(name=["-o", "--out"])] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
) -> Outcome:
    """Show what a detector, a shower file (or several), a run or a model holds.

    Args:
        what: A detector preset or YAML, a run.yaml, a shower file, a run directory, a model directory, or the
            name of a released model. A pattern such as `train-*.h5` names several shower files.
        more: Further shower files, read with the first as one.
        out: Directory for figures; none are drawn without it.
        set_: For detectors and runs: change a setting, KEY=VALUE, repeatable.
    """
    from caloforge.models.released import released_models

    path, draw = Path(what), out is not None
    shown = None
    if more:
        # not above: it imports h5py, which detectors do not need
        from caloforge.showers.file_pattern import joined_path

        facts, figures = _showers(joined_path([what, *more]), draw)
    elif shipped_name(what, released_models(), "released model"):
        facts, shown, figures = _model(what, draw)
    elif shipped_name(what, preset_names(), "detector") or shipped_name(what, recipe_names(), "recipe"):
        facts, figures = _detector(what, set_ or [], draw)
    elif path.is_dir():
        facts, shown, figures = _model(what, draw)
    elif path.suffix in (".h5", ".hdf5") or (path.is_file() and path.suffix not in (".yaml", ".yml")):
        facts, figures = _showers(path, draw)
    else:
        facts, figures = _detector(what, set_ or [], draw)
    text = _lines(shown or facts)
    if out is not None:
        facts["pictures"] = [_save(figure, Path(out) / f"{name}.png") for name, figure in figures.items()]
        text += "".join(f"\npicture: {picture}" for picture in facts["pictures"])
    return Outcome(text, **facts)


def _save(figure: Any, target: Path) -> Path:
    check_writable(target)
    try:
        with replacing(target) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
    except OutputError:
        # do not leave an empty folder behind
        with contextlib.suppress(OSError):
            target.parent.rmdir()
        raise
    return target


def _detector(what: str, overrides: list[str], draw: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    from caloforge.config import read_yaml
    from caloforge.geometry.pictures import cross_section
    from caloforge.geometry.summary import describe_detector
    from caloforge.models.released import released_models

    is_file = what.endswith((".yaml", ".yml"))
    if (is_file and "detector" in read_yaml(what)) or (not is_file and what in recipe_names()):
        detector = load_run(what, overrides).detector
    elif is_file or what in preset_names():
        detector = load_detector(what, tuple(overrides))
    else:
        hint = nearest(what, [*preset_names(), *recipe_names(), *released_models()])
        raise ConfigError(f"{what}: no such file, detector preset, recipe or model. {hint}")
    return describe_detector(detector), {"detector": cross_section(detector)} if draw else {}


def _showers(path: Path, draw: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    from caloforge.showers import ShowerFile
    from caloforge.showers.summary import describe_showers, scan_showers

    scan = scan_showers(path)
    facts = describe_showers(path, scan)
    if not draw:
        return facts, {}
    from caloforge.showers.pictures import energy_overview, mean_shower, single_shower

    with ShowerFile(path) as file:
        batch, detector = file.read(0, 500), file.detector
    figures = {
        "mean_shower": mean_shower(batch, detector),
        "single_shower": single_shower(batch, 0, detector),
        "energies": energy_overview(path, scan),
    }
    return facts, figures


def _model(what: str, draw: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The card of a model, its entries to show, and the figures."""
    from caloforge.cards import describe_model
    from caloforge.geometry import Detector
    from caloforge.models.store import read_verified_card

    card = read_verified_card(what)
    try:
        shown = describe_model(card)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{what}: its card is incomplete or changed ({error!r}); take another copy"
        ) from error
    if not draw:
        return card, shown, {}
    from caloforge.geometry.pictures import cross_section
    from caloforge.training.pictures import training_curves

    figures = {"detector": cross_section(Detector.from_json(json.dumps(card["detector"]), what))}
    if (history := Path(what) / METRICS).is_file():
        figures["training"] = training_curves(history)
    return card, shown, figures


def _lines(facts: dict[str, Any], indent: int = 0) -> str:
    """Facts as aligned text: nested mappings are indented, or a table where their keys are the same."""
    out = []
    width = max((len(str(key)) for key in facts), default=0)
    pad = " " * indent
    for key, value in facts.items():
        if isinstance(value, dict) and _is_table(value):
            out += [f"{pad}{key}:", *(f"{pad}  {line}" for line in _table(value))]
        elif isinstance(value, dict) and value and not _is_flat(value):
            out += [f"{pad}{key}:", _lines(value, indent + 2)]
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            out += [f"{pad}{key}:", *(f"{pad}  {item}" for item in value)]
        elif value not in ("", {}):
            out.append(f"{pad}{key!s:<{width}}  {_short(value)}")
    return "\n".join(out)


def _is_flat(value: dict[str, Any]) -> bool:
    return len(value) <= 4 and all(isinstance(item, int | float) for item in value.values())


def _is_table(value: dict[str, Any]) -> bool:
    """Whether all values are mappings with the same keys and plain values."""
    rows = list(value.values())
    if len(rows) < 2 or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        return False
    return not any(isinstance(item, dict | list) for row in rows for item in row.values())


def _table(value: dict[str, Any]) -> list[str]:
    heads = list(next(iter(value.values())))
    rows = [["", *heads]] + [[name, *(_short(row[head]) for head in heads)] for name, row in value.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads) + 1)]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        # an interval of one value is written as the value
        alike = "min" in value and len(set(value.values())) == 1
        items = {"": value["min"]} if alike else value
        return ", ".join(f"{key} {_short(item)}".strip() for key, item in items.items())
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 160 else text[:157] + "..."
