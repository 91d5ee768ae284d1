"""The serial line: eight data bits, no parity, one stop bit, the lowest bit first."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.checks import check_int

__all__ = ["MAX_DIVISOR", "MIN_DIVISOR", "Receiver", "Transmitter"]

MIN_DIVISOR = 8  # what comes behind the receiver takes up to ten cycles for a byte
MAX_DIVISOR = 1 << 16


class Receiver(wiring.Component):
    """Bytes from a line.

    Every bit is sampled in its middle, counted from the start bit's edge. A line that is low for
    longer than a byte, or where a byte is expected and a spike comes, gives no byte.

    Timing: ``strobe`` comes up to four cycles after the middle of the stop bit.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, from 8.

    Members
    -------
    rx : ``In(1)``
        The line, of no clock.
    byte : ``Out(8)``
        What came, in the cycle of ``strobe`` and the next.
    strobe : ``Out(1)``
        Pulse: a byte came.
    broken : ``Out(1)``
        Pulse: something came that has no stop bit.

    Raises
    ------
    TypeError, ValueError
        ``divisor`` is no integer or out of range.
    """
    def __init__(self, *, divisor: int):
        check_int("divisor", divisor, MIN_DIVISOR, MAX_DIVISOR)
        self.divisor = divisor
        super().__init__({"rx": In(1), "byte": Out(8), "strobe": Out(1), "broken": Out(1)})

    def elaborate(self, platform):
        m = Module()
        edge, level, before = (Signal(init=1, name=name) for name in ("edge", "level", "before"))
        m.d.sync += [edge.eq(self.rx), level.eq(edge), before.eq(level)]
        busy  = Signal()
        count = Signal(range(self.divisor), reset_less=True)
        # Start bit and data; the start bit has arrived at the bottom when it is 0.
        bits  = Signal(9, reset_less=True)
        sample = Signal()
        stop   = Signal()
        m.d.comb += [
            sample.eq(busy & (count == 0)),
            stop.eq(sample & ~bits[0]),
            self.byte.eq(bits[1:]),
        ]
        m.d.sync += [self.strobe.eq(stop & level), self.broken.eq(stop & ~level)]
        with m.If(~busy):
            m.d.sync += count.eq(self.divisor // 2 - 1)
            with m.If(before & ~level):
                m.d.sync += [busy.eq(1), bits.eq(~0)]
        with m.Else():
            m.d.sync += count.eq(Mux(sample, self.divisor - 1, count - 1))
        with m.If(sample):
            with m.If(~stop):
                m.d.sync += bits.eq(Cat(bits[1:], level))
            with m.If(stop | (bits.all() & level)):
                m.d.sync += busy.eq(0)
        return m


class Transmitter(wiring.Component):
    """Bytes to a line.

    Timing: a byte takes ten bits; the next begins one cycle later at the earliest.

    Parameters
    ----------
    divisor : int
        Cycles of a bit, from 8.

    Members
    -------
    bytes : ``In(stream of 8)``
        What to send.
    tx : ``Out(1)``
        The line.

    Raises
    ------
    TypeError, ValueError
        ``divisor`` is no integer or out of range.
    """
    def __init__(self, *, divisor: int):
        check_int("divisor", divisor, MIN_DIVISOR, MAX_DIVISOR)
        self.divisor = divisor
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        # Data, the stop bit, and a 1 whose turn is the end.
        bits  = Signal(10, reset_less=True)
        count = Signal(range(self.divisor), reset_less=True)
        level = Signal(init=1)
        busy  = Signal()
        m.d.comb += [self.bytes.ready.eq(~busy), self.tx.eq(level)]
        with m.If(~busy):
            m.d.sync += [
                bits.eq(Cat(self.bytes.payload, Const(3, 2))), count.eq(self.divisor - 1),
                level.eq(~self.bytes.valid), busy.eq(self.bytes.valid),
            ]
        with m.Else():
            m.d.sync += count.eq(Mux(count == 0, self.divisor - 1, count - 1))
            with m.If(count == 0):
                m.d.sync += [bits.eq(bits[1:]), level.eq(bits[0]), busy.eq(bits[1:].any())]
        return m
