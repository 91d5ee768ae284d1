"""The order in which an array may be given weights and swaps."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value

from .cells import check

__all__ = ["check_turns"]


def check_turns(m: Module, platform: Any, *, rows: int, weights_valid: Value, swap: Value) -> None:
    """Check that the ``rows`` weight rows of a tile and its ``swap`` take turns.

    Weight rows may begin in the cycle of the swap before them, a swap may come in the cycle after
    the last weight row of its tile. Plain Verilog carries nothing of it.
    """
    if platform is not None and not platform.assertions:
        return
    weight_count = Signal(range(rows + 1))  # rows that wait for their swap
    m.d.sync += weight_count.eq(Mux(swap, 0, weight_count) + weights_valid)
    check(m, platform, (weight_count == rows) | ~swap,
          "a swap may not enter before the weights of its tile")
    check(m, platform, (weight_count != rows) | swap | ~weights_valid,
          "weights may not enter before the swap of the tile before them")
