"""Pictures of a training: losses, their terms and the evaluations against the step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.amounts import duration
from caloforge.errors import DataError
from caloforge.geometry.look import INK, SERIES, new_figure, style
from caloforge.output import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# keys of a line that are no losses
COMMON = {"step", "epoch", "seconds", "learning_rate"}
LINES = ("-", "--", ":")


def training_curves(metrics: Path) -> Figure:
    """Draw the history of a training.

    Args:
        metrics: The `metrics.jsonl` of a run directory.

    Raises:
        DataError: It cannot be read, or holds no step yet.
    """
    rows = _read(metrics)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in COMMON))
    panels = {
        "losses": [name for name in names if name.endswith("_loss")],
        "terms of the losses": [n for n in names if not n.endswith("_loss") and not n.startswith("eval_")],
        "figure of merit, 0 is perfect": [name for name in names if name == "eval_merit"],
        "generated over truth": [name for name in names if name.startswith("eval_") and "ratio" in name],
    }
    figure = new_figure(9.0, 6.2)
    grid = figure.subplots(2, 2, sharex=True)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.895, bottom=0.08, wspace=0.17, hspace=0.2)
    last = rows[-1]
    title = f"{readable(metrics.absolute().parent.name)}: {last['step']} steps, {duration(last['seconds'])}"
    figure.text(0.075, 0.975, title, size=11, weight="bold", color=INK, va="top")
    for axes, (title, shown) in zip(grid.flat, panels.items(), strict=True):
        _draw(axes, rows, shown)
        style(axes, title)
    for axes in grid[1]:
        axes.set_xlabel("step", size=9, color=INK, labelpad=2)
    if panels["generated over truth"]:
        grid[1, 1].axhline(1.0, color=INK, linewidth=0.8)
    return figure


def _draw(axes: Axes, rows: list[dict[str, Any]], names: list[str]) -> None:
    lowest = float("inf")
    for index, name in enumerate(names):
        points = [(row["step"], row[name]) for row in rows if name in row]
        colour, line = SERIES[index % len(SERIES)], LINES[index // len(SERIES) % len(LINES)]
        marker = "o" if name.startswith("eval_") or len(points) < 3 else ""
        axes.plot(
            *zip(*points, strict=True), line, color=colour, linewidth=1.3, marker=marker, markersize=3.5,
            label=name.removeprefix("eval_"),
        )  # fmt: skip
        lowest = min(lowest, *(value for _, value in points))
    if names and lowest > 0 and not names[0].startswith("eval_"):
        axes.set_yscale("log")
    if len(names) > 1:
        if axes.get_yscale() == "log":
            # losses fall: room above them for the legend
            low, high = axes.get_ylim()
            axes.set_ylim(low, high * (high / low) ** 0.4)
        columns = 3 if len(names) > 4 else 2
        axes.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=columns, handlelength=1.5)


def _read(metrics: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        if not all({"step", "seconds"} <= row.keys() for row in rows):
            raise ValueError("a line without a step")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{metrics}: cannot be read as the history of a training ({error})") from error
    if not rows:
        raise DataError(f"{metrics}: the training has not logged a step yet")
    return rows
