"""What the loops of `layers.py` and `cells.py` are made of: operations on many numbers at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from caloforge.models.layered.context import KERNEL
from caloforge.models.layered.density import GUMBEL_OF_NORMAL, LARGEST_NUMBER

# parts of what is compiled; what is copied into loops
inner = njit(fastmath=True, error_model="numpy")
inline = njit(inline="always", fastmath=True)

f32 = np.float32
ZERO, HALF, ONE = f32(0), f32(0.5), f32(1)
# numbers that a processor takes at once
LANES = 16
# numbers in a row of the kernels: a pair for each cell, one cell more than there are
WIDE = 2 * (KERNEL + 1)
LOG2_E = f32(math.log2(math.e))
# 2^x on [-0.5, 0.5] in powers of x, relative error 2e-7
TWO_TO = tuple(f32(math.log(2) ** k / math.factorial(k)) for k in range(7))
GUMBEL = tuple(f32(c) for c in GUMBEL_OF_NORMAL)
LIMIT = f32(LARGEST_NUMBER)


@intrinsic  # type: ignore[untyped-decorator]
def _float_of_bits(_context: Any, _bits: Any) -> Any:
    """The float32 that has the bits of an int32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _lanes_at(context: Any, builder: Any, signature: Any, arguments: Any, array: int, lanes: Any) -> Any:
    """Pointer to some lanes of the argument `array`, from the index that is the next argument on."""
    data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
    index = context.cast(builder, arguments[array + 1], signature.args[array + 1], types.uint64)
    return builder.bitcast(builder.gep(data, [index]), lanes.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def add(_context: Any, target: Any, at: Any, source: Any, start: Any, first: Any, second: Any) -> Any:
    """Add WIDE float32 numbers to others: those at even places times one weight, at odd ones another.

    A loop would have to make sure again and again that the two arrays do not overlap.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), WIDE)
        into, out_of = (_lanes_at(context, builder, signature, arguments, place, lanes) for place in (0, 2))
        weights = ir.Constant(lanes, ir.Undefined)
        for number in (0, 1):
            place = ir.Constant(ir.IntType(32), number)
            weights = builder.insert_element(weights, arguments[4 + number], place)
        pattern = ir.Constant(ir.VectorType(ir.IntType(32), WIDE), [0, 1] * (WIDE // 2))
        weights = builder.shuffle_vector(weights, weights, pattern)
        share = builder.fmul(builder.load(out_of, align=4), weights, flags=("fast",))
        builder.store(builder.fadd(builder.load(into, align=4), share, flags=("fast",)), into, align=4)
        return context.get_dummy_value()

    return types.void(target, at, source, start, first, second), generate


@intrinsic  # type: ignore[untyped-decorator]
def pack(
    _context: Any, values: Any, start: Any, least: Any, first: Any, stop: Any, listed: Any, found: Any
) -> Any:
    """Of LANES values those above the least, from one lane to another: their places go behind those found.

    Returns their number; what lies behind them in the list is overwritten.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, flags = ir.IntType(32), ir.VectorType(ir.IntType(1), LANES)
        floats, words = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(word, LANES)

        def integer(number: int, type_: Any) -> Any:
            return context.cast(builder, arguments[number], signature.args[number], type_)

        def everywhere(value: Any, lanes: Any) -> Any:
            one = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(word, 0))
            return builder.shuffle_vector(one, one, ir.Constant(words, [0] * LANES))

        lane = ir.Constant(words, list(range(LANES)))
        value = builder.load(_lanes_at(context, builder, signature, arguments, 0, floats), align=4)
        mask = builder.fcmp_ordered(">", value, everywhere(arguments[2], floats))
        low, high = (everywhere(integer(number, types.uint32), words) for number in (3, 4))
        mask = builder.and_(mask, builder.icmp_unsigned(">=", lane, low))
        mask = builder.and_(mask, builder.icmp_unsigned("<", lane, high))
        places = builder.add(lane, everywhere(integer(1, types.uint32), words))
        kind = ir.FunctionType(words, [words, flags, words])
        name = f"llvm.experimental.vector.compress.v{LANES}i32"
        compress = cgutils.get_or_insert_function(builder.module, kind, name)
        packed = builder.call(compress, [places, mask, ir.Constant(words, ir.Undefined)])
        builder.store(packed, _lanes_at(context, builder, signature, arguments, 5, words), align=4)
        bits = builder.bitcast(mask, ir.IntType(LANES))
        return builder.zext(builder.ctpop(bits), ir.IntType(64))

    return types.uint64(values, start, least, first, stop, listed, found), generate


@inline
def exp(x):
    """Of a float32, in operations that processors do on many numbers at once."""
    x = min(max(x * LOG2_E, f32(-120)), f32(120))
    # to the nearest whole number: conversion cuts off, and all are above -128
    whole = types.int32(x + f32(128.5)) - types.int32(128)
    rest = x - f32(whole)
    value = TWO_TO[6]
    value = value * rest + TWO_TO[5]
    value = value * rest + TWO_TO[4]
    value = value * rest + TWO_TO[3]
    value = value * rest + TWO_TO[2]
    value = value * rest + TWO_TO[1]
    value = value * rest + TWO_TO[0]
    return value * _float_of_bits(types.int32((whole + types.int32(127)) << types.int32(23)))


@inline
def gumbel(x):
    """See `gumbel_of_normal`."""
    x = min(max(x, -LIMIT), LIMIT)
    value = GUMBEL[8]
    value = value * x + GUMBEL[7]
    value = value * x + GUMBEL[6]
    value = value * x + GUMBEL[5]
    value = value * x + GUMBEL[4]
    value = value * x + GUMBEL[3]
    value = value * x + GUMBEL[2]
    value = value * x + GUMBEL[1]
    return value * x + GUMBEL[0]
