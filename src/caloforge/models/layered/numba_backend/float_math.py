"""Functions of float32 numbers for compiled loops, and of vectors of LANES numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from caloforge.models.layered.constants import GUMBEL_FROM_NORMAL, LANES, LARGEST_NORMAL
from caloforge.models.layered.numba_backend.simd import (
    FLOATS,
    LOOSE,
    WORDS,
    LanesType,
    everywhere,
    larger,
    pointer,
    smaller,
)

# decorators: functions that become part of what is compiled, and functions that are inlined before it
inner = njit(fastmath=True, error_model="numpy", forceinline=True)
inline = njit(inline="always", fastmath=True)

f32 = np.float32
ZERO, HALF, ONE = f32(0), f32(0.5), f32(1)
LOG2_E = f32(math.log2(math.e))
# 2^x on [-0.5, 0.5] in powers of x: least largest relative error, 7.5e-8
TWO_TO = tuple(
    f32(c) for c in (1.00000007, 0.693146967, 0.240221197, 0.0555071327, 0.00967554133, 0.00132764715)
)
# float32 numbers near this one have no fractional part: their last bits are a whole number
BEHIND = f32(1.5 * 2**23)
GUMBEL = tuple(f32(c) for c in GUMBEL_FROM_NORMAL)
LIMIT = f32(LARGEST_NORMAL)


@intrinsic  # type: ignore[untyped-decorator]
def _moved(_context: Any, value: Any, _by: Any) -> Any:
    """The sum of a value and a number, which the compiler must not cancel as (a + b) - b = a."""

    def generate(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, by = arguments
        if isinstance(signature.args[0], LanesType):
            by = everywhere(builder, by, FLOATS)
        # flags of this operation override those of the function
        return builder.fadd(value, by, flags=LOOSE)

    return value(value, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _times_two_to(_context: Any, value: Any, place: Any) -> Any:
    """A value near 1 times two to a power that is the whole number in the last bits of another."""

    def generate(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = isinstance(signature.args[0], LanesType)
        words, floats = (WORDS, FLOATS) if wide else (ir.IntType(32), ir.FloatType())
        bits, whole = (builder.bitcast(argument, words) for argument in arguments)
        places = ir.IntType(32)(23)
        exponent = builder.shl(whole, everywhere(builder, places, WORDS) if wide else places)
        return builder.bitcast(builder.add(bits, exponent), floats)

    return value(value, place), generate


@intrinsic  # type: ignore[untyped-decorator]
def add(_context: Any, target: Any, at: Any, value: Any, first: Any, second: Any) -> Any:
    """Add a vector to an array: numbers at even places times one weight, at odd places times another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into = pointer(context, builder, signature, arguments, 0, FLOATS)
        weights = ir.Constant(FLOATS, ir.Undefined)
        for number in (0, 1):
            place = ir.Constant(ir.IntType(32), number)
            weights = builder.insert_element(weights, arguments[3 + number], place)
        pattern = ir.Constant(WORDS, [0, 1] * (LANES // 2))
        weights = builder.shuffle_vector(weights, weights, pattern)
        share = builder.fmul(arguments[2], weights, flags=LOOSE)
        builder.store(builder.fadd(builder.load(into, align=4), share, flags=LOOSE), into, align=4)
        return context.get_dummy_value()

    return types.void(target, at, value, first, second), generate


@inline
def exp(x):
    """Exponential of a value between -87 and 87."""
    # the nearest whole number is in the last bits
    place = _moved(x * LOG2_E, BEHIND)
    rest = x * LOG2_E - _moved(place, -BEHIND)
    value = rest * TWO_TO[5] + TWO_TO[4]
    value = value * rest + TWO_TO[3]
    value = value * rest + TWO_TO[2]
    value = value * rest + TWO_TO[1]
    value = value * rest + TWO_TO[0]
    return _times_two_to(value, place)


@inline
def gumbel(x):
    """See `gumbel_from_normal`; of vectors."""
    x = larger(smaller(x, LIMIT), -LIMIT)
    value = x * GUMBEL[8] + GUMBEL[7]
    value = value * x + GUMBEL[6]
    value = value * x + GUMBEL[5]
    value = value * x + GUMBEL[4]
    value = value * x + GUMBEL[3]
    value = value * x + GUMBEL[2]
    value = value * x + GUMBEL[1]
    return value * x + GUMBEL[0]
