"""Projections of a shower: energy summed along a line of sight, and the edges of the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, Detector, RaggedMesh

Array = NDArray[np.floating[Any]]

# straight segments per full circle
ARC_STEPS = 64
# label of the axis along the depth
LAYER = "layer"
# layers of a ragged mesh that are shown
MAX_LAYERS = 12


@dataclass(frozen=True)
class View:
    """One projection of a shower.

    Attributes:
        title: Title.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        edges_x: Corners of the pixels, (rows + 1, columns + 1), or (columns + 1,) for straight columns.
        edges_y: Likewise, or (rows + 1,).
        image: Function of one shower that gives the energy per pixel, (rows, columns) MeV.
        equal: Whether both axes have the same scale.
    """

    title: str
    x: str
    y: str
    edges_x: Array
    edges_y: Array
    image: Callable[[NDArray[Any]], Array]
    equal: bool = False


def views(detector: Detector) -> list[View]:
    """The projections of a mesh: two along the depth and the front, or one for each layer if it is ragged.

    A detector of one layer has its front view only.
    """
    mesh = detector.mesh
    if isinstance(mesh, RaggedMesh):
        return _ragged_views(mesh)
    layers = layer_edges(detector)
    if isinstance(mesh, CartesianMesh):
        x, y = mesh.x_edges(), mesh.y_edges()
        projections = [
            View("side", LAYER, "y [mm]", layers, y, lambda s: s.sum(axis=2, dtype=np.float64).T),
            View("front", "x [mm]", "y [mm]", x, y, lambda s: s.sum(axis=0, dtype=np.float64), True),
            View("top", LAYER, "x [mm]", layers, x, lambda s: s.sum(axis=1, dtype=np.float64).T),
        ]
        return projections if detector.n_layers > 1 else projections[1:2]
    radius = np.arange(mesh.nr + 1) * mesh.cell_r
    corners_x, corners_y, repeat = _sectors(radius, mesh.nphi)
    phi = np.linspace(-180, 180, mesh.nphi + 1)

    def front(shower: NDArray[Any]) -> Array:
        return np.repeat(shower.sum(axis=0, dtype=np.float64), repeat, axis=0)

    projections = [
        View("along r", LAYER, "r [mm]", layers, radius, lambda s: s.sum(axis=1, dtype=np.float64).T),
        View("front", "x [mm]", "y [mm]", corners_x, corners_y, front, True),
        View("around the axis", LAYER, "phi [deg]", layers, phi, lambda s: s.sum(axis=2, dtype=np.float64).T),
    ]
    return projections if detector.n_layers > 1 else projections[1:2]


def layer_edges(detector: Detector) -> Array:
    """Bin edges of the layers, each bin centred on the layer number, shape (n_layers + 1,)."""
    return np.arange(detector.n_layers + 1) - 0.5


def _ragged_views(mesh: RaggedMesh) -> list[View]:
    projections = []
    for layer, part in list(zip(mesh.layers, mesh.slices(), strict=True))[:MAX_LAYERS]:
        corners_x, corners_y, repeat = _sectors(np.array(layer.r_edges), layer.nphi)

        def image(shower: NDArray[Any], part: slice = part, n: int = layer.nphi, k: int = repeat) -> Array:
            return np.repeat(shower[part].reshape(n, -1).astype(np.float64), k, axis=0)

        projections.append(View(f"layer {layer.id}", "x [mm]", "y [mm]", corners_x, corners_y, image, True))
    return projections


def _sectors(radius: Array, sectors: int) -> tuple[Array, Array, int]:
    """Corners of the pixels of rings and sectors; each sector is drawn as `repeat` narrower ones."""
    repeat = -(-ARC_STEPS // sectors)
    phi = np.linspace(-math.pi, math.pi, sectors * repeat + 1)
    return np.outer(np.cos(phi), radius), np.outer(np.sin(phi), radius), repeat
