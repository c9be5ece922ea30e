"""Figures of a detector: its plates along the depth, one layer magnified, and the readout mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry.detector import Detector, Layer, Slab
from caloforge.geometry.mesh import CartesianMesh, CylindricalMesh, RaggedMesh
from caloforge.geometry.plot_style import ACCENT, FAINT, INK, MANY_CELLS, draw_rings, new_figure, style
from caloforge.geometry.summary import describe_detector, mean_profile
from caloforge.units import format_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# colour-blind safe palettes (Okabe and Ito; Paul Tol's bright), dark to light
ABSORBERS = ("#4d5b6b", "#8c6d46", "#41719c", "#7a5195", "#5f7f5a", "#a05d56")
ACTIVES = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73")
GASES = ("#e8edf2", "#dfe9df", "#efe6ea")
# below this density (g/cm3) a plate is drawn as a gap
GAS_DENSITY = 0.05

PROFILE_ENERGIES = (1e3, 1e4, 1e5)
PROFILE_STYLES = (":", "--", "-")
# kinds of layers that are magnified, and slabs of one that get a label
MAX_KINDS = 3
MAX_LABELS = 16
LEGEND_COLUMNS = 4


def cross_section(detector: Detector) -> Figure:
    """Draw a detector: the stack along the depth with mean electron profiles above, a layer, the mesh.

    A detector without layers (imported showers) is drawn as the meshes of its readout layers.

    Args:
        detector: Any detector.
    """
    if not detector.layers:
        return _ragged_figure(detector)
    colours = material_colours(detector)
    # a line of the legend holds four entries
    lines = -(-(len(colours) + 2 + bool(detector.axis_layer)) // LEGEND_COLUMNS)
    # each row of the magnified layers needs room for its labels
    rows = max(2.4, 0.55 * sum(_row_height(layer) for layer in _kinds(detector)[:MAX_KINDS]))
    height = 4.5 + 0.22 * lines + rows
    figure = new_figure(9.0, height)
    outer = figure.add_gridspec(
        3,
        1,
        height_ratios=[3.0, 0.3 + 0.22 * lines, rows],
        hspace=0.16,
        left=0.085,
        right=0.975,
        top=1 - 1.13 / height,
        bottom=0.5 / height,
    )
    stack = outer[0].subgridspec(2, 1, height_ratios=[0.42, 1.0], hspace=0.05)
    below = outer[2].subgridspec(1, 2, width_ratios=[1.75, 1.0], wspace=0.17)
    window = figure.add_subplot(stack[1])
    profile = figure.add_subplot(stack[0], sharex=window)
    legend = figure.add_subplot(outer[1])
    _draw_stack(window, detector, colours)
    _draw_profiles(profile, detector)
    _draw_legend(legend, window)
    _draw_layers(figure.add_subplot(below[0]), detector, colours)
    _draw_mesh(figure.add_subplot(below[1]), detector)
    figure.text(0.085, 1 - 0.15 / height, detector.name, size=14, weight="bold", color=INK, va="top")
    figure.text(0.085, 1 - 0.47 / height, _headline(detector), size=9, color=INK, va="top")
    return figure


def material_colours(detector: Detector) -> dict[tuple[str, bool], str]:
    """A colour for each (material, active), in the order of the detector."""
    lengths = detector.material_map()
    colours: dict[tuple[str, bool], str] = {}
    used = {"active": 0, "gas": 0, "absorber": 0}
    palettes = {"active": ACTIVES, "gas": GASES, "absorber": ABSORBERS}
    for layer in detector.layers:
        for slab in layer.slabs:
            if (slab.material, slab.active) in colours:
                continue
            gas = lengths[slab.material].density < GAS_DENSITY
            role = "active" if slab.active else "gas" if gas else "absorber"
            palette = palettes[role]
            colours[slab.material, slab.active] = palette[used[role] % len(palette)]
            used[role] += 1
    return colours


def _headline(detector: Detector) -> str:
    facts = describe_detector(detector)
    fraction = facts["sampling"]["mip_sampling_fraction"]
    kind = f"MIP sampling fraction {fraction:.2%}" if fraction < 1 else "homogeneous"
    layers = detector.n_physical_layers
    return (
        f"{layers} {'layer' if layers == 1 else 'layers'}, {facts['depth_mm']:.4g} mm = "
        f"{facts['depth_radiation_lengths']:.1f} $X_0$;  $R_M$ = {detector.moliere_radius:.1f} mm;  "
        f"{kind};  showers {' x '.join(map(str, detector.shower_shape))}"
    )


# ---- the stack along the depth


def _draw_stack(axes: Axes, detector: Detector, colours: dict[tuple[str, bool], str]) -> None:
    from matplotlib.patheffects import Normal, Stroke

    half = detector.mesh.half_extent()
    edge = min(1.3 * half, detector.width / 2)
    bars: dict[tuple[str, bool], list[tuple[float, float]]] = {key: [] for key in colours}
    position = 0.0
    for layer in detector.physical_layers():
        for slab in layer.slabs:
            bars[slab.material, slab.active].append((position, slab.thickness))
            position += slab.thickness
    for key, spans in bars.items():
        label = f"{key[0]}{' (active)' if key[1] else ''}"
        axes.broken_barh(spans, (-edge, 2 * edge), facecolor=colours[key], linewidth=0, label=label)
    depth = detector.depth
    margin = 0.07 * depth
    box: dict[str, Any] = {"color": INK, "linewidth": 1.4, "linestyle": (0, (5, 2.5))}
    axes.plot([0, depth, depth, 0, 0], [-half, -half, half, half, -half], label="mesh", **box)
    axes.annotate(
        "",
        (depth + 0.75 * margin, 0),
        (-margin, 0),
        arrowprops={
            "arrowstyle": "-|>",
            "color": ACCENT,
            "linewidth": 1.8,
            "shrinkA": 0,
            "shrinkB": 0,
            "path_effects": [Stroke(linewidth=3.6, foreground="white"), Normal()],
        },
    )
    axes.plot([], [], color=ACCENT, linewidth=1.8, label="shower axis")
    if detector.axis_layer:
        front = float(detector.layer_fronts()[detector.axis_layer])
        crossing = f"axis crosses the mesh centre (layer {detector.axis_layer})"
        dot: dict[str, Any] = {"color": "white", "markeredgecolor": ACCENT, "markeredgewidth": 1.8}
        axes.plot(front, 0, "o", markersize=7, zorder=5, linestyle="", label=crossing, **dot)
    axes.set_xlim(-margin, depth + margin)
    axes.set_ylim(-edge, edge)
    style(axes, "", "depth z [mm]", "x [mm]")


def _draw_legend(axes: Axes, window: Axes) -> None:
    axes.axis("off")
    handles, labels = window.get_legend_handles_labels()
    axes.legend(
        handles,
        labels,
        loc="lower center",
        ncols=min(LEGEND_COLUMNS, len(labels)),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.6,
        handletextpad=0.5,
    )


def _draw_profiles(axes: Axes, detector: Detector) -> None:
    edges, x0 = _depth_scale(detector)
    z = np.linspace(0, detector.depth, 600)
    t = np.interp(z, edges, x0)
    for energy, line in zip(PROFILE_ENERGIES, PROFILE_STYLES, strict=True):
        shape = mean_profile(t, energy, detector.critical_energy)
        axes.plot(z, shape, line, color=ACCENT, linewidth=1.4, label=f"{format_energy(energy)} e$^-$")
    axes.fill_between(z, shape, color=ACCENT, alpha=0.12, linewidth=0)
    # room for the legend
    axes.set_ylim(0, 1.5 * axes.dataLim.ymax)
    style(axes, "", "", "$dE/dt$")
    axes.set_yticks([])
    axes.tick_params(axis="x", labelbottom=False)
    axes.legend(
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
        handlelength=1.8,
        borderaxespad=0.2,
        loc="upper right",
        ncols=len(PROFILE_ENERGIES),
    )
    top = axes.secondary_xaxis(
        "top",
        functions=(lambda mm: _interpolate(mm, edges, x0), lambda depth: _interpolate(depth, x0, edges)),
    )
    top.set_xlabel("depth t [$X_0$]", size=9, color=INK, labelpad=3)
    top.tick_params(labelsize=8.5, color=FAINT, labelcolor=INK, length=3)


def _depth_scale(detector: Detector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Front of each layer and the end of the last: z in mm and depth in X0, both of shape (layers + 1,)."""
    lengths = detector.material_map()
    layers = detector.physical_layers()
    steps = [sum(s.thickness / lengths[s.material].radiation_length for s in row.slabs) for row in layers]
    z = np.concatenate([detector.layer_fronts(), [detector.depth]])
    return z, np.concatenate([[0.0], np.cumsum(steps)])


