"""The array of a configuration: rows in, rows out, a stated latency.

All strategies have the members of ``Array``; with pairs, those of ``Pairs``.
"""

from typing import Any

from .array import Array
from .array_ecp5 import Ecp5Array
from .array_ice40 import Ice40Array
from .array_soft import SoftArray
from .pairs import Pairs
from .parts import ArrayConfig

__all__ = ["array_of"]


def array_of(array: ArrayConfig) -> Any:
    """A new array, a component with ``latency`` and ``sum_bits``."""
    if array.strategy == "ecp5":
        return Ecp5Array(rows=array.rows, cols=array.cols, pairs=array.pairs, fanout=array.fanout,
                         soft_cols=array.soft_cols)
    if array.strategy == "ice40":
        return Ice40Array(rows=array.rows, cols=array.cols)
    if array.pairs:
        return Pairs(nibbles=_of_cells(array, cols=2 * array.cols, bits=5, fanout=2 * array.fanout))
    return _of_cells(array, cols=array.cols, bits=array.weight_bits, fanout=array.fanout)


def _of_cells(array: ArrayConfig, *, cols: int, bits: int, fanout: int) -> Any:
    """An array of cells for weights of so many bits."""
    if array.strategy == "soft":
        return SoftArray(rows=array.rows, cols=cols, cell="ternary" if bits == 2 else "int4",
                         digits=bits == 5, fanout=fanout)
    return Array(rows=array.rows, cols=cols, weight_bits=bits, fanout=fanout, gated=array.gated,
                 carry=array.strategy == "soft_ecp5")
