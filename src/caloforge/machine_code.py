"""Loops compiled by Numba. Importing this imports the compiler, about half a second."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*, fastmath: bool) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: compile a function at its first call, and keep the code on disk for the next process.

    Where no folder can be written, neither that of the module nor the user's cache, or the disk is full,
    every process compiles.

    Args:
        fastmath: Whether sums may be taken in another order.
    """
    options = {"fastmath": fastmath, "nogil": True, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            dispatcher = njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)
        save = dispatcher._cache.save_overload

        def save_if_possible(*code: Any) -> None:
            with contextlib.suppress(OSError):
                save(*code)

        dispatcher._cache.save_overload = save_if_possible
        return dispatcher

    return decorate
