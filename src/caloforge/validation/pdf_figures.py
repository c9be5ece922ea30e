"""The figures as vector PDFs: a page for all showers, a page with one panel for every bin.

Drawing takes most of the time of a validation: `Drawers` runs this module in processes of their own, which
read the numbers from figures.json, while the classifier trains.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from caloforge.errors import OutputError
from caloforge.files import writing
from caloforge.validation.figure_data import Figure, Series

# readable without colour vision (M. Okabe, K. Ito), each with a dash of its own
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a1478a", "#b07c00", "#2f9bd8")
DASHES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 2)), (0, (1, 3)))
TRUTH, FILL = "#7d858f", "#d9dde2"


class Drawers:
    """Processes that draw the figures of a figures.json in parallel."""

    def __init__(self, document: Path, folder: Path, count: int) -> None:
        """Start them.

        Args:
            document: figures.json.
            folder: Where <observable>.pdf are written.
            count: Number of processes.
        """
        command = [sys.executable, "-m", "caloforge.validation.pdf_figures", str(document), str(folder)]
        self._running = [
            subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                [*command, str(share), str(count)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for share in range(count)
        ]

    def wait(self) -> None:
        """Wait until all figures are drawn.

        Raises:
            OutputError: A process failed; with its last line.
        """
        for process in self._running:
            _, errors = process.communicate()
            if process.returncode:
                last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
                raise OutputError(f"the figures could not be drawn: {last[0]}")

    def stop(self) -> None:
        """End those that still run."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def draw_share(document: Path, folder: Path, share: int, count: int) -> None:
    """Draw every `count`-th PDF of a figures.json, from number `share` on, while the caller lives."""
    caller = os.getppid()
    content = json.loads(document.read_text(encoding="utf-8"))
    by_observable: dict[str, list[Figure]] = {}
    for entry in content["figures"]:
        by_observable.setdefault(entry["observable"], []).append(Figure.from_json(entry))
    jobs: list[tuple[str, Callable[[Path], None]]] = [
        (name, functools.partial(write_pdf, figures=figures, names=content["samples"]))
        for name, figures in by_observable.items()
    ]
    if content["matrices"]:
        jobs.append(("correlation_matrices", functools.partial(write_matrices, matrices=content["matrices"])))
    for name in ("averages", "events"):
        if content[name] and content["planes"]:
            job = functools.partial(
                write_maps, groups=content[name], planes=content["planes"], extents=content["extents"]
            )
            jobs.append((f"showers_{name}", job))
    for name, draw in jobs[share::count]:
        if os.getppid() != caller:
            return
        draw(folder / f"{name}.pdf")


def write_matrices(path: Path, matrices: Sequence[dict[str, Any]]) -> None:
    """A page for each correlation matrix."""
    with writing(path), PdfPages(path, metadata={"Creator": "caloforge"}) as pages:
        for entry in matrices:
            for title, values in zip(entry["titles"], entry["values"], strict=True):
                canvas = Canvas(figsize=(6.2, 5.4), layout="constrained")
                ax = canvas.subplots()
                picture = ax.pcolormesh(np.array(values), vmin=-1, vmax=1, cmap="PuOr_r", rasterized=False)
                ticks = np.arange(len(values)) + 0.5
                ax.set_xticks(ticks, entry["labels"], rotation=60, ha="right", fontsize=7)
                ax.set_yticks(ticks, entry["labels"], fontsize=7)
                ax.invert_yaxis()
                ax.set_title(title, fontsize=9)
                canvas.colorbar(picture)
                pages.savefig(canvas)


def write_maps(
    path: Path, groups: Sequence[dict[str, Any]], planes: Sequence[str], extents: Sequence[dict[str, Any]]
) -> None:
    """One page per group of showers: samples in rows, projections in columns; colours as in the report.

    Args:
        path: The PDF.
        groups: Showers of each page with their encoded projections.
        planes: Names of the projections.
        extents: Axes of the projections: titles, and range (left, right, bottom, top).
    """
    with writing(path), PdfPages(path, metadata={"Creator": "caloforge"}) as pages:
        for group in groups:
            rows = group["showers"]
            canvas = Canvas(figsize=(2.6 * len(planes), 2.4 * len(rows) + 0.4), layout="constrained")
            axes = canvas.subplots(len(rows), len(planes), squeeze=False)
            for line, shower in zip(axes, rows, strict=True):
                for ax, image, plane, extent in zip(line, shower["maps"], planes, extents, strict=True):
                    _draw_map(ax, image, extent)
                    ax.set_title(f"{shower['name']}, {plane}", fontsize=6)
            canvas.suptitle(f"{group['label']}; colours span four decades of energy", fontsize=8)
            pages.savefig(canvas)


