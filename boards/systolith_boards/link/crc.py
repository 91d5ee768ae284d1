"""CRC-32 (IEEE 802.3), a bit at a time."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Crc32"]

POLYNOMIAL = 0xEDB88320  # reflected: the lowest bit comes first, here as on the line
RESIDUE = 0xDEBB20E3     # what is left behind a message and its checksum


class Crc32(wiring.Component):
    """The checksum that ``zlib.crc32`` computes.

    Timing: a bit per cycle.

    Members
    -------
    clear : ``In(1)``
        Begin anew.
    shift : ``In(1)``
        Take ``bit``, or move on to the next bits of ``check``.
    bit : ``In(1)``
        Of the message, each byte's lowest first.
    drain : ``In(1)``
        Shift only.
    check : ``Out(8)``
        The next eight bits of the checksum.
    right : ``Out(1)``
        The message was followed by its checksum.
    """
    def __init__(self):
        super().__init__({"clear": In(1), "shift": In(1), "bit": In(1), "drain": In(1),
                          "check": Out(8), "right": Out(1)})

    def elaborate(self, platform):
        m = Module()
        state = Signal(32, init=0xffffffff)
        feedback = Signal()
        m.d.comb += [
            feedback.eq((state[0] ^ self.bit) & ~self.drain),
            self.check.eq(~state[:8]),
            self.right.eq(state == RESIDUE),
        ]
        taps = Cat(feedback if POLYNOMIAL >> i & 1 else 0 for i in range(32))
        with m.If(self.clear):
            m.d.sync += state.eq(~0)
        with m.Elif(self.shift):
            m.d.sync += state.eq(state[1:] ^ taps)
        return m
