"""A part of the hardware between registers, so that no pad is on a path of it."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.cells import flat_ports

__all__ = ["Wrapped"]


class Wrapped(wiring.Component):
    """``part`` between registers: its inputs take a line of shifted bits, outputs are one parity.

    Inputs that were the line itself would be delays of each other, and so would all that the part
    delays: a synthesiser would merge registers of the part that have nothing to do with another.

    Parameters
    ----------
    part : wiring.Component

    Members
    -------
    serial : ``In(1)``
        What is shifted in.
    load : ``In(1)``
        Take the line.
    parity : ``Out(1)``
        Of all outputs, some cycles later.
    """
    def __init__(self, *, part: wiring.Component):
        self.part = part
        super().__init__({"serial": In(1), "load": In(1), "parity": Out(1)})

    def elaborate(self: Any, platform: Any) -> Module:
        m: Any = Module()
        m.submodules.part = self.part
        ports = flat_ports(self.part).values()
        inputs: Any = Cat(value for value, is_input in ports if is_input)
        outputs = Cat(value for value, is_input in ports if not is_input)
        line = Signal(len(inputs), reset_less=True)
        held = Signal(len(inputs), reset_less=True)
        m.d.comb += inputs.eq(held)
        m.d.sync += line.eq(Cat(self.serial, line))
        with m.If(self.load):
            m.d.sync += held.eq(line)
        bits: Any = Signal(len(outputs), name="outputs", reset_less=True)
        m.d.sync += bits.eq(outputs)
        while len(bits) > 1:
            parities = Signal(-(-len(bits) // 4), reset_less=True)
            m.d.sync += parities.eq(Cat(bits[i:i + 4].xor() for i in range(0, len(bits), 4)))
            bits = parities
        m.d.comb += self.parity.eq(bits)
        return m