def _draw_map(ax: Axes, image: dict[str, Any], extent: dict[str, Any]) -> None:
    """An encoded projection over its axes."""
    levels = np.frombuffer(base64.b64decode(image["d"]), np.uint8).reshape(image["h"], image["w"])
    left, right, bottom, top = extent["range"]
    ax.pcolormesh(
        np.linspace(left, right, image["w"] + 1),
        np.linspace(bottom, top, image["h"] + 1),
        np.ma.masked_equal(levels, 0),
        vmin=1,
        vmax=255,
        cmap="viridis",
    )
    ax.set_xlabel(extent["x"], fontsize=6)
    ax.set_ylabel(extent["y"], fontsize=6)
    ax.tick_params(labelsize=5)


def write_pdf(path: Path, figures: Sequence[Figure], names: Sequence[str]) -> None:
    """Write the figures of one observable.

    Args:
        path: The PDF.
        figures: Of one observable; the inclusive one and trends on separate pages, the bins on one page.
        names: Of the truth and of the generators.
    """
    large = [f for f in figures if f.kind == "trend" or f.bin.axis == "inclusive"]
    small = [f for f in figures if f not in large]
    with writing(path), PdfPages(path, metadata={"Creator": "caloforge"}) as pages:
        for figure in large:
            canvas = Canvas(figsize=(5.2, 4.6))
            canvas.subplots_adjust(0.15, 0.12, 0.97, 0.94, hspace=0.08)
            upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=[3, 1])
            _draw(upper, lower, figure, names)
            pages.savefig(canvas)
        if small:
            pages.savefig(_grid(small, names))


