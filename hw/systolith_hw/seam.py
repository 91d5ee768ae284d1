"""What every array has in common: its ports, and the order of weights and swaps."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Member, Out

from .cells import check

__all__ = ["array_ports", "check_turns"]


def array_ports(*, rows: int, cols: int, weight_bits: int, sum_bits: int,
                pairs: bool = False) -> dict[str, Member]:
    """Members of an array, as of ``Array``; with ``pairs``, as of ``Pairs``."""
    return {
        "row": In(ArrayLayout(signed(8), rows)),
        "row_valid": In(1),
        "swap": In(1),
        **({"row_pairs": In(1)} if pairs else {}),
        "weights": In(ArrayLayout(signed(weight_bits), cols)),
        "weights_valid": In(1),
        **({"weights_pairs": In(1)} if pairs else {}),
        "sums": Out(ArrayLayout(signed(sum_bits), 2 * cols if pairs else cols)),
        "sums_valid": Out(1),
    }


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
