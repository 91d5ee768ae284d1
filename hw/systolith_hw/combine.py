"""How a lane's two operands become one number."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import VectorOp

__all__ = ["INT32_MIN", "Combiner", "saturated"]

INT32_MIN = -(1 << 31)


def saturated(value, bits):
    """``value`` in so many bits, or the nearest number that fits them."""
    if len(value) <= bits:
        return value
    sign = value[-1]
    fits = value[bits - 1:] == sign.replicate(len(value) - bits + 1)
    most = (1 << (bits - 1)) - 1
    return Mux(fits, value[:bits].as_signed(), Mux(sign, -most - 1, most)).as_signed()


class Combiner(wiring.Component):
    """``result`` is ``operation`` of ``first`` and ``second``, saturated to int32.

    Timing: one number per cycle, ``LATENCY`` cycles after its operands.

    Parameters
    ----------
    operations : bool
        Whether there are others than ``ADD``.
    selects : bool
        Whether there are ``SELECT`` and masks.

    Members
    -------
    first, second : ``In(signed(32))``
    operation : ``In(VectorOp)``
        With the operands.
    kept : ``In(1)``
        One cycle after the operands: the stream is not 0.
    masked : ``In(1)``
        Beside ``kept``: where it is 0, the result is the least number.
    result : ``Out(signed(32))``
    """
    LATENCY = 2

    def __init__(self, *, operations: bool, selects: bool):
        self.operations = operations
        self.selects = selects
        super().__init__({
            "first": In(signed(32)), "second": In(signed(32)), "operation": In(VectorOp),
            "masked": In(1), "kept": In(1), "result": Out(signed(32)),
        })

    def elaborate(self, platform):
        m = Module()
        total  = Signal(signed(33), reset_less=True)    # a + b for ADD, a - b otherwise
        result = Signal(signed(32), reset_less=True)
        m.d.comb += self.result.eq(result)
        if not self.operations:
            m.d.sync += [total.eq(self.first + self.second), result.eq(saturated(total, 32))]
            return m
        back      = Signal(signed(33), reset_less=True)     # b - a
        a, b      = (Signal(signed(32), name=name, reset_less=True) for name in ("a_1", "b_1"))
        operation = Signal(VectorOp, reset_less=True)
        adds = self.operation == VectorOp.ADD
        m.d.sync += [
            total.eq(self.first + Mux(adds, self.second, ~self.second) + ~adds),
            back.eq(self.second - self.first),
            a.eq(self.first), b.eq(self.second), operation.eq(self.operation),
        ]
        below = total < 0   # a < b, but for ADD
        number = Signal(signed(32))
        difference = Signal(signed(33))
        m.d.comb += difference.eq(Mux(
            (operation == VectorOp.REVERSE) | ((operation == VectorOp.DISTANCE) & below),
            back, total))
        with m.Switch(operation):
            with m.Case(VectorOp.MINIMUM):
                m.d.comb += number.eq(Mux(below, a, b))
            with m.Case(VectorOp.MAXIMUM):
                m.d.comb += number.eq(Mux(below, b, a))
            with m.Case(VectorOp.BELOW):
                m.d.comb += number.eq(Mux(below, a, INT32_MIN))
            if self.selects:
                with m.Case(VectorOp.SELECT):
                    m.d.comb += number.eq(Mux(self.kept, a, b))
            with m.Default():
                m.d.comb += number.eq(saturated(difference, 32))
        if self.selects:
            number = Mux(self.masked & ~self.kept, INT32_MIN, number)
        m.d.sync += result.eq(number)
        return m
