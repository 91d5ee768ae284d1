"""One of several values, as a tree of two-way multiplexers."""

from collections.abc import Sequence

from amaranth.hdl import Mux, Value

__all__ = ["choose"]


def choose(values: Sequence[Value], index: Value) -> Value:
    """``values[index]``; beyond the last value, any of them.

    A tree by the index's bits is half the LUTs of the one-hot selection that an ``Array`` becomes.
    """
    if len(values) == 1:
        return values[0]
    half = [values[i] if i + 1 == len(values) else Mux(index[0], values[i + 1], values[i])
            for i in range(0, len(values), 2)]
    return choose(half, index[1:])
