"""The directive `{caloforge-pages} NAME`: Markdown that is made from the code at build time."""

import inspect

from cli_pages import command_line
from docutils import nodes
from markdown_table import table
from run_pages import run_yaml, study_yaml
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from caloforge import errors
from caloforge.errors import CaloforgeError
from caloforge.metrics.registry import THRESHOLD_KINDS, metrics


def error_classes() -> str:
    """Every error class, what it means and the exit code it leads to."""
    classes = [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, CaloforgeError) and cls is not CaloforgeError
    ]
    rows = [[f"`{cls.__name__}`", inspect.getdoc(cls) or "", str(cls.exit_code)] for cls in classes]
    return table(["Class", "Means", "Exit code"], rows)


def metric_table() -> str:
    """Every registered metric: its name, what it is, and what of it is compared with a threshold."""
    rows = [
        [
            f"`{d.name}`",
            d.label,
            THRESHOLD_KINDS[d.threshold] if d.threshold else "never",
            {"training": "`--training`", "classifier": "not with `--no-classifier`", None: ""}[d.requires],
        ]
        for d in metrics().values()
    ]
    return table(["Metric", "What it is", "Compared with the threshold", "Measured"], rows)


PAGES = {
    "command-line": command_line,
    "run-yaml": run_yaml,
    "study-yaml": study_yaml,
    "errors": error_classes,
    "metrics": metric_table,
}


class Pages(SphinxDirective):
    """Parses what a function of `PAGES` writes as a part of the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the Markdown."""
        return self.parse_text_to_nodes(PAGES[self.arguments[0]](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("caloforge-pages", Pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
