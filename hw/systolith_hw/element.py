"""One element of the array: two weights, a multiplier, a partial sum."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import place
from .checks import check_bool, check_int
from .multiply import Multiplier

__all__ = ["ProcessingElement", "sum_bits"]


def sum_bits(products: int, weight_bits: int = 8) -> int:
    """Bits of a sum of so many products of an int8 and a weight, which reaches
    ``products * (-128 * -128)`` where weights have 8 bits.

    The most negative sum, ``products * (-128 * 127)``, is nearer to zero. Weights of 2 bits are
    ternary.
    """
    largest = 1 if weight_bits == 2 else 1 << (weight_bits - 1)
    return (products * 128 * largest).bit_length() + 1


class ProcessingElement(wiring.Component):
    """Multiplies passing activations by a held weight and adds the product to the sum from above.

    ``sum = sum_above + activation * active weight``. The next tile's weight waits in a shadow
    register, which is one link of the chain on which the weights of a column come down.

    Timing: ``sum`` is that of the ``activation`` ``latency`` cycles before and of the
    ``sum_above`` one cycle before. ``weight_below`` follows ``shift`` by one cycle. The shadow may
    shift in the cycle of a ``swap``: the swap still takes the weight from before the shift.

    Parameters
    ----------
    row : int
        Place in the column, 0 at the top: the width of the sums follows from it.
    weight_bits : int
        Bits of a weight; 2 are a ternary one.
    gated : bool
        As of ``Multiplier``.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    swap : ``In(1)``
        Make the shadow weight the active one, from this cycle's activation on.
    weight : ``In(signed(weight_bits))``
        Shadow weight of the element above, or the column's input.
    shift : ``In(1)``
        Take ``weight`` into the shadow register.
    weight_below : ``Out(signed(weight_bits))``
        The shadow weight.
    sum_above : ``In(signed(sum_bits(row, weight_bits)))``
        Sum of the elements above; 0 at the top.
    sum : ``Out(signed(sum_bits(row + 1, weight_bits)))``
        Sum down to this element.

    Where gated also ``valid`` and ``live``, as of ``Multiplier``.
    """
    def __init__(self, *, row: int, weight_bits: int = 8, gated: bool = False):
        check_int("row", row, 0, 63)
        check_int("weight_bits", weight_bits, 2, 8)
        check_bool("gated", gated)
        self.row = row
        self.weight_bits = weight_bits
        self.gated = gated
        self.latency = Multiplier.LATENCY + 1
        super().__init__({
            "activation": In(signed(8)),
            "swap": In(1),
            "weight": In(signed(weight_bits)),
            "shift": In(1),
            "weight_below": Out(signed(weight_bits)),
            "sum_above": In(signed(sum_bits(row, weight_bits))),
            "sum": Out(signed(sum_bits(row + 1, weight_bits))),
            **({"valid": In(1), "live": In(1)} if gated else {}),
        })

    def elaborate(self, platform):
        m = Module()
        multiplier = Multiplier(weight_bits=self.weight_bits, gated=self.gated)
        place(m, platform, "multiplier", multiplier)
        shadow  = Signal(signed(self.weight_bits), reset_less=True)
        partial = Signal(self.sum.shape(), reset_less=True)
        m.d.comb += [
            multiplier.activation.eq(self.activation),
            multiplier.weight.eq(shadow),
            multiplier.swap.eq(self.swap),
            self.weight_below.eq(shadow),
            self.sum.eq(partial),
        ]
        if self.gated:
            m.d.comb += [multiplier.valid.eq(self.valid), multiplier.live.eq(self.live)]
        with m.If(self.shift):
            m.d.sync += shadow.eq(self.weight)
        m.d.sync += partial.eq(self.sum_above + multiplier.product)
        return m
