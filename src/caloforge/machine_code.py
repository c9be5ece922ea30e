"""Loops compiled by Numba. Importing this imports the compiler, about half a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*, fastmath: bool) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: compile a function at its first call, and keep the code on disk for the next process.

    Where no folder can be written, neither that of the module nor the user's cache, every process compiles.

    Args:
        fastmath: Whether sums may be taken in another order.
    """
    options = {"fastmath": fastmath, "nogil": True, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return decorate
