"""The common style of all figures: colours, empty figures, axes, rings and sectors."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22272e"
FAINT = "#8a929c"
ACCENT = "#d55e00"
# colours of the lines of a plot, colour-blind safe (Okabe and Ito)
SERIES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#22272e")
# rings, sectors or cells of more than this are drawn hair-thin
MANY_CELLS = 40


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of a size in inches, without the global state of pyplot. Notebooks show it."""
    figure: Figure = _figure_class()(figsize=(width, height), dpi=110, facecolor="white")
    return figure


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure that notebooks show; they show only those of pyplot by themselves."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return ShownFigure


def style(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Set title, labels and the common style of a pair of axes."""
    axes.set_title(title, size=9.5, color=INK, loc="left", pad=5)
    axes.set_xlabel(x, size=9, color=INK, labelpad=2)
    axes.set_ylabel(y, size=9, color=INK, labelpad=2)
    axes.tick_params(labelsize=8.5, color=FAINT, labelcolor=INK, length=3)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.8)


def draw_rings(axes: Axes, edges: NDArray[np.floating], sectors: int) -> None:
    """Draw rings with radii `edges` (mm), divided into sectors from phi = -pi on."""
    from matplotlib.collections import LineCollection

    angle = np.linspace(0, 2 * math.pi, 181)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lines = [radius * circle for radius in edges if radius > 0]
    if sectors > 1:
        phi = -math.pi + np.arange(sectors) * 2 * math.pi / sectors
        rays = np.stack([np.cos(phi), np.sin(phi)], axis=1)
        lines += [np.stack([edges[0] * ray, edges[-1] * ray]) for ray in rays]
    thin = max(len(edges), sectors) > MANY_CELLS
    axes.add_collection(LineCollection(lines, colors=FAINT, linewidths=0.25 if thin else 0.6))
