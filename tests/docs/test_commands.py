"""Every command that a page shows is one the program understands; nothing is run."""

import re

import pytest
from pages import NAMES, command_blocks, commands, inline_commands, read

from caloforge.cli import SUBVERBS, VERBS, build_app

COMMON = {"--json", "--traceback"}
# of the application itself
FLAGS = {"--help", "--version", "--install-completion"}


def verb_of(tokens):
    both = " ".join(tokens[:2])
    return both if both in SUBVERBS else tokens[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_a_page_is_understood(name):
    for tokens in commands(name):
        build_app().parse_args([token for token in tokens if token not in COMMON])


@pytest.mark.parametrize("name", NAMES)
def test_every_command_named_in_the_text_exists(name):
    verbs = {*VERBS, *SUBVERBS}
    for tokens in inline_commands(name):
        if tokens[0] in FLAGS or tokens[0] == "VERB":
            continue
        assert verb_of(tokens) in verbs, tokens
        app = build_app()
        for part in verb_of(tokens).split():
            app = app[part]
        known = {option for argument in app.assemble_argument_collection() for option in argument.names}
        options = {token for token in tokens if re.match(r"--?[a-z]", token)}
        assert options <= known | COMMON, tokens


def test_commands_are_found():
    """The pages are not read past their commands."""
    assert len(commands("README.md")) >= 7
    assert len(commands("docs/tutorial/first-hour.md")) >= 10
    # one behind torchrun, one behind exec with a variable
    assert sum("train" in tokens for tokens in commands("docs/how-to/train.md")) >= 4


def test_a_wrong_command_is_noticed(monkeypatch):
    import pages

    monkeypatch.setattr(pages, "read", lambda _: "    caloforge train run.yaml --dta x.h5 -o runs/first\n")
    [tokens] = commands("wrong.md")
    with pytest.raises(Exception, match="dta"):
        build_app().parse_args(tokens)


def test_every_target_of_make_exists():
    makefile = read("Makefile")
    for name in NAMES:
        shown = re.findall(r"`make (\w+)`", read(name))
        for block in command_blocks(name):
            shown += re.findall(r"^\s*make (\w+)$", block, re.MULTILINE)
        for target in shown:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"
