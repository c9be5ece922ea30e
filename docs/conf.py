"""Sphinx configuration. The build needs no network."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from sphinx.application import Sphinx

from caloforge import __version__

# where "edit this page" leads
SOURCE = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["urls"][
    "Source"
]

project = "caloforge"
author = "The caloforge developers"
copyright = "2026, The caloforge developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "caloforge_pages",
    "notebooks",
    "svg_math",
]
exclude_patterns = ["_build", "_ext"]
# indented examples are commands
highlight_language = "sh"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# signatures show names and defaults; types stand with the descriptions
autodoc_typehints = "none"
autodoc_preserve_defaults = True
# keeps the underscore of set_
strip_signature_backslash = True
# docstrings use plain backticks for code
default_role = "code"
autodoc_member_order = "bysource"
# of pydantic, no part of the interface
autodoc_default_options = {"exclude-members": "model_config"}
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

copybutton_prompt_text = "$ "

html_math_renderer = "svg"
html_theme = "furo"
html_theme_options = {
    "source_repository": SOURCE,
    "source_branch": "main",
    "source_directory": "docs/",
}
html_title = f"caloforge {version}"
html_static_path = ["_static"]
html_css_files = ["caloforge.css"]
html_show_sphinx = False
html_copy_source = False


def plain_docstring(
    _app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Shapes such as (N, *shape) are no emphasis, and a colon in a property announces no type."""
    lines[:] = [re.sub(r"(?<!\*)\*(?=\w)(?!\w+\*)", r"\\*", line) for line in lines]
    if what == "property":
        lines[0] = lines[0].replace(": ", " – ", 1)


def setup(app: Sphinx) -> None:
    """Before napoleon, whose own markup must stay."""
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
