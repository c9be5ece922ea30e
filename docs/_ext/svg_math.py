"""Formulas as SVG drawn by matplotlib, so that the pages need no script from the network."""

import functools
import html
import re

from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextToPath
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

# size of the letters in the drawing, and the units of an em: formulas look small beside the text otherwise
SIZE, EM = 100, 92
FONT = FontProperties(size=SIZE, math_fontfamily="stix")
# of TeX, what matplotlib spells otherwise
SPELLING = {r"\tfrac": r"\frac", r"\lvert": "|", r"\rvert": "|"}
SHORT_FRACTION = re.compile(r"(\\frac)(\d)(\d)")
COMMANDS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C"}


@functools.cache
def svg(formula: str) -> str:
    """An SVG as high as its formula, standing on the base line, in the colour of the text.

    Raises:
        ValueError: Matplotlib does not understand the formula.
    """
    text = " ".join(formula.split())
    for theirs, ours in SPELLING.items():
        text = text.replace(theirs, ours)
    text = SHORT_FRACTION.sub(r"\1{\2}{\3}", text)
    converter = TextToPath()
    width, height, descent = converter.get_text_width_height_descent(f"${text}$", FONT, ismath=True)
    vertices, codes = converter.get_text_path(FONT, f"${text}$", ismath=True)
    segments = []
    for points, code in Outline(vertices, codes).iter_segments(simplify=False, curves=True):
        # screens count downwards
        flipped = " ".join(f"{x:.1f} {-y:.1f}" for x, y in points.reshape(-1, 2))
        segments.append("Z" if code == Outline.CLOSEPOLY else COMMANDS[code] + flipped)
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(formula)}" '
        f'viewBox="0 {descent - height:.1f} {width:.1f} {height:.1f}" '
        f'style="width:{width / EM:.3f}em;height:{height / EM:.3f}em;vertical-align:{-descent / EM:.3f}em">'
        f'<path d="{"".join(segments)}"/></svg>'
    )


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(svg(node.astext()))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on a line of its own."""
    self.body.append(f'<div class="formula">{svg(node.astext())}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer; conf.py chooses it."""
    app.add_html_math_renderer("svg", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
