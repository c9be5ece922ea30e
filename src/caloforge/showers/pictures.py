"""Figures of showers: projections of one or of a mean, comparisons, and the energies of a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, RaggedMesh
from caloforge.geometry.plot_style import ACCENT, FAINT, INK, SERIES, new_figure, style
from caloforge.output import readable
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.projections import LAYER, View, layer_edges, views
from caloforge.showers.summary import (
    LISTED_ENERGIES,
    ShowerScan,
    band_of,
    energy_bands,
    layer_energies,
    needs_log_axis,
    particle_name,
    scan_showers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch

Array = NDArray[np.floating[Any]]

COLOURMAP = "inferno"
# lowest to highest projected energy of the colour scale
DYNAMIC_RANGE = 1e5
# inches: margins of the projections, gaps between them, colour bar, and profiles below
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 9.0, 0.72, 1.0, 0.75, 0.5
GAP_X, GAP_Y, BAR, PROFILES = 0.62, 0.8, 0.16, 2.65
MAX_COLUMNS = 4
# points of a scatter plot
MAX_POINTS = 4000
# bands of energy, low to high; colour-blind safe
BAND_COLOURS = ("#56b4e9", "#0072b2", "#22272e")


# ---- showers


def single_shower(batch: ShowerBatch, index: int, detector: Detector) -> Figure:
    """Draw the projections of one shower, energy summed along the line of sight, on a logarithmic scale.

    Args:
        batch: Showers of `detector`.
        index: Index of the shower.
        detector: Their detector.

    Raises:
        DataError: No such shower, or showers of another shape.
    """
    _check(batch, detector)
    if not 0 <= index < len(batch):
        raise DataError(f"shower {index} was asked for, there are {len(batch)} (0 to {len(batch) - 1})")
    shower = batch.showers[index]
    hits = int(np.count_nonzero(shower > 0))
    title = f"{_condition(batch, index)}: {_energy(float(shower.sum(dtype=np.float64)))} visible, {hits} hits"
    panels = views(detector)
    figure = _titled(panels, title)
    _draw_views(figure, panels, shower)
    return figure


def mean_shower(batch: ShowerBatch, detector: Detector) -> Figure:
    """Draw the mean of some showers: projections, and the longitudinal and transverse profiles.

    Args:
        batch: Showers of `detector`.
        detector: Their detector.

    Raises:
        DataError: Showers of another shape.
    """
    _check(batch, detector)
    mean = batch.showers.mean(axis=0, dtype=np.float64)
    low, high = float(batch.incident_energy.min()), float(batch.incident_energy.max())
    span = _energy(low) if low == high else f"{_energy(low)} to {_energy(high)}"
    panels = views(detector)
    profiles: list[Callable[[Axes], None]] = []
    # one layer, or one cell, has no profile
    if detector.n_layers > 1:
        profiles.append(lambda axes: _draw_longitudinal(axes, batch, detector))
    if np.prod(detector.shower_shape) > detector.n_layers:
        profiles.append(lambda axes: _draw_transverse(axes, mean, detector))
    title = f"{detector.name}: mean of {len(batch)} showers, {span}"
    figure = _titled(panels, title, PROFILES if profiles else 0.0)
    _draw_views(figure, panels, mean)
    height = figure.get_figheight()
    grid = figure.add_gridspec(
        1,
        2,
        left=LEFT / WIDTH,
        right=0.98,
        bottom=BOTTOM / height,
        top=(PROFILES - 0.35) / height,
        wspace=0.2,
    )
    for column, draw in enumerate(profiles):
        draw(figure.add_subplot(grid[column]))
    return figure


def profiles(batch: ShowerBatch, detector: Detector) -> Figure:
    """Draw the mean longitudinal and transverse profile of some showers.

    Args:
        batch: Showers of `detector`.
        detector: Their detector.

    Raises:
        DataError: Showers of another shape.
    """
    _check(batch, detector)
    figure = new_figure(WIDTH, PROFILES + 0.3)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=LEFT / WIDTH, right=0.98, bottom=BOTTOM / (PROFILES + 0.3), top=0.88)
    _draw_longitudinal(left, batch, detector)
    _draw_transverse(right, batch.showers.mean(axis=0, dtype=np.float64), detector)
    return figure


def side_by_side(
    left: ShowerBatch, right: ShowerBatch, detector: Detector, titles: tuple[str, str]
) -> Figure:
    """Draw two showers, or the means of two samples, beside each other on one colour scale.

    Args:
        left: One shower, or several whose mean is drawn.
        right: Showers of another source, likewise.
        detector: The detector of both.
        titles: Titles of the two ("Geant4", "3DGAN").

    Raises:
        DataError: Showers of another shape.
    """
    _check(left, detector)
    _check(right, detector)
    showers = [batch.showers.mean(axis=0, dtype=np.float64) for batch in (left, right)]
    panels = views(detector)
    if isinstance(detector.mesh, RaggedMesh):
        panels.sort(key=lambda view: -float(view.image(showers[0]).sum()))
    panels = panels[:2]
    norm = _norm([view.image(shower) for view in panels for shower in showers])
    heights = [2.0, 2.7][-len(panels) :]
    # room for titles above and the labels of the last axis below
    height = 1.1 + sum(heights) + 0.5 * len(heights)
    figure = new_figure(WIDTH, height)
    grid = figure.add_gridspec(
        len(panels),
        3,
        width_ratios=[1, 1, 0.045],
        height_ratios=heights,
        left=LEFT / WIDTH,
        right=0.915,
        top=1 - 1.1 / height,
        bottom=0.5 / height,
        wspace=0.16,
        hspace=0.3,
    )
    for column, (batch, shower, title) in enumerate(zip((left, right), showers, titles, strict=True)):
        for row, view in enumerate(panels):
            axes = figure.add_subplot(grid[row, column])
            mappable = _draw_view(axes, view, shower, norm)
            if column:
                axes.set_ylabel("")
        what = _condition(batch, 0) if len(batch) == 1 else f"mean of {len(batch)}"
        place = grid[0, column].get_position(figure).x0
        figure.text(place, 1 - 0.2 / height, title, size=15, weight="bold", color=INK, va="top")
        figure.text(place, 1 - 0.56 / height, what, size=9.5, color=INK, va="top")
    _colour_bar(figure, mappable, figure.add_subplot(grid[:, 2]))
    return figure


def _check(batch: ShowerBatch, detector: Detector) -> None:
    if batch.showers.shape[1:] != detector.shower_shape or len(batch) == 0:
        raise DataError(
            f"got {len(batch)} showers of shape {batch.showers.shape[1:]}, expected one or more of "
            f"{detector.shower_shape}, the shape of {detector.name}"
        )


def _condition(batch: ShowerBatch, index: int) -> str:
    theta = math.degrees(float(batch.incident_theta[index]))
    phi = math.degrees(float(batch.incident_phi[index]))
    energy = _energy(float(batch.incident_energy[index]))
    azimuth = f", phi {phi:.3g} deg" if abs(phi) > 1e-3 else ""
    return f"{energy} {particle_name(int(batch.pdg_id[index]))}, theta {theta:.3g} deg{azimuth}"


def _energy(value: float) -> str:
    for size, unit in ((1e6, "TeV"), (1e3, "GeV")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} MeV"


# ---- drawing of views


def _titled(panels: list[View], title: str, below: float = 0.0) -> Figure:
    """A figure with a title and room for the projections, and `below` inches beneath them."""
    rows, size = _layout(panels)
    height = TOP + rows * size + (rows - 1) * GAP_Y + BOTTOM + below
    figure = new_figure(WIDTH, height)
    figure.text(LEFT / WIDTH, 1 - 0.13 / height, title, size=11, weight="bold", color=INK, va="top")
    return figure


def _layout(panels: list[View]) -> tuple[int, float]:
    """Rows of projections, and the width and height of one in inches."""
    columns = min(len(panels), MAX_COLUMNS)
    size = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP_X) / columns
    return -(-len(panels) // columns), min(size, 2.6)


def _draw_views(figure: Figure, panels: list[View], shower: NDArray[Any]) -> None:
    height = figure.get_figheight()
    rows, size = _layout(panels)
    norm = _norm([view.image(shower) for view in panels])
    for index, view in enumerate(panels):
        row, column = divmod(index, MAX_COLUMNS)
        left, top = LEFT + column * (size + GAP_X), height - TOP - row * (size + GAP_Y)
        axes = figure.add_axes((left / WIDTH, (top - size) / height, size / WIDTH, size / height))
        mappable = _draw_view(axes, view, shower, norm)
        if column and view.y == panels[index - 1].y:
            axes.set_ylabel("")
    total = rows * size + (rows - 1) * GAP_Y
    columns = min(len(panels), MAX_COLUMNS)
    right = LEFT + columns * size + (columns - 1) * GAP_X
    place = ((right + 0.15) / WIDTH, (height - TOP - total) / height, BAR / WIDTH, total / height)
    _colour_bar(figure, mappable, figure.add_axes(place))


def _norm(images: list[Array]) -> LogNorm:
    from matplotlib.colors import LogNorm

    highest = max(float(image.max()) for image in images)
    # a shower without energy still needs a valid colour scale
    highest = highest if highest > 0 else 1.0
    return LogNorm(highest / DYNAMIC_RANGE, highest, clip=True)


def _colours() -> Colormap:
    import matplotlib

    return matplotlib.colormaps[COLOURMAP].with_extremes(bad="black")


def _draw_view(axes: Axes, view: View, shower: NDArray[Any], norm: LogNorm) -> ScalarMappable:
    image = np.ma.masked_less_equal(view.image(shower), 0.0)
    curved = view.edges_x.ndim == 2
    # a white line where vector formats would otherwise show hairlines between pixels is avoided by rasters
    mesh = axes.pcolormesh(
        view.edges_x.T if curved else view.edges_x,
        view.edges_y.T if curved else view.edges_y,
        image.T if curved else image,
        norm=norm,
        cmap=_colours(),
        rasterized=True,
    )
    axes.set_facecolor("black")
    axes.locator_params(nbins=4)
    if view.x == LAYER:
        _whole_layers(axes, view.edges_x)
    style(axes, view.title, view.x, view.y)
    if view.equal:
        axes.set_aspect("equal")
    return mesh


def _colour_bar(figure: Figure, mappable: ScalarMappable, axes: Axes) -> None:
    bar = figure.colorbar(mappable, cax=axes)
    bar.set_label("projected energy [MeV]", size=9, color=INK)
    bar.ax.tick_params(labelsize=8.5, color=FAINT, labelcolor=INK)
    bar.outline.set_edgecolor(FAINT)


# ---- profiles


def _draw_longitudinal(axes: Axes, batch: ShowerBatch, detector: Detector) -> None:
    layers = layer_energies(batch, detector)
    mean, rms = layers.mean(axis=0), layers.std(axis=0)
    edges = layer_edges(detector)
    axes.stairs(mean + rms, edges, baseline=mean - rms, fill=True, color=ACCENT, alpha=0.18, linewidth=0)
    axes.stairs(mean, edges, color=ACCENT, linewidth=1.6)
    axes.set_ylim(0, None)
    _whole_layers(axes, edges)
    style(axes, "mean energy of a layer; band: RMS over the showers", LAYER, "MeV")


def _whole_layers(axes: Axes, edges: Array) -> None:
    """Limit the axis to whole bins, with integer ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _draw_transverse(axes: Axes, mean: Array, detector: Detector) -> None:
    """Draw the mean in x and y, in r, or by ring of every layer of a ragged mesh."""
    mesh = detector.mesh
    where = "r [mm]"
    if isinstance(mesh, CartesianMesh):
        for label, edges, values, line in (
            ("x", mesh.x_edges(), mean.sum(axis=(0, 1)), "-"),
            ("y", mesh.y_edges(), mean.sum(axis=(0, 2)), "--"),
        ):
            colour = INK if label == "y" else ACCENT
            axes.stairs(values, edges, linestyle=line, color=colour, linewidth=1.5, label=label)
        axes.legend(fontsize=8.5, frameon=False, labelcolor=INK)
        where = "x, y [mm]"
    elif isinstance(mesh, CylindricalMesh):
        axes.stairs(mean.sum(axis=(0, 1)), np.arange(mesh.nr + 1) * mesh.cell_r, color=ACCENT, linewidth=1.6)
    else:
        for number, (layer, part) in enumerate(zip(mesh.layers, mesh.slices(), strict=True)):
            rings = mean[part].reshape(layer.nphi, -1).sum(axis=0)
            colour = SERIES[number % len(SERIES)]
            axes.stairs(rings, layer.r_edges, color=colour, linewidth=1.4, label=f"layer {layer.id}")
        axes.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=2)
    heights = np.concatenate([patch.get_data()[0] for patch in _stairs(axes)])
    # within a decade a logarithmic axis has no advantage, and awkward labels
    if (heights := heights[heights > 0]).size and heights.max() > 10 * heights.min():
        axes.set_yscale("log")
    style(axes, "mean transverse profile", where, "MeV a bin")


