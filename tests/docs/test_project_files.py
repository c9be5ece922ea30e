"""README, CITATION.cff and CHANGELOG say what is so."""

import re
import tomllib
from collections import Counter

import pytest
import yaml
from pages import NAMES, ROOT, read

from caloforge import __version__
from caloforge.references import REFERENCES


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files_of_the_project(name):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", read(name))
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_the_readme_names_files_that_exist():
    named = re.findall(r"`((?:src|docs|recipes|tests|benchmarks|scripts)/[\w./-]+)`", read("README.md"))
    for path in named:
        # what `make docs` builds
        assert path.startswith("docs/_build/") or (ROOT / path).exists(), path


def test_contributing_shows_the_import_order_of_the_contract():
    [contract] = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("caloforge.", "").replace(" | ", ", ") for layer in contract["layers"]]
    expected = f"`{' > '.join(layers)}`"
    assert expected in " ".join(read("CONTRIBUTING.md").split()), f"write {expected}"


def test_names_of_test_modules_are_unique():
    """Modules of tests are imported by their file name alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md", "CITATION.cff"])
def test_no_page_names_a_place_on_somebodys_machine(name):
    assert not re.findall(r"(?:/home|/Users|/work|/tmp|/root)/\w+", read(name))


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load(read("CITATION.cff"))


def test_the_citation_has_what_the_format_requires(citation):
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert {"message", "title", "authors", "license"} <= citation.keys()
    for work in [citation, *citation["references"]]:
        assert {"title", "authors"} <= work.keys()
        assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in work["authors"])
    assert {work["type"] for work in citation["references"]} <= {"article", "conference-paper"}


def test_the_citation_is_of_this_version(citation):
    assert citation["version"] == __version__
    assert f"## {__version__}" in read("CHANGELOG.md")


def test_the_citation_agrees_with_the_verb_cite(citation):
    everything = " ".join(REFERENCES.values())
    [talk, *geant4] = citation["references"]
    assert talk["title"] in REFERENCES["3DGAN"]
    for author in talk["authors"]:
        assert f"{author['given-names']} {author['family-names']}" in REFERENCES["3DGAN"]
    for work in geant4:
        assert f"{work['volume']} ({work['year']}) {work['start']}" in everything


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_first_what_it_is_for(name):
    """The first block below the title is a sentence, not a command, a table or a figure."""
    title, first = read(name).split("\n\n", 2)[:2]
    assert title.startswith("# ")
    assert re.match(r"[A-Z`*]", first)
    assert "." in first
