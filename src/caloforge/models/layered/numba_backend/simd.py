"""Vectors of LANES float32 numbers as values of compiled code, with the operations of `cell_sampler.py`.

Loops that a compiler is to vectorise need checks that arrays do not overlap; explicit vectors need none. A
processor with narrower registers takes several of them for one vector.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from caloforge.models.layered.constants import LANES

FLOATS = ir.VectorType(ir.FloatType(), LANES)
WORDS = ir.VectorType(ir.IntType(32), LANES)
FLAGS = ir.VectorType(ir.IntType(1), LANES)
EVERYWHERE = ir.Constant(WORDS, [0] * LANES)
# a product and a sum may be one operation; but (a + b) - b stays what it is
LOOSE = ("contract", "nsz", "nnan", "ninf")


class LanesType(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        """Name the type."""
        super().__init__(name="Lanes")


lanes_type = LanesType()


@register_model(LanesType)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


def pointer(context: Any, builder: Any, signature: Any, arguments: Any, array: int, lanes: Any) -> Any:
    """Pointer into the argument `array`, flat, at the index that is the next argument."""
    data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
    index = context.cast(builder, arguments[array + 1], signature.args[array + 1], types.uint64)
    return builder.bitcast(builder.gep(data, [index]), lanes.as_pointer())


def everywhere(builder: Any, value: Any, lanes: Any) -> Any:
    """One value in all lanes."""
    one = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, EVERYWHERE)


@intrinsic  # type: ignore[untyped-decorator]
def load(_context: Any, array: Any, start: Any) -> Any:
    """Read a vector from an array, flat, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(pointer(context, builder, signature, arguments, 0, FLOATS), align=4)

    return lanes_type(array, start), generate


@intrinsic  # type: ignore[untyped-decorator]
def load_pair(_context: Any, array: Any, start: Any) -> Any:
    """Read two numbers of an array, from an index on, and repeat them in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pair = ir.VectorType(ir.FloatType(), 2)
        value = builder.load(pointer(context, builder, signature, arguments, 0, pair), align=4)
        return builder.shuffle_vector(value, value, ir.Constant(WORDS, [0, 1] * (LANES // 2)))

    return lanes_type(array, start), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(_context: Any, value: Any, array: Any, start: Any) -> Any:
    """Write a vector to an array, flat, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[0], pointer(context, builder, signature, arguments, 1, FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(value, array, start), generate


@intrinsic  # type: ignore[untyped-decorator]
def gather(_context: Any, array: Any, offset: Any, indices: Any, start: Any) -> Any:
    """Read an array at uint32 indices, which another array holds from `start` on, plus an offset."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        first = pointer(context, builder, signature, arguments, 0, ir.FloatType())
        places = pointer(context, builder, signature, arguments, 2, word)
        value = ir.Constant(FLOATS, ir.Undefined)
        for lane in range(LANES):
            place = builder.zext(builder.load(builder.gep(places, [word(lane)])), ir.IntType(64))
            value = builder.insert_element(value, builder.load(builder.gep(first, [place])), word(lane))
        return value

    return lanes_type(array, offset, indices, start), generate


def _operation(name: str) -> Any:
    """An intrinsic of two values, one of which may be a number."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(_context: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            both = [
                argument
                if isinstance(kind, LanesType)
                else everywhere(builder, context.cast(builder, argument, kind, types.float32), FLOATS)
                for argument, kind in zip(arguments, signature.args, strict=True)
            ]
            if name in ("min", "max"):
                smaller = builder.fcmp_ordered("<", *both, flags=LOOSE)
                return builder.select(smaller, *(both if name == "min" else both[::-1]))
            return getattr(builder, name)(*both, flags=LOOSE)

        return lanes_type(left, right), generate

    return operation


_plus, _minus, _times, _over = (_operation(name) for name in ("fadd", "fsub", "fmul", "fdiv"))
smaller, larger = _operation("min"), _operation("max")


def _overload(symbol: Any, operation: Any) -> None:
    """Let an operator of Python stand for an intrinsic where one operand is a vector."""

    @overload(symbol, strict=False)  # type: ignore[untyped-decorator]
    def chosen(left: Any, right: Any) -> Any:
        if isinstance(left, LanesType) or isinstance(right, LanesType):
            return lambda left, right: operation(left, right)
        return None


_overload(operator.add, _plus)
_overload(operator.sub, _minus)
_overload(operator.mul, _times)
_overload(operator.truediv, _over)


@intrinsic  # type: ignore[untyped-decorator]
def sum_of(_context: Any, value: Any) -> Any:
    """Sum over the lanes."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.FloatType()
        kind = ir.FunctionType(word, [word, FLOATS])
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        reduce = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(reduce, [word(0.0), arguments[0]], fastmath=("reassoc",))

    return types.float32(value), generate


@intrinsic  # type: ignore[untyped-decorator]
def first_of(_context: Any, value: Any, number: Any) -> Any:
    """The first lanes, a number of them or all, and 0 in the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[1], signature.args[1], types.uint32)
        lane = ir.Constant(WORDS, list(range(LANES)))
        inside = builder.icmp_unsigned("<", lane, everywhere(builder, number, WORDS))
        return builder.select(inside, arguments[0], ir.Constant(FLOATS, [0.0] * LANES))

    return lanes_type(value, number), generate


@intrinsic  # type: ignore[untyped-decorator]
def above(_context: Any, value: Any, bound: Any) -> Any:
    """Lanes that are above a number, as bits of a uint32, the first lane the lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bound = context.cast(builder, arguments[1], signature.args[1], types.float32)
        flags = builder.fcmp_ordered(">", arguments[0], everywhere(builder, bound, FLOATS))
        return builder.zext(builder.bitcast(flags, ir.IntType(LANES)), ir.IntType(32))

    return types.uint32(value, bound), generate


@intrinsic  # type: ignore[untyped-decorator]
def count(_context: Any, _bits: Any) -> Any:
    """Number of bits that are set."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint32(types.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def pack(_context: Any, _bits: Any, first: Any, listed: Any, found: Any) -> Any:
    """Append the indices of the lanes that are set to a list.

    What the list has after them is overwritten.

    Args:
        _bits: Lanes, from `above`.
        first: Index of the first lane.
        listed: The list, uint32.
        found: Its length so far.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flags = builder.bitcast(builder.trunc(arguments[0], ir.IntType(LANES)), FLAGS)
        start = context.cast(builder, arguments[1], signature.args[1], types.uint32)
        places = builder.add(ir.Constant(WORDS, list(range(LANES))), everywhere(builder, start, WORDS))
        kind = ir.FunctionType(WORDS, [WORDS, FLAGS, WORDS])
        name = f"llvm.experimental.vector.compress.v{LANES}i32"
        compress = cgutils.get_or_insert_function(builder.module, kind, name)
        packed = builder.call(compress, [places, flags, ir.Constant(WORDS, [0] * LANES)])
        builder.store(packed, pointer(context, builder, signature, arguments, 2, WORDS), align=4)
        return context.get_dummy_value()

    return types.void(types.uint32, first, listed, found), generate
