"""The processor's prefetch instruction for kernels, which numba does not offer by itself."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FOR_READING, _KEEP_IN_SECOND_CACHE, _KEEP_IN_ALL_CACHES, _DATA = 0, 2, 3, 1


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Have ``array[index]`` of a one-dimensional array fetched into the caches while the kernel goes on.

    A kernel that decides after each load waits for memory each time; one that asks for the next thousand places first
    waits for them side by side, also where it writes: a store that misses holds up those behind it. ``index`` is not
    checked, as in any kernel.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, index_kind = signature.args
        held = context.make_array(kind)(context, builder, arguments[0])
        at = context.cast(builder, arguments[1], index_kind, types.intp)
        place = cgutils.get_item_pointer(context, builder, kind, held, [at], wraparound=False)
        return _ask(context, builder, builder.bitcast(place, cgutils.voidptr_t), _KEEP_IN_SECOND_CACHE)

    return types.void(array, index), generate


@intrinsic
def prefetch_address(typing_context: Any, address: Any) -> Any:
    """The same of an address, which is read soon."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _ask(context, builder, builder.inttoptr(arguments[0], cgutils.voidptr_t), _KEEP_IN_ALL_CACHES)

    return types.void(types.uint64), generate


def _ask(context: Any, builder: Any, place: Any, keep: int) -> Any:
    word = ir.IntType(32)
    asked = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
    instruction = cgutils.get_or_insert_function(builder.module, asked, "llvm.prefetch.p0")
    builder.call(instruction, [place, word(_FOR_READING), word(keep), word(_DATA)])
    return context.get_dummy_value()
