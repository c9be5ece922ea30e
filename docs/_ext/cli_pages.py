"""The command line as Markdown, from the application itself."""

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
from markdown_table import table

from caloforge.cli import SUBVERBS, VERBS, build_app

VALUES = {Path: "PATH", int: "N", float: "X", str: "TEXT"}


def verbs() -> Iterator[tuple[str, cyclopts.App]]:
    """Every verb with its application, in the order of the help."""
    app = build_app()
    for name in VERBS:
        yield name, app[name]
    for name in SUBVERBS:
        parent, verb = name.split()
        yield name, app[parent][verb]


def command_line() -> str:
    """A section for each verb: what it does, how it is called, its arguments and options."""
    return "\n\n".join(_verb(name, app) for name, app in verbs())


def _verb(name: str, app: cyclopts.App) -> str:
    arguments = app.assemble_argument_collection(parse_docstring=True)
    usage = " ".join(["caloforge", name, *(_usage(argument) for argument in arguments if argument.required)])
    rows = [[_spelling(argument), _meaning(argument), _default(argument)] for argument in arguments]
    options = table(["Option", "Meaning", "Default"], rows) if rows else "It has no options of its own."
    return f"(cli-{name.replace(' ', '-')})=\n## {name}\n\n{app.help}\n\n```sh\n{usage}\n```\n\n{options}"


def _usage(argument: cyclopts.Argument) -> str:
    value = _value(argument)
    return value if _is_positional(argument) else f"{argument.names[0]} {value}"


def _is_positional(argument: cyclopts.Argument) -> bool:
    return argument.index is not None


def _spelling(argument: cyclopts.Argument) -> str:
    if _is_positional(argument):
        several = argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL
        return f"`{_value(argument)}{' ...' if several else ''}`"
    # cyclopts offers to empty every list, which no list here needs
    names = [name for name in argument.names if not name.startswith("--empty-")]
    value = "" if argument.hint is bool else f" {_value(argument)}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _value(argument: cyclopts.Argument) -> str:
    """What stands for the value of an argument."""
    name = argument.name.lstrip("-").upper()
    if _is_positional(argument):
        return name
    if name == "SET":
        return "KEY=VALUE"
    return next((VALUES[part] for part in _alternatives(argument.hint) if part in VALUES), name)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if is_union else (hint,)


def _meaning(argument: cyclopts.Argument) -> str:
    choices = [
        f"`{choice}`"
        for part in _alternatives(argument.hint)
        if typing.get_origin(part) is typing.Literal
        for choice in typing.get_args(part)
    ]
    return argument.parameter.help + (f" One of {', '.join(choices)}." if choices else "")


def _default(argument: cyclopts.Argument) -> str:
    default = argument.field_info.default
    if argument.required:
        return "required"
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default is None or default is argument.field_info.empty else f"`{default}`"
