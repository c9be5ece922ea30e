"""The pages made from the code are complete, by another way of asking the code."""

import importlib
import inspect
import re
import sys

import pytest
from pages import ROOT, read

import caloforge
from caloforge import errors
from caloforge.cli import SUBVERBS, VERBS, build_app
from caloforge.run import RunConfig


@pytest.fixture(scope="module")
def generated():
    """What the directives of the documentation write, by name."""
    sys.path.insert(0, str(ROOT / "docs/_ext"))
    try:
        pages = importlib.import_module("caloforge_pages").PAGES
    finally:
        sys.path.pop(0)
    return {name: write() for name, write in pages.items()}


def test_the_command_line_names_every_verb_and_option(generated):
    text = generated["command-line"]
    for verb in [*VERBS, *SUBVERBS]:
        assert f"\n## {verb}\n" in text
    # what cyclopts itself would document
    theirs = set(re.findall(r"(?<=[`, ])--[a-z][a-z-]+", build_app().generate_docs(output_format="markdown")))
    # which may be given by their names too, and what belongs to --install-completion
    hidden = {"--install-completion", "--shell", "--output"}
    positional = {"--run", "--preset", "--source", "--what", "--model", "--truth", "--generated", "--events"}
    positional |= {"--study", "--where"}
    missing = {option for option in theirs - positional - hidden if option not in text}
    assert not missing


def test_run_yaml_names_every_key_with_its_default(generated):
    text = generated["run-yaml"]
    for name, definition in RunConfig.model_json_schema()["$defs"].items():
        section = next(part for part in text.split("\n\n") if _rows(part) >= _keys(definition))
        assert section, name
    assert "| `production_cut` | length, such as `5 mm` | `0.7 mm` |" in text
    assert "| `precision` | `auto`, `fp32`, `bf16` | `auto` |" in text
    assert "| `patience` | integer, at least 1, or `null` | `null` |" in text


def _rows(section):
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def _keys(definition):
    # the kind of an alternative stands above its table
    properties = definition["properties"]
    return {key for key, value in properties.items() if not (key in ("kind", "family") and "const" in value)}


def test_links_inside_run_yaml_lead_to_its_sections(generated):
    text = generated["run-yaml"]
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= set(re.findall(r"^\(([\w-]+)\)=", text, re.MULTILINE))


def test_every_error_class_is_listed(generated):
    for name, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, errors.CaloforgeError) and found is not errors.CaloforgeError:
            assert re.search(rf"^\| `{name}` \|.+\| {found.exit_code} \|$", generated["errors"], re.MULTILINE)


def test_every_metric_is_listed(generated):
    from caloforge.metrics.registry import metrics

    for name, definition in metrics().items():
        assert f"| `{name}` | {definition.label} |" in generated["metrics"]


def test_python_lists_everything_public():
    directives = re.findall(
        r"\.\. auto(?:function|class|module):: (?:caloforge\.)?(\w+)", read("docs/reference/python.md")
    )
    mentioned = set(re.findall(r"`caloforge\.(\w+)`", read("docs/reference/errors.md")))
    assert set(caloforge.__all__) - {"__version__"} <= mentioned.union(directives)


def test_formulas_are_drawn_without_the_network():
    sys.path.insert(0, str(ROOT / "docs/_ext"))
    try:
        svg_math = importlib.import_module("svg_math")
    finally:
        sys.path.pop(0)
    drawn = svg_math.svg(r"\sigma/E = a/\sqrt{E} \oplus \tfrac12")
    assert drawn.startswith("<svg")
    assert drawn.count("M") > 5
    assert "http" not in drawn
