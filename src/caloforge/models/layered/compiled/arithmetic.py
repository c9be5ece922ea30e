"""What the loops of `layers.py` and `cells.py` are made of: functions of numbers, and of sixteen at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from caloforge.models.layered.compiled.lanes import (
    FLOATS,
    LOOSE,
    WORDS,
    LanesType,
    everywhere,
    larger,
    pointer,
    smaller,
)
from caloforge.models.layered.constants import GUMBEL_OF_NORMAL, LANES, LARGEST_NORMAL

# parts of what is compiled; what is copied into loops
inner = njit(fastmath=True, error_model="numpy", forceinline=True)
inline = njit(inline="always", fastmath=True)

f32 = np.float32
ZERO, HALF, ONE = f32(0), f32(0.5), f32(1)
LOG2_E = f32(math.log2(math.e))
# 2^x on [-0.5, 0.5] in powers of x: least largest relative error, 7.5e-8
TWO_TO = tuple(
    f32(c) for c in (1.00000007, 0.693146967, 0.240221197, 0.0555071327, 0.00967554133, 0.00132764715)
)
# a float32 near this one has no places behind the point: its last bits are a whole number
BEHIND = f32(1.5 * 2**23)
GUMBEL = tuple(f32(c) for c in GUMBEL_OF_NORMAL)
LIMIT = f32(LARGEST_NORMAL)


@intrinsic  # type: ignore[untyped-decorator]
def _moved(_context: Any, value: Any, _by: Any) -> Any:
    """The sum of a value and a number, which no compiler takes apart because (a + b) - b should be a."""

    def generate(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, by = arguments
        if isinstance(signature.args[0], LanesType):
            by = everywhere(builder, by, FLOATS)
        # an operation with flags of its own keeps to them
        return builder.fadd(value, by, flags=LOOSE)

    return value(value, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _times_two_to(_context: Any, value: Any, place: Any) -> Any:
    """A value near 1 times two to the whole number in the last bits of another, added to its exponent."""

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
    """Add lanes to numbers of an array: those at even places times one weight, at odd ones another."""

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
    """Of a value between -87 and 87."""
    # the nearest whole number is in the last bits of the place
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
    """See `gumbel_of_normal`; of lanes."""
    x = larger(smaller(x, LIMIT), -LIMIT)
    value = x * GUMBEL[8] + GUMBEL[7]
    value = value * x + GUMBEL[6]
    value = value * x + GUMBEL[5]
    value = value * x + GUMBEL[4]
    value = value * x + GUMBEL[3]
    value = value * x + GUMBEL[2]
    value = value * x + GUMBEL[1]
    return value * x + GUMBEL[0]
