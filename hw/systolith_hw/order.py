"""In which order weights and swaps may enter an array."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value

from .cells import check

__all__ = ["check_order"]


def check_order(m: Module, platform: Any, *, rows: int, swap: Value, weights_valid: Value) -> None:
    """Check, where checks are, that the ``rows`` weight rows of each tile and its swap take turns.

    A swap may enter in the cycle after the last weight row of its tile, and the weight rows of a
    tile from the cycle on in which the swap before them enters.
    """
    entered = Signal(range(rows + 1))  # weight rows of the next tile
    loaded = entered == rows
    with m.If(swap | weights_valid):
        m.d.sync += entered.eq(Mux(swap, 0, entered) + weights_valid)
    check(m, platform, loaded | ~swap, "a swap may not enter before the weights of its tile")
    check(m, platform, ~loaded | swap | ~weights_valid,
          "weights may not enter before the swap of the tile before them")
