"""One element of the array: two weights, a multiplier, a partial sum."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import place
from .checks import check_int
from .multiply import strategy_named

__all__ = ["ProcessingElement", "sum_bits"]


def sum_bits(products: int) -> int:
    """Bits of a sum of so many int8 products, which reaches ``products * (-128 * -128)``.

    The most negative sum, ``products * (-128 * 127)``, is nearer to zero.
    """
    return (products * 128 * 128).bit_length() + 1


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
    strategy : str
        How to multiply, see :mod:`.multiply`.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    swap : ``In(1)``
        Make the shadow weight the active one, from this cycle's activation on.
    weight : ``In(signed(8))``
        Shadow weight of the element above, or the column's input.
    shift : ``In(1)``
        Take ``weight`` into the shadow register.
    weight_below : ``Out(signed(8))``
        The shadow weight.
    sum_above : ``In(signed(sum_bits(row)))``
        Sum of the elements above; 0 at the top.
    sum : ``Out(signed(sum_bits(row + 1)))``
        Sum down to this element.
    """
    def __init__(self, *, row: int, strategy: str = "generic"):
        check_int("row", row, 0, 63)
        self.row = row
        self.strategy = strategy
        self.latency = strategy_named(strategy).latency + 1
        super().__init__({
            "activation": In(signed(8)),
            "swap": In(1),
            "weight": In(signed(8)),
            "shift": In(1),
            "weight_below": Out(signed(8)),
            "sum_above": In(signed(sum_bits(row))),
            "sum": Out(signed(sum_bits(row + 1))),
        })

    def elaborate(self, platform):
        m = Module()
        multiplier = strategy_named(self.strategy).multiplier()
        place(m, platform, "multiplier", multiplier)
        shadow  = Signal(signed(8), reset_less=True)
        partial = Signal(self.sum.shape(), reset_less=True)
        m.d.comb += [
            multiplier.activation.eq(self.activation),
            multiplier.weight.eq(shadow),
            multiplier.swap.eq(self.swap),
            self.weight_below.eq(shadow),
            self.sum.eq(partial),
        ]
        with m.If(self.shift):
            m.d.sync += shadow.eq(self.weight)
        m.d.sync += partial.eq(self.sum_above + multiplier.product)
        return m
