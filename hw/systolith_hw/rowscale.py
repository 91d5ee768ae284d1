"""From a result of the function unit to the scale of a row: multiplier and shift."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .function import MANTISSA_BITS
from .requantise import Requantiser
from .rowfile import scale_layout

__all__ = ["RowScale"]


class RowScale(wiring.Component):
    """``scale = result * 2**(exponent - MANTISSA_BITS)``, as near as multiplier and shift can.

    A negative result is 0; what is too large or too small becomes the largest or the smallest
    scale.

    Timing: ``scale`` is that of the values two cycles before.

    Members
    -------
    result : ``In(signed(32))``
        The mantissa.
    left : ``In(5)``
        Places that the function unit has shifted its number to the left.
    halved : ``In(1)``
        The result is a root: half as many count.
    offset : ``In(signed(8))``
        Added to the places.
    scale : ``Out(scale_layout)``
    """
    def __init__(self):
        super().__init__({"result": In(signed(32)), "left": In(5), "halved": In(1),
                          "offset": In(signed(8)), "scale": Out(scale_layout)})

    def elaborate(self, platform):
        m = Module()
        mantissa = Signal(MANTISSA_BITS, reset_less=True)
        shift = Signal(signed(9), reset_less=True)
        scale = Signal(scale_layout, reset_less=True)
        m.d.sync += [
            mantissa.eq(Mux(self.result < 0, 0, Mux(
                self.result[MANTISSA_BITS:].any(), ~0, self.result[:MANTISSA_BITS]))),
            shift.eq(Mux(self.halved, self.left >> 1, self.left) + self.offset),
            scale.shift.eq(shift),
            scale.multiplier.eq(Cat(Const(0, 31 - MANTISSA_BITS), mantissa)),
        ]
        with m.If(shift > Requantiser.MAX_SHIFT):
            m.d.sync += [scale.shift.eq(Requantiser.MAX_SHIFT), scale.multiplier.eq(~0)]
        with m.Elif(shift < Requantiser.MIN_SHIFT):
            m.d.sync += [scale.shift.eq(Requantiser.MIN_SHIFT), scale.multiplier.eq(0)]
        m.d.comb += self.scale.eq(scale)
        return m
