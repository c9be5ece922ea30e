"""The pages made from docstrings are complete, and the examples in the docstrings are true."""

import doctest
import importlib
import re

import pytest
from pages import ROOT, read

from caloforge import geometry, observables

PAGES = sorted(path.stem for path in (ROOT / "docs/reference/api").glob("*.md"))
MODULE = re.compile(r"^\.\. (?:automodule|currentmodule):: (caloforge[\w.]*)$", re.MULTILINE)


def modules(page):
    return list(dict.fromkeys(MODULE.findall(read(f"docs/reference/api/{page}.md"))))


def documented(page):
    """Names of the functions and classes on a page."""
    text = read(f"docs/reference/api/{page}.md")
    members = ", ".join(re.findall(r"^ +:members: (.+)$", text, re.MULTILINE))
    directives = re.findall(r"^\.\. auto(?:class|function):: (\w+)", text, re.MULTILINE)
    return {*re.findall(r"\w+", members), *directives}


@pytest.mark.parametrize("name", [name for page in PAGES for name in modules(page)])
def test_examples_in_docstrings_are_true(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_examples(page):
    finder = doctest.DocTestFinder()
    tests = [test for name in modules(page) for test in finder.find(importlib.import_module(name))]
    assert any(test.examples for test in tests)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_documents_exists(page):
    """Sphinx leaves out a member that a module lacks without a warning."""
    parts = [importlib.import_module(name) for name in modules(page)]
    for name in documented(page):
        assert any(hasattr(part, name) for part in parts), name


@pytest.mark.parametrize(("page", "package"), [("observables", observables), ("geometry", geometry)])
def test_everything_public_is_documented(page, package):
    # on the page of the Python interface, and a union of the mesh classes
    elsewhere = {"Detector", "load_detector", "Mesh"}
    assert set(package.__all__) - elsewhere <= documented(page)
