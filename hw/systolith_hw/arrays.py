"""The array of a configuration: rows in, rows out, a stated latency.

All strategies have the members of ``Array``; with pairs, those of ``Pairs``.
"""

from functools import lru_cache
from typing import Any

from .array import Array
from .array_ecp5 import ArrayEcp5
from .array_ice40 import Ice40Array
from .array_soft import SoftArray
from .cells import unused
from .pairs import Pairs
from .parts import ArrayConfig

__all__ = ["array_latency", "array_of", "weight_bits"]


def weight_bits(array: ArrayConfig) -> int:
    """Bits of a weight as the array takes it; the low digits of wider ones count from 0."""
    return {"int8": 8, "int4": 4 if array.most_digits == 1 else 5, "ternary": 2}[array.cell]


def array_of(array: ArrayConfig) -> Any:
    """A new array, a component with ``latency`` and ``sum_bits``."""
    if array.strategy == "ecp5":
        return ArrayEcp5(rows=array.rows, cols=array.cols, pairs=array.pairs, fanout=array.fanout)
    if array.strategy == "ice40":
        return Ice40Array(rows=array.rows, cols=array.cols)
    if array.pairs:
        return Pairs(nibbles=_of_cells(array, cols=2 * array.cols, bits=5, fanout=2 * array.fanout))
    return _of_cells(array, cols=array.cols, bits=weight_bits(array), fanout=array.fanout)


def _of_cells(array: ArrayConfig, *, cols: int, bits: int, fanout: int) -> Any:
    """An array of cells for weights of so many bits."""
    if array.strategy == "generic":
        return Array(rows=array.rows, cols=cols, weight_bits=bits, fanout=fanout)
    return SoftArray(rows=array.rows, cols=cols, cell="ternary" if bits == 2 else "int4",
                     digits=bits == 5, fanout=fanout,
                     family="ecp5" if array.strategy == "soft_ecp5" else "generic")


@lru_cache(maxsize=256)
def array_latency(array: ArrayConfig) -> int:
    """Cycles from a row of activations to its sums."""
    component = array_of(array)
    unused(component)
    return component.latency
