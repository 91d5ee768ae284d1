"""One of several values, as a tree of two-way multiplexers; comparisons with constants."""

from collections.abc import Sequence

from amaranth.hdl import Const, Mux, Value

__all__ = ["at_most", "choose"]


def at_most(value: Value, limit: int) -> Value:
    """``value <= limit``, unsigned, as LUTs: synthesisers take a carry chain."""
    if limit + 1 >= 1 << len(value):
        return Const(1, 1)
    low = at_most(value[:-1], limit & ((1 << len(value) - 1) - 1))
    return ~value[-1] | low if limit >> len(value) - 1 else ~value[-1] & low


def choose(values: Sequence[Value], index: Value) -> Value:
    """``values[index]``; beyond the last value, any of them.

    A tree by the index's bits is half the LUTs of the one-hot selection that an ``Array`` becomes.
    """
    if len(values) == 1:
        return values[0]
    half = [values[i] if i + 1 == len(values) else Mux(index[0], values[i + 1], values[i])
            for i in range(0, len(values), 2)]
    return choose(half, index[1:])
