"""Figure of a study of resources: fidelity against the number of training showers."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from caloforge.geometry.plot_style import FAINT, INK, SERIES, new_figure, style
from caloforge.timing.resources.curves import Node, nodes
from caloforge.timing.resources.tables import DISTANCES, EQUIVALENTS, settings_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches of a line of the legend
LEGEND_LINE = 0.22
PANELS = (
    ("trees, area under the ROC curve", ("trees",)),
    ("Wasserstein-1 distance, median (line) and worst (dashes)", DISTANCES),
    ("equivalent showers, median (line) and worst (dashes)", EQUIVALENTS),
)


def fidelity_figure(document: dict[str, Any]) -> Figure:
    """Draw areas of the trees, distances and equivalent statistics of all trainings, and their means.

    Dotted: what two samples of Geant4 of these sizes show, or the most that can be seen.

    Args:
        document: A resources.json.
    """
    everything = nodes(document)
    curves: dict[tuple[str, ...], list[Node]] = {}
    for node in everything:
        curves.setdefault(node.settings, []).append(node)
    # each curve has a line of the legend below, as settings are long
    height = 4.0 + LEGEND_LINE * len(curves)
    figure = new_figure(13.0, height)
    bottom = (0.5 + LEGEND_LINE * len(curves)) / height
    figure.subplots_adjust(left=0.05, right=0.99, top=1 - 0.35 / height, bottom=bottom, wspace=0.2)
    for axes, (title, figures) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for colour, curve in zip(SERIES, curves.values(), strict=False):
            for line, name in zip(("-", "--"), figures, strict=False):
                _draw(axes, curve, name, colour, line)
        axes.axhline(_level(everything, figures[0]), linestyle=":", color=INK, linewidth=0.9, zorder=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        style(axes, title, "training showers")
        axes.grid(visible=True, color=FAINT, linewidth=0.3)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="lower left",
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    figure.axes[2].set_yscale("log")
    return figure


def _level(everything: list[Node], name: str) -> float:
    """The floor of a figure, mean over the trainings."""
    return fmean(float(row[name]["floor"]) for node in everything for row in node.rows)


def _draw(axes: Axes, curve: list[Node], name: str, colour: str, line: str) -> None:
    found = [(node.showers, spread) for node in curve if (spread := node.figure(name)) is not None]
    label = settings_name(curve[0]) if line == "-" else None
    axes.plot(
        [showers for showers, _ in found],
        [spread.mean for _, spread in found],
        line,
        color=colour,
        linewidth=1.3,
        marker="o" if len(found) == 1 else "",
        label=label,
    )
    for node in curve:
        values = [row[name]["value"] for row in node.rows if name in row]
        axes.plot([node.showers] * len(values), values, "o", color=colour, markersize=4, alpha=0.7)
