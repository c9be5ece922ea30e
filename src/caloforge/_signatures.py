"""Signatures of the verbs for `help` and editors, without the annotations of the command line."""

from __future__ import annotations

import functools
import inspect
import operator
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints


@functools.cache
def readable(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb with a plain signature, in which text is accepted for a path as well."""

    @functools.wraps(verb)
    def call(*arguments: Any, **keywords: Any) -> Any:
        return verb(*arguments, **keywords)

    hints = {name: _widened(hint) for name, hint in get_type_hints(verb).items()}
    signature = inspect.signature(verb)
    parameters = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=hints.get("return", inspect.Signature.empty)
    )
    call.__annotations__ = hints
    call.__module__ = "caloforge"
    return call


def _widened(hint: Any) -> Any:
    """A type hint with `Path` widened to `Path | str`."""
    if hint is Path:
        return Path | str
    if get_origin(hint) in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(_widened, get_args(hint)))
    if get_origin(hint) is list:
        return list[_widened(*get_args(hint))]  # type: ignore[misc]
    return hint
