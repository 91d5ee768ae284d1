"""An array of nibbles that multiplies by int8, or by two int4 in the place of each."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring

from .element import sum_bits
from .seam import array_ports

__all__ = ["Pairs"]


class Pairs(wiring.Component):
    """Multiplies by bytes of weights: each an int8, or a pair of int4, as every tile says.

    Each byte is two columns of nibbles. Of an int8 the low one counts from 0 to 15, and the sums of
    both are joined: ``x * w = x * low + 16 * x * high``.

    Timing: ``sums`` belong to the ``row`` of ``latency`` cycles before, one more than ``nibbles``
    takes.

    Parameters
    ----------
    nibbles : wiring.Component
        An array as ``Array``, with weights of 5 bits and an even number of columns.

    Members
    -------
    row, row_valid, swap, weights_valid, sums_valid : as of ``Array``
    row_pairs : ``In(1)``
        Beside ``row``: its tile's weights are pairs.
    weights : ``In(ArrayLayout(signed(8), cols))``
        Bytes. The low nibble of a pair is for sum c, the high one for sum ``cols + c``.
    weights_pairs : ``In(1)``
        Beside ``weights``: they are pairs.
    sums : ``Out(ArrayLayout(signed(sum_bits), 2 * cols))``
        Of int8 weights in the lower half, and zeros in the upper one.
    """
    def __init__(self, *, nibbles: Any):
        self.nibbles = nibbles
        self.rows = nibbles.rows
        self.cols = nibbles.cols // 2
        self.latency = nibbles.latency + 1
        self.sum_bits = sum_bits(self.rows)
        super().__init__(array_ports(rows=self.rows, cols=self.cols, weight_bits=8,
                                     sum_bits=self.sum_bits, pairs=True))

    def elaborate(self, platform):
        m = Module()
        m.submodules.nibbles = nibbles = self.nibbles
        whole = Signal(nibbles.latency, reset_less=True)    # the newest row in the low bit
        m.d.sync += [
            whole.eq(Cat(~self.row_pairs, whole)),
            self.sums_valid.eq(nibbles.sums_valid),
        ]
        m.d.comb += [
            nibbles.row.eq(self.row),
            nibbles.row_valid.eq(self.row_valid),
            nibbles.swap.eq(self.swap),
            nibbles.weights_valid.eq(self.weights_valid),
        ]
        for c in range(self.cols):
            weight = self.weights[c].as_unsigned()
            low, high = nibbles.sums[2 * c], nibbles.sums[2 * c + 1]
            m.d.comb += [
                nibbles.weights[2 * c].eq(Cat(weight[:4], weight[3] & self.weights_pairs)),
                nibbles.weights[2 * c + 1].eq(weight[4:].as_signed()),
            ]
            m.d.sync += [
                self.sums[c].eq(low + Mux(whole[-1], high << 4, 0)),
                self.sums[self.cols + c].eq(Mux(whole[-1], 0, high)),
            ]
        return m
