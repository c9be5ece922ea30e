"""Benchmarks and scripts are not run by the tests; at least what they import must exist."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path for folder in ("benchmarks", "scripts") for path in (ROOT / folder).glob("*.py"))


def imported_names(path):
    """Pairs of module and name of every `from caloforge... import name`, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "caloforge":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_imports_exist(path):
    for module, name in imported_names(path):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_programs_are_found():
    assert len(PROGRAMS) > 5
