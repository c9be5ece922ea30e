"""Figure of speed-up against processes: published results, predictions of the model, and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caloforge.geometry.plot_style import INK, SERIES, new_figure, style
from caloforge.timing.scaling.published import Prediction, Table, predict, published_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# tables with rows for several numbers of processes
SHOWN = ("v100", "v100-plain", "p100", "stampede2")


def speedup_figure(document: dict[str, Any]) -> Figure:
    """Draw published speed-ups with predictions, the same as efficiencies, and the measurements.

    Args:
        document: Document of `caloforge benchmark scaling`.
    """
    figure = new_figure(13.0, 4.6)
    speed, efficiency, here = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.045, right=0.99, top=0.92, bottom=0.115, wspace=0.17)
    tables = [table for table in published_tables() if table.name in SHOWN]
    for colour, table in zip(SERIES, tables, strict=False):
        _draw_published(speed, efficiency, table, colour)
    for colour, scaling in zip(SERIES, ("weak", "strong"), strict=False):
        _draw_measured(here, document, scaling, colour)
    style(speed, "published (points), the model (lines)", "processes", "speed-up")
    style(efficiency, "the same: what is left of each process", "processes", "efficiency, %")
    style(here, f"here (points), over {document['network']['name']} (lines)", "processes", "speed-up")
    for axes in (speed, here):
        _ideal(axes)
        axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="upper left")
    efficiency.axhline(100, linestyle=":", color=INK, linewidth=0.8, zorder=0)
    efficiency.set_ylim(0, 110)
    _log2_axis(efficiency)
    return figure


def _draw_published(speed: Axes, efficiency: Axes, table: Table, colour: str) -> None:
    found = predict(table)
    bound = ", at least" if any(prediction.row.at_least for prediction in found) else ""
    for predicted, look in ((True, "-"), (False, "^" if bound else "o")):
        processes, speedups = zip(*_speedups(table, found, predicted), strict=True)
        label = None if predicted else f"{table.title}{bound}"
        percent = [100 * fast / count for fast, count in zip(speedups, processes, strict=True)]
        for axes, values in ((speed, speedups), (efficiency, percent)):
            axes.plot(processes, values, look, color=colour, linewidth=1.3, markersize=5, label=label)


def _speedups(table: Table, found: list[Prediction], predicted: bool) -> list[tuple[float, float]]:
    """Number of processes and speed-up of each row, and of the base."""
    rows = [prediction.row for prediction in found]
    values = [prediction.predicted if predicted else prediction.row.value for prediction in found]
    if table.quantity == "efficiency":
        assert table.base is not None
        base = float(table.base.processes)
        return [(base, base)] + [
            (float(row.processes), row.processes * value) for row, value in zip(rows, values, strict=True)
        ]
    first = rows[0].processes * rows[0].value
    return [(float(row.processes), first / value) for row, value in zip(rows, values, strict=True)]


def _draw_measured(axes: Axes, document: dict[str, Any], scaling: str, colour: str) -> None:
    measured = [row for row in document["measured"] if row["scaling"] == scaling]
    projected = [row for row in document["projected"] if row["scaling"] == scaling]
    for rows, look in ((measured, "o"), (projected, "-")):
        axes.plot(
            [row["processes"] for row in rows],
            [row["speedup"] for row in rows],
            look,
            color=colour,
            linewidth=1.3,
            markersize=5,
            label=f"{scaling} scaling" if look == "o" else None,
        )


def _ideal(axes: Axes) -> None:
    high = max(axes.get_xlim()[1], 2.0)
    axes.plot([1.0, high], [1.0, high], ":", color=INK, linewidth=0.8, zorder=0, label="ideal")
    # room for the legend
    axes.set_ylim(0.8, 8 * high)
    _log2_axis(axes)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:.0f}")


def _log2_axis(axes: Axes) -> None:
    """Logarithmic axis in powers of two, with plain numbers."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