def _stairs(axes: Axes) -> list[StepPatch]:
    from matplotlib.patches import StepPatch

    return [patch for patch in axes.patches if isinstance(patch, StepPatch)]


# ---- energies of a file


def energy_overview(path: Path | str, scan: ShowerScan | None = None) -> Figure:
    """Draw the incident spectrum, the response against the energy, and the layer profile in energy bands.

    Args:
        path: A shower file.
        scan: Result of `scan_showers` for the file, if already available.

    Raises:
        DataError: The file is missing, damaged or no shower file.
    """
    scan = scan or scan_showers(path)
    figure = new_figure(9.0, 3.3)
    # with a single layer, the layer profile is the response
    layers = scan.layer_response.shape[1] > 1
    spectrum, response, *profiles = figure.subplots(1, 3 if layers else 2)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.83, bottom=0.155, wspace=0.33)
    title = f"{readable(Path(path).name)}: {len(scan.incident_energy)} showers"
    figure.text(0.07, 0.965, title, size=11, weight="bold", color=INK, va="top")
    _draw_spectrum(spectrum, scan)
    _draw_response(response, scan)
    for profile in profiles:
        _draw_bands(profile, scan)
    return figure


def _draw_spectrum(axes: Axes, scan: ShowerScan) -> None:
    energy = scan.incident_energy / 1e3
    if needs_log_axis(energy):
        bins = np.geomspace(energy.min(), energy.max(), 41)
        axes.set_xscale("log")
    else:
        width = max(float(np.ptp(energy)), 0.02 * float(energy.max()))
        middle = (energy.min() + energy.max()) / 2
        bins = np.linspace(middle - width / 2, middle + width / 2, 41)
    counts, _ = np.histogram(energy, bins)
    axes.stairs(counts, bins, fill=True, color=BAND_COLOURS[1], alpha=0.85)
    axes.locator_params(axis="y", integer=True)
    style(axes, "incident spectrum", "incident energy [GeV]", "showers")