def _grid(figures: Sequence[Figure], names: Sequence[str]) -> Canvas:
    columns = min(3, len(figures))
    rows = -(-len(figures) // columns)
    canvas = Canvas(figsize=(3.2 * columns, 2.6 * rows))
    width, height = canvas.get_size_inches()
    # inches: room for titles and numbers
    left, bottom, right, top = 0.75, 0.6, 0.15, 0.3
    canvas.subplots_adjust(
        left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=0.3, hspace=0.28
    )
    axes = canvas.subplots(rows, columns, squeeze=False)
    for ax, figure in zip(axes.ravel(), figures, strict=False):
        _values(ax, figure, names)
        ax.set_title(figure.bin.label, fontsize=9)
        _few_ticks(ax, figure)
    for ax in axes.ravel()[len(figures) :]:
        ax.set_axis_off()
    canvas.supxlabel(figures[0].x_label, fontsize=9, y=0.1 / height)
    canvas.supylabel(figures[0].y_label, fontsize=9, x=0.1 / width)
    return canvas


def _few_ticks(ax: Axes, figure: Figure) -> None:
    """Small panels: few ticks, which are also most of the time that drawing takes."""
    ax.tick_params(labelsize=7)
    for axis, log in ((ax.xaxis, figure.log_x), (ax.yaxis, figure.log_y)):
        whole = axis is ax.xaxis and _whole_numbers(figure)
        axis.set_major_locator(LogLocator(numticks=4) if log else MaxNLocator(3, integer=whole))
        axis.set_minor_locator(NullLocator())


def _draw(ax: Axes, ratio: Axes, figure: Figure, names: Sequence[str]) -> None:
    _values(ax, figure, names)
    ax.set_ylabel(figure.y_label)
    ax.legend(frameon=False, fontsize=8)
    ax.set_title(figure.bin.label, fontsize=9, loc="right")
    level = 0.0 if figure.difference else 1.0
    band = against_truth(figure, figure.truth).error
    _band(ratio, figure, Series(np.full(len(band), level), band))
    for index, series in enumerate(figure.generated):
        points = against_truth(figure, series)
        ratio.errorbar(
            _centres(figure),
            points.value,
            points.error,
            fmt="o",
            color=COLOURS[index % 6],
            markersize=2.5,
            elinewidth=0.8,
        )
    if _whole_numbers(figure):
        ratio.xaxis.set_major_locator(MaxNLocator(integer=True))
    reach = panel_reach(figure)
    ratio.set_ylim(level - reach, level + reach)
    # the labels of the outermost ticks would overlap those of the panel above
    ratio.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
    ratio.axhline(level, color=TRUTH, linewidth=0.8)
    ratio.set_ylabel("difference" if figure.difference else "ratio")
    ratio.set_xlabel(figure.x_label)


def _values(ax: Axes, figure: Figure, names: Sequence[str]) -> None:
    truth = figure.truth
    if figure.kind == "trend":
        ax.errorbar(
            figure.edges, truth.value, truth.error, color=TRUTH, fmt="s-", markersize=3, label=names[0]
        )
    else:
        ax.stairs(truth.value, figure.edges, fill=True, color=FILL, label=names[0])
        ax.stairs(truth.value, figure.edges, color=TRUTH, linewidth=1)
        _band(ax, figure, truth)
    for index, (series, name) in enumerate(zip(figure.generated, names[1:], strict=True)):
        style: dict[str, Any] = {"color": COLOURS[index % 6], "linestyle": DASHES[index % 6], "label": name}
        if figure.kind == "trend":
            ax.errorbar(figure.edges, series.value, series.error, marker="o", markersize=3, **style)
        else:
            ax.stairs(series.value, figure.edges, linewidth=1.3, **style)
    if figure.log_y and np.any(truth.value > 0):
        top = max(float(np.nanmax(s.value)) for s in (truth, *figure.generated))
        ax.set_yscale("log")
        ax.set_ylim(bottom=max(float(truth.value[truth.value > 0].min()), top * 1e-6) / 2)
    if figure.log_x:
        ax.set_xscale("log")


def _band(ax: Axes, figure: Figure, series: Series) -> None:
    low, high = series.value - series.error, series.value + series.error
    if figure.kind == "trend":
        ax.fill_between(figure.edges, low, high, color=FILL, linewidth=0)
    else:
        ax.stairs(high, figure.edges, baseline=low, fill=True, color=TRUTH, alpha=0.35, linewidth=0)


def _whole_numbers(figure: Figure) -> bool:
    """Whether the edges lie half-way between integers: counts, or layer numbers."""
    return figure.kind != "trend" and not figure.log_x and bool(np.allclose(figure.edges % 1, 0.5))


def _centres(figure: Figure) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if figure.kind == "trend":
        return figure.edges
    low, high = figure.edges[:-1], figure.edges[1:]
    return np.sqrt(low * high) if figure.log_x else (low + high) / 2


def against_truth(figure: Figure, series: Series) -> Series:
    """Ratio to the truth, or difference from it, for the lower panel; NaN for 0 / 0."""
    if figure.difference:
        return Series(series.value - figure.truth.value, series.error)
    scale = np.where(figure.truth.value != 0, figure.truth.value, np.nan)
    return Series(series.value / scale, np.abs(series.error / scale))


def panel_reach(figure: Figure) -> float:
    """Half height of the lower panel: contains nearly all points with small errors."""
    level = 0.0 if figure.difference else 1.0
    away = []
    for series in figure.generated:
        points = against_truth(figure, series)
        error = np.hypot(points.error, against_truth(figure, figure.truth).error)
        good = np.isfinite(points.value) & np.isfinite(error)
        good &= True if figure.difference else error < 0.25
        away.append(np.abs(points.value[good] - level) + error[good])
    every = np.concatenate(away) if away else np.empty(0)
    if not len(every):
        return 0.5
    reach = 1.15 * float(np.quantile(every, 0.97))
    return max(reach, 1e-12) if figure.difference else float(np.clip(reach, 0.02, 1.0))


if __name__ == "__main__":
    draw_share(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
