"""Just-in-time compilation with Numba and a cache on disk. Importing this imports Numba (half a second)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*, fastmath: bool) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function to machine code at its first call and cache the code on disk.

    Where neither the folder of the module nor the user's cache can be written, every process compiles anew.

    Args:
        fastmath: Whether the compiler may reorder floating-point operations.
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
