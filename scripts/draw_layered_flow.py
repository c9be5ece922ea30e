"""Draws docs/images/layered-flow.svg: how the layered model makes a shower, with the numbers of equations."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

OUT = Path(__file__).parents[1] / "docs/images/layered-flow.svg"
RESAMPLED, LEARNED, EXACT, DATA = "#dbe7f5", "#fbe3cf", "#e2efda", "#f2f2f2"
# (name, x, y, width, text, colour); x and y of the centre
BOXES = [
    ("condition", 1.45, 4.2, 2.4, "condition\nenergy, angles, particle", DATA),
    ("noise", 1.45, 1.2, 2.4, "noise\n4 numbers, then 2 a cell", DATA),
    ("library", 4.35, 5.6, 2.9, "scores and neighbours of\ntraining showers (3, 4)", RESAMPLED),
    ("splice", 4.35, 4.2, 2.9, "splice three neighbours (5),\nback to features (6)", RESAMPLED),
    ("sums", 7.75, 4.2, 2.9, "energy and hits of every\nradial bin, position (7)", EXACT),
    ("independent", 7.75, 2.7, 2.9, "rate, mean, width of each\ncell by itself (10)", LEARNED),
    ("first", 4.35, 1.2, 2.9, "first draw,\nno couplings (15)", LEARNED),
    ("couplings", 7.75, 1.2, 3.1, "couplings to neighbours (12, 15),\nazimuthal modes (16)", LEARNED),
    ("draw", 11.15, 2.7, 2.9, "hits: the n largest (14),\ntheir energies (17, 8)", LEARNED),
    ("scale", 11.15, 4.2, 2.9, "scaled to the energy\nof every bin (18)", EXACT),
    ("shower", 11.15, 5.6, 2.9, "shower\nlayers × cells, MeV", DATA),
]
# from box to box
ARROWS = """
condition splice, library splice, splice sums, sums independent, sums scale, independent couplings,
independent draw, noise first, first couplings, couplings draw, draw scale, scale shower, noise splice,
independent first
"""
HEIGHT = 0.95


def main():
    """Draw it."""
    mpl.rcParams["svg.fonttype"] = "path"
    mpl.rcParams["svg.hashsalt"] = "layered"
    figure = Figure(figsize=(10.2, 5.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12.9), ylim=(0, 6.7))
    axes.axis("off")
    patches = {}
    for name, x, y, width, text, colour in BOXES:
        patches[name] = FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=colour,
            edgecolor="#444444",
            linewidth=0.9,
        )
        axes.add_patch(patches[name])
        axes.text(x, y, text, ha="center", va="center", fontsize=9, color="black", linespacing=1.35)
    for arrow in ARROWS.split(","):
        start, stop = arrow.split()
        a, b = (next(box for box in BOXES if box[0] == name) for name in (start, stop))
        axes.add_patch(
            FancyArrowPatch(
                a[1:3],
                b[1:3],
                patchA=patches[start],
                patchB=patches[stop],
                arrowstyle="-|>",
                mutation_scale=11,
                color="#444444",
                linewidth=1.1,
                shrinkA=0,
                shrinkB=0,
            )
        )
    colours, meanings = (
        (RESAMPLED, LEARNED, EXACT, DATA),
        ("resampled", "learned", "exact by construction", "in and out"),
    )
    legend = zip(colours, meanings, strict=True)
    for number, (colour, text) in enumerate(legend):
        x = 1.5 + 2.8 * number
        axes.add_patch(
            FancyBboxPatch(
                (x, 0.12),
                0.32,
                0.26,
                boxstyle="square,pad=0",
                facecolor=colour,
                edgecolor="#444444",
                linewidth=0.7,
            )
        )
        axes.text(x + 0.45, 0.25, text, va="center", fontsize=8.5, color="black")
    figure.savefig(OUT, facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
