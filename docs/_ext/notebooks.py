"""Notebooks as pages: their cells are run while the pages are built, and what they show is shown."""

import ast
import base64
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def run_notebook(document: dict[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """The cells in order: kind, source, and what a code cell printed and ended with.

    Args:
        document: A notebook, version 4.

    Raises:
        Exception: Whatever a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in document["cells"]:
            source = "".join(cell["source"])
            yield cell["cell_type"], source, _run(source, names) if cell["cell_type"] == "code" else []


def _run(source: str, names: dict[str, Any]) -> list[Any]:
    tree, last = ast.parse(source), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, "<cell>", "exec"), names)  # noqa: S102 - our own pages
        value = None if last is None else eval(compile(last, "<cell>", "eval"), names)  # noqa: S307
    return [*([printed.getvalue()] if printed.getvalue() else []), *([] if value is None else [value])]


def markdown_of(document: dict[str, Any]) -> str:
    """A page with the cells and what they show."""
    parts = []
    for kind, source, outputs in run_notebook(document):
        parts.append(source if kind == "markdown" else f"```python\n{source}\n```")
        parts += map(_shown, outputs)
    return "\n\n".join(parts) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"```{{code-block}} text\n{value.rstrip()}\n```"
    if hasattr(value, "_repr_png_"):
        return f"![](data:image/png;base64,{base64.b64encode(value._repr_png_()).decode()})"
    if hasattr(value, "_repr_html_"):
        return f"```{{raw}} html\n{value._repr_html_()}\n```"
    return f"```{{code-block}} text\n{value!r}\n```"


class NotebookParser(MystParser):
    """Parses the page of a notebook."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Run the notebook in a process of its own, where nothing is mocked, and parse its page."""
        command = [sys.executable, __file__]
        done = subprocess.run(command, input=inputstring, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            raise ExtensionError(f"{document['source']}: a cell failed\n{done.stderr}")
        super().parse(done.stdout, document)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the suffix."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.stdout.write(markdown_of(json.load(sys.stdin)))