def _draw_response(axes: Axes, scan: ShowerScan) -> None:
    energy, response = scan.incident_energy, scan.response
    # thinned evenly, to limit the size of the figure
    some = slice(None, None, -(-len(energy) // MAX_POINTS))
    axes.plot(energy[some] / 1e3, response[some], ".", color=FAINT, markersize=2, alpha=0.4, rasterized=True)
    edges = energy_bands(energy, LISTED_ENERGIES)
    band = band_of(energy, edges)
    filled = np.bincount(band, minlength=len(edges) - 1) > 0
    groups = [(energy[band == i], response[band == i]) for i in np.flatnonzero(filled)]
    axes.errorbar(
        [float(e.mean()) / 1e3 for e, _ in groups],
        [float(r.mean()) for _, r in groups],
        yerr=[float(r.std()) for _, r in groups],
        fmt="o",
        color=ACCENT,
        markersize=4,
        linewidth=1.2,
    )
    if needs_log_axis(energy):
        axes.set_xscale("log")
    centre, spread = float(np.median(response)), float(response.std())
    if spread > 0:
        axes.set_ylim(max(0.0, centre - 6 * spread), centre + 6 * spread)
    style(axes, "visible / incident; bars: RMS", "incident energy [GeV]", "response")


def _draw_bands(axes: Axes, scan: ShowerScan) -> None:
    layers = np.arange(scan.layer_response.shape[1] + 1) - 0.5
    edges = scan.band_edges / 1e3
    shown = np.linspace(0, len(edges) - 2, min(len(edges) - 1, len(BAND_COLOURS))).astype(int)
    for colour, index in zip(BAND_COLOURS, shown, strict=False):
        label = f"{edges[index]:.3g}-{edges[index + 1]:.3g} GeV"
        axes.stairs(scan.layer_response[index], layers, color=colour, linewidth=1.5, label=label)
    axes.set_ylim(0, 1.35 * scan.layer_response.max() or 1.0)
    _whole_layers(axes, layers)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, handlelength=1.2, loc="upper right")
    style(axes, "layer energy / incident energy", LAYER, "")
