"""One element of a ternary array in ECP5's carry cells."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import has_vendor_cells, place
from .cells_ecp5 import carry_chain
from .checks import check_int
from .element import sum_bits
from .latency import CARRY_ELEMENT

__all__ = ["CarryElement", "TernaryAdder"]


class TernaryAdder(wiring.Component):
    """``sum = left + term * weight`` in CCU2Cs; the same in plain Amaranth without vendor cells.

    A bit of the sum is half a cell, and so is the carry that enters: the LUT in front of a carry
    has two inputs left to invert a bit of the term, or to leave it out.

    Timing: combinational.

    Source: Lattice FPGA-TN-02200 (ECP5 family), "Ripple Mode"; Yosys' model of the cell.

    Parameters
    ----------
    left_bits, sum_bits : int
        Bits of ``left``, from 1, and of ``sum``, from 2, none of which may be lost. Up to 64.

    Members
    -------
    left : ``In(signed(left_bits))``
        What to add to.
    term : ``In(signed(8))``
        What is added, or subtracted, or neither.
    weight : ``In(signed(2))``
        -1, 0 or 1; never -2.
    sum : ``Out(signed(sum_bits))``
        The sum.
    """
    def __init__(self, *, left_bits: int, sum_bits: int):
        check_int("left_bits", left_bits, 1, 64)
        check_int("sum_bits", sum_bits, 2, 64)
        self.left_bits = left_bits
        self.sum_bits = sum_bits
        super().__init__({
            "left": In(signed(left_bits)),
            "term": In(signed(8)),
            "weight": In(signed(2)),
            "sum": Out(signed(sum_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        if has_vendor_cells(platform):
            self._chain(m)
        else:
            nonzero, negative = self.weight
            term = (self.term.as_unsigned() ^ negative.replicate(8)) & nonzero.replicate(8)
            m.d.comb += self.sum.eq(self.left + term.as_signed() + negative)
        return m

    def _chain(self, m):
        # A ^ ~B and A ^ B are sums, A with nothing.
        nonzero, negative = self.weight
        carry_chain(m, [(0x96AA, (self.left[min(bit, self.left_bits - 1)], self.term[min(bit, 7)],
                                  negative, nonzero), self.sum[bit])
                        for bit in range(self.sum_bits)], carry=negative)


class CarryElement(wiring.Component):
    """Adds a passing activation to the sum from above, or subtracts it, as a held weight says.

    A :class:`.ProcessingElement` for ternary weights whose product is no value of its own: carry
    cells select and add in one cycle.

    Timing: as of ``ProcessingElement``, with a ``latency`` that is a cycle less.

    Parameters
    ----------
    row : int
        Place in the column, 0 at the top: the width of the sums follows from it.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    swap : ``In(1)``
        Make the shadow weight the active one, from this cycle's activation on.
    weight : ``In(signed(2))``
        Shadow weight of the element above, or the column's input; never -2.
    shift : ``In(1)``
        Take ``weight`` into the shadow register.
    weight_below : ``Out(signed(2))``
        The shadow weight.
    sum_above : ``In(signed(sum_bits(row, 2)))``
        Sum of the elements above; 0 at the top.
    sum : ``Out(signed(sum_bits(row + 1, 2)))``
        Sum down to this element.
    """
    def __init__(self, *, row: int):
        check_int("row", row, 0, 63)
        self.row = row
        self.latency = CARRY_ELEMENT
        super().__init__({
            "activation": In(signed(8)),
            "swap": In(1),
            "weight": In(signed(2)),
            "shift": In(1),
            "weight_below": Out(signed(2)),
            "sum_above": In(signed(sum_bits(row, 2))),
            "sum": Out(signed(sum_bits(row + 1, 2))),
        })

    def elaborate(self, platform):
        m = Module()
        adder = TernaryAdder(left_bits=len(self.sum_above), sum_bits=len(self.sum))
        place(m, platform, "adder", adder)
        activation = Signal(signed(8), reset_less=True)
        shadow     = Signal(signed(2), reset_less=True)
        active     = Signal(signed(2), reset_less=True)
        partial    = Signal(self.sum.shape(), reset_less=True)
        with m.If(self.shift):
            m.d.sync += shadow.eq(self.weight)
        with m.If(self.swap):
            m.d.sync += active.eq(shadow)
        m.d.sync += [
            activation.eq(self.activation),
            partial.eq(adder.sum),
        ]
        m.d.comb += [
            adder.left.eq(self.sum_above),
            adder.term.eq(activation),
            adder.weight.eq(active),
            self.weight_below.eq(shadow),
            self.sum.eq(partial),
        ]
        return m
