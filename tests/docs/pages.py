"""The pages for users and what stands in them: blocks of code and commands."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
DIRECTIVE_OPTIONS = re.compile(r"\A(?: *:\w+:.*\n)+")
INDENTED = re.compile(r"(?:^ {4,}\S.*\n?(?:^\s*\n)*)+", re.MULTILINE)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, language):
    """Fenced blocks of a language, `{code-block}` included, without the options of the directive."""
    return [
        DIRECTIVE_OPTIONS.sub("", match["body"])
        for match in FENCE.finditer(read(name))
        if match["info"].replace("{code-block}", "").strip() == language
    ]


def command_blocks(name):
    """Blocks that a shell could run: fenced ones in `sh`, and indented ones."""
    rest = FENCE.sub("", read(name))
    return [*blocks(name, "sh"), *(match[0] for match in INDENTED.finditer(rest))]


def commands(name):
    """Arguments of every caloforge command in the blocks of a page."""
    found = []
    for block in command_blocks(name):
        values = dict(re.findall(r"(?:^|\s)(\w+)=(\S+?);?(?=\s|$)", block))
        for line in block.replace("\\\n", " ").splitlines():
            if re.search(r"\bcaloforge\b", line) and "-->" not in line:
                found += _commands(line, values)
    return found


def _commands(line, values):
    for part in re.split(r"&&|;|\|", line):
        filled = re.sub(r"\$\{?(\w+)\}?", lambda match: _value(match[1], values), part)
        tokens = shlex.split(filled, comments=True)
        if "caloforge" in tokens:
            start = tokens.index("caloforge")
            ahead = [token for token in tokens[:start] if token != "exec" and "=" not in token]
            # a program that starts it as a module, or nothing
            if not ahead or ahead[-1] == "-m":
                yield tokens[start + 1 :]


def _value(variable, values):
    value = values.get(variable, "1")
    return "1" if "$" in value else value


def inline_commands(name):
    """Arguments of the commands that are named in the text."""
    text = FENCE.sub("", read(name))
    return [shlex.split(command) for command in re.findall(r"`caloforge\s+([^`]+)`", text)]
