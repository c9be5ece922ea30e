"""Training curves: losses, their terms and evaluations against the step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import DataError
from caloforge.files import read_regular
from caloforge.geometry.plot_style import INK, SERIES, new_figure, style
from caloforge.number_format import duration
from caloforge.output import readable
from caloforge.training.logged_values import COMMON, GAP, is_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES, TERMS, GAPS = "losses", "terms of the losses", "gaps between generated and real showers"
FIGURE_OF_MERIT, RATIOS = "figure of merit, 0 is perfect", "generated over truth"
# columns without a curve
NO_CURVES = (*COMMON, "learning_rate")
LINES = ("-", "--", ":")
# a panel whose values span more than this factor gets a logarithmic axis
DECADE = 10.0
WIDTH, PANEL_HEIGHT = 12.0, 3.0
# more than weeks of training log
MAX_BYTES = 2**28
LARGEST = 1e300


def training_curves(metrics: Path) -> Figure:
    """Draw the training curves, with a panel for each kind of value and legends beside the panels.

    Args:
        metrics: The `metrics.jsonl` of a run directory.

    Raises:
        DataError: It cannot be read, or has no line yet.
    """
    rows = _read(metrics)
    panels = _panels(rows)
    if not panels:
        raise DataError(f"{metrics}: there is nothing to draw in this history of a training")
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    height = 0.75 + PANEL_HEIGHT * lines
    figure = new_figure(WIDTH, height)
    grid = figure.subplots(lines, columns, squeeze=False)
    # the legends of both columns lie in the free space to the right of their axes
    figure.subplots_adjust(
        left=0.055, right=0.86, top=1 - 0.75 / height, bottom=0.5 / height, wspace=0.44, hspace=0.32
    )
    last = rows[-1]
    done = f"{last['step']} steps, {duration(last['seconds'])}" if last["step"] else "fitted"
    title = f"{readable(metrics.absolute().parent.name)}: {done}"
    figure.text(0.055, 1 - 0.15 / height, title, size=11, weight="bold", color=INK, va="top")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, names) in zip(grid.flat, panels.items(), strict=False):
        style(axes, title, x="step")
        _draw(axes, rows, names)
    return figure


def _panels(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of the values in each panel, by title; panels without values are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in NO_CURVES))
    names = [name for name in names if not name.startswith("seconds_")]
    panels: dict[str, list[str]] = {
        LOSSES: [],
        GAPS: [],
        TERMS: [],
        FIGURE_OF_MERIT: [],
        RATIOS: [],
    }
    for name in names:
        if name == "eval_merit":
            panel = FIGURE_OF_MERIT
        elif name.startswith("eval_"):
            panel = RATIOS
        elif is_loss(name):
            panel = LOSSES
        elif name.startswith(GAP):
            panel = GAPS
        else:
            panel = TERMS
        panels[panel].append(name)
    return {title: shown for title, shown in panels.items() if shown}


def _draw(axes: Axes, rows: list[dict[str, Any]], names: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    values, is_evaluation = [], names[0].startswith("eval_")
    for index, name in enumerate(names):
        points = [(row["step"], row[name]) for row in rows if name in row]
        colour, line = SERIES[index % len(SERIES)], LINES[index // len(SERIES) % len(LINES)]
        marker = "o" if is_evaluation or len(points) < 3 else ""
        axes.plot(
            *zip(*points, strict=True), line, color=colour, linewidth=1.3, marker=marker, markersize=3.5,
            label=name.removeprefix("eval_").removeprefix(GAP),
        )  # fmt: skip
        values += [value for _, value in points]
    if not is_evaluation and min(values) > 0 and max(values) > DECADE * min(values):
        axes.set_yscale("log")
    if all(name.endswith("_ratio") for name in names):
        axes.axhline(1.0, color=INK, linewidth=0.8)
    steps = max(row["step"] for row in rows)
    # all panels have the same axis
    axes.set_xlim(-0.02 * steps, 1.02 * steps) if steps else axes.set_xticks([0])
    axes.margins(y=0.05 if steps else 0.5)
    if steps:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(names) > 1:
        axes.legend(
            fontsize=8, frameon=False, labelcolor=INK, handlelength=1.5, loc="upper left",
            bbox_to_anchor=(1.0, 1.02), borderaxespad=0.4,
        )  # fmt: skip


def _is_number(value: Any) -> bool:
    """Whether it can be drawn: also huge integers, which JSON may hold, cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _read(metrics: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in read_regular(metrics, MAX_BYTES).splitlines()]
        rows = [{key: value for key, value in line.items() if _is_number(value)} for line in lines]
        if not all({"step", "seconds"} <= row.keys() for row in rows):
            raise ValueError("a line without a step")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{metrics}: cannot be read as the history of a training ({error})") from error
    if not rows:
        raise DataError(f"{metrics}: the training has not logged a step yet")
    return rows
