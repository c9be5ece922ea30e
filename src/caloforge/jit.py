"""Just-in-time compilation with Numba and a cache on disk. Importing this imports Numba (half a second)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from numba import njit

# two threads that call a function before it is compiled: Numba's preparations before its own lock are not
# thread-safe, and the compilation fails at random with a KeyError
_compiling = threading.RLock()


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
            return _one_at_a_time(njit(**options)(function))
        save = dispatcher._cache.save_overload

        def save_if_possible(*code: Any) -> None:
            with contextlib.suppress(OSError):
                save(*code)

        dispatcher._cache.save_overload = save_if_possible
        return _one_at_a_time(dispatcher)

    return decorate


def _one_at_a_time(dispatcher: Any) -> Any:
    """Let only one thread compile; the others wait, and find the code compiled."""
    compile_for_args = dispatcher._compile_for_args

    def compile_alone(*args: Any, **options: Any) -> Any:
        with _compiling:
            return compile_for_args(*args, **options)

    dispatcher._compile_for_args = compile_alone
    return dispatcher