def _interpolate(
    values: Any, source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear interpolation, extrapolated with the mean slope for the margins of an axis."""
    values = np.asarray(values, np.float64)
    slope = target[-1] / source[-1]
    outside = np.minimum(values, 0.0) + np.maximum(values - source[-1], 0.0)
    extended: NDArray[np.float64] = np.interp(values, source, target) + slope * outside
    return extended


# ---- one layer magnified


def _kinds(detector: Detector) -> list[Layer]:
    """Different layers of a detector, each with the number of all that are like it."""
    counts: dict[tuple[Slab, ...], int] = {}
    for layer in detector.layers:
        counts[layer.slabs] = counts.get(layer.slabs, 0) + layer.repeat
    return [Layer.model_construct(slabs=slabs, repeat=count) for slabs, count in counts.items()]


def _draw_layers(axes: Axes, detector: Detector, colours: dict[tuple[str, bool], str]) -> None:
    kinds = _kinds(detector)
    hidden = len(kinds) - MAX_KINDS
    kinds = kinds[:MAX_KINDS]
    widest = max(layer.thickness for layer in kinds)
    bases = -np.cumsum([0.0, *(_row_height(layer) for layer in kinds[1:])])
    for layer, base in zip(kinds, bases, strict=True):
        _draw_layer(axes, layer, base, widest, colours)
    more = f" ({hidden} further kind{'s' if hidden > 1 else ''} not shown)" if hidden > 0 else ""
    title = "one layer, front to back" + more
    merged = getattr(detector.mesh, "layers_per_voxel", 1)
    if merged > 1:
        title += f"; {merged} layers make one readout layer"
    style(axes, title, "mm")
    axes.set_xlim(-0.02 * widest, 1.02 * widest)
    axes.set_ylim(bases[-1] - 0.55, _row_height(kinds[0]) - 0.42)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _has_vertical_labels(layer: Layer) -> bool:
    return len(layer.slabs) > 5


def _row_height(layer: Layer) -> float:
    """Height of the row of a magnified layer; vertical labels need more."""
    return 1.95 if _has_vertical_labels(layer) else 1.04


def _draw_layer(
    axes: Axes, layer: Layer, base: float, widest: float, colours: dict[tuple[str, bool], str]
) -> None:
    """Draw a layer as a bar of slabs around `base`, with labels of the slabs above and of the layer below."""
    edges = np.concatenate([[0.0], np.cumsum([slab.thickness for slab in layer.slabs])])
    for slab, left in zip(layer.slabs, edges, strict=False):
        axes.broken_barh(
            [(left, slab.thickness)],
            (base - 0.18, 0.42),
            linewidth=0.8,
            edgecolor="white",
            facecolor=colours[slab.material, slab.active],
        )
    # only the thickest slabs get a label
    thickest = sorted(range(len(layer.slabs)), key=lambda i: -layer.slabs[i].thickness)
    shown = sorted(thickest[:MAX_LABELS])
    vertical = _has_vertical_labels(layer)
    centres = [float(edges[i] + edges[i + 1]) / 2 for i in shown]
    label_positions = spread(centres, (0.05 if vertical else 0.15) * widest, 0.0, widest)
    for i, centre, place in zip(shown, centres, label_positions, strict=True):
        axes.annotate(
            _label(layer.slabs[i]),
            (centre, base + 0.25),
            (place, base + 0.36),
            size=8.5,
            color=INK,
            ha="center",
            va="bottom",
            rotation=90 if vertical else 0,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )
    times = f"{layer.repeat} x " if layer.repeat > 1 else ""
    axes.text(0, base - 0.22, f"{times}{layer.thickness:.4g} mm", size=9, color=INK, va="top", weight="bold")


def _label(slab: Slab) -> str:
    return f"{slab.thickness:.4g} mm" if slab.thickness >= 0.01 else f"{slab.thickness * 1e3:.4g} um"


def spread(centres: list[float], gap: float, low: float, high: float) -> list[float]:
    """Increasing positions closest to `centres`, at least `gap` apart where [low, high] is wide enough."""
    gap = min(gap, (high - low) / max(len(centres) - 1, 1))
    # without the gaps this is isotonic regression: pool adjacent violators
    pools: list[tuple[float, int]] = []
    for index, centre in enumerate(centres):
        mean, count = centre - gap * index, 1
        while pools and pools[-1][0] > mean:
            before, n = pools.pop()
            mean, count = (before * n + mean * count) / (n + count), n + count
        pools.append((mean, count))
    last = high - gap * (len(centres) - 1)
    flat = [min(max(mean, low), last) for mean, count in pools for _ in range(count)]
    return [place + gap * index for index, place in enumerate(flat)]


# ---- the mesh across the shower axis


def _draw_mesh(axes: Axes, detector: Detector) -> None:
    """Cells of one readout layer, seen along the shower axis, and the Molière radius."""
    mesh = detector.mesh
    half = mesh.half_extent()
    if isinstance(mesh, CartesianMesh):
        _draw_cells(axes, mesh)
        title = f"mesh: {mesh.nx} x {mesh.ny} cells a layer"
    elif isinstance(mesh, CylindricalMesh):
        draw_rings(axes, np.arange(mesh.nr + 1) * mesh.cell_r, mesh.nphi)
        title = f"mesh: {mesh.nr} rings x {mesh.nphi} sectors"
    else:
        raise TypeError("a ragged mesh has no single layer")
    radius = detector.moliere_radius
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(radius * np.cos(angle), radius * np.sin(angle), "--", color=ACCENT, linewidth=1.6)
    axes.plot(0, 0, "o", color=ACCENT, markersize=4)
    style(axes, f"{title}\ndashed: Molière radius, {radius:.1f} mm", "x [mm]", "y [mm]")
    axes.set_aspect("equal")
    extent = 1.06 * max(half, radius)
    axes.set_xlim(-extent, extent)
    axes.set_ylim(-extent, extent)


def _draw_cells(axes: Axes, mesh: CartesianMesh) -> None:
    from matplotlib.collections import LineCollection

    right, top = mesh.nx * mesh.cell_x / 2, mesh.ny * mesh.cell_y / 2
    x = np.linspace(-right, right, mesh.nx + 1)
    y = np.linspace(-top, top, mesh.ny + 1)
    lines = [[(place, -top), (place, top)] for place in x] + [
        [(-right, place), (right, place)] for place in y
    ]
    thin = max(mesh.nx, mesh.ny) > MANY_CELLS
    axes.add_collection(LineCollection(lines, colors=FAINT, linewidths=0.25 if thin else 0.5))


def _ragged_figure(detector: Detector) -> Figure:
    mesh = detector.mesh
    assert isinstance(mesh, RaggedMesh)
    columns = min(len(mesh.layers), 4)
    rows = -(-len(mesh.layers) // columns)
    figure = new_figure(9.0, 0.75 + 2.45 * rows)
    figure.suptitle(
        f"{detector.name}: {len(mesh.layers)} layers, {mesh.n_voxels} voxels",
        x=0.02,
        ha="left",
        size=12,
        weight="bold",
        color=INK,
    )
    for index, layer in enumerate(mesh.layers):
        axes = figure.add_subplot(rows, columns, index + 1)
        edges = np.array(layer.r_edges)
        draw_rings(axes, edges, layer.nphi)
        style(axes, f"layer {layer.id}: {len(edges) - 1} r x {layer.nphi} phi", "x [mm]", "")
        axes.set_aspect("equal")
        axes.set_xlim(-1.05 * edges[-1], 1.05 * edges[-1])
        axes.set_ylim(-1.05 * edges[-1], 1.05 * edges[-1])
    figure.subplots_adjust(
        left=0.06,
        right=0.985,
        top=1 - 0.75 / figure.get_figheight(),
        bottom=0.45 / figure.get_figheight(),
        wspace=0.28,
        hspace=0.45,
    )
    return figure
