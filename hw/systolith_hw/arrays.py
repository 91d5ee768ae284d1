"""The array of a configuration: rows in, rows out, a stated latency.

All strategies have the members of ``Array``; with pairs, those of ``Pairs``.
"""

from functools import lru_cache
from typing import Any

from .array import Array
from .cells import unused
from .pairs import Pairs
from .parts import ArrayConfig

__all__ = ["array_latency", "array_of", "weight_bits"]


def weight_bits(array: ArrayConfig) -> int:
    """Bits of a weight as the array takes it; the low digits of wider ones count from 0."""
    return {"int8": 8, "int4": 4 if array.most_digits == 1 else 5, "ternary": 2}[array.cell]


def array_of(array: ArrayConfig) -> Any:
    """A new array, a component with ``latency`` and ``sum_bits``."""
    if array.pairs:
        return Pairs(nibbles=Array(rows=array.rows, cols=2 * array.cols, weight_bits=5,
                                   fanout=2 * array.fanout, gated=array.gated))
    return Array(rows=array.rows, cols=array.cols, weight_bits=weight_bits(array),
                 fanout=array.fanout, gated=array.gated)


@lru_cache(maxsize=256)
def array_latency(array: ArrayConfig) -> int:
    """Cycles from a row of activations to its sums."""
    component = array_of(array)
    unused(component)
    return component.latency
