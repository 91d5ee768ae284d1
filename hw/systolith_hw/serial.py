"""The requantiser of chips without multipliers to spare: four bits of a value each cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import ElementType

__all__ = ["SerialRequantiser", "SerialSteps"]


class SerialSteps(wiring.Component):
    """Counts the cycles of a value, for all lanes' ``SerialRequantiser``.

    Members
    -------
    start : ``In(1)``
        A value comes.
    step : ``Out(4)``
        Cycles since the last one came; from ``LAST`` on it stays.
    """
    LAST = 13

    def __init__(self):
        super().__init__({"start": In(1), "step": Out(4, init=self.LAST)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.start):
            m.d.sync += self.step.eq(1)
        with m.Elif(self.step != self.LAST):
            m.d.sync += self.step.eq(self.step + 1)
        return m


class SerialRequantiser(wiring.Component):
    """The results of ``Requantiser`` from additions of 36 bits, one after the other.

    ``value * multiplier`` is shifted right by four bits each cycle; with ``S = 31 - shift``, all
    that both roundings add to it is one positive constant below bit ``S``::

        2**(S - 1)              shift >= 0
        2**(S - 1) + 2**30      shift < 0 <= value
        2**(S - 1) - 2**30      shift < 0, value < 0

    The value goes in shifted left by ``r``, which makes ``S + r = 4 * q`` with ``q`` = 6 to 16,
    and in digits of four bits, nine with its sign. Each is two digits of {-1, 0, 1, 2}, which
    select multiples of the multiplier. The lowest digit of their sum meets the constant's, from
    digit ``q`` on the zero point's, with a carry from digit to digit, and becomes the result's.
    Four digits later the carry and the zero point's sign enter what is left of the sum, and the
    result is complete.

    Timing: ``result`` is that of the value that came with ``start`` ``LATENCY`` cycles before. The
    next value comes ``INTERVAL`` cycles after it or later.

    Members
    -------
    start : ``In(1)``
        A value comes.
    step : ``In(4)``
        Of ``SerialSteps`` with the same ``start``.
    value : ``In(signed(32))``
        Sum, bias included; with ``start``.
    shift : ``In(signed(6))``
        As in ``Requantiser``; with ``start``.
    unit : ``In(1)``
        Scale by 1 instead; with ``start``.
    multiplier : ``In(31)``
        As in ``Requantiser``; until ``STEADY`` cycles after ``start``.
    zero_point, clamp_low, clamp_high, result_type : ``In``
        As in ``Requantiser``; from ``PLACE`` to ``LATENCY`` cycles after ``start``.
    result : ``Out(signed(32))``
        The activation.
    """
    LATENCY  = 26   # cycles
    INTERVAL = 24
    PLACE    = 4
    STEADY   = 10

    def __init__(self):
        super().__init__({
            "start": In(1), "step": In(4), "value": In(signed(32)), "shift": In(signed(6)),
            "unit": In(1), "multiplier": In(31), "zero_point": In(signed(8)),
            "clamp_low": In(signed(8)), "clamp_high": In(signed(8)), "result_type": In(2),
            "result": Out(signed(32)),
        })

    def elaborate(self, platform):
        m = Module()

        def reg(name, shape, value):
            """Register that follows ``value``."""
            signal = Signal(shape, name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        fine  = Signal(2, reset_less=True)  # r
        right = Signal(reset_less=True)
        unit  = Signal(reset_less=True)
        left  = Signal(signed(6), init=-5)  # q - k, one cycle before digit k is the sum's lowest
        place = self.shift + 1
        with m.If(self.start):
            m.d.sync += [
                left.eq(11 - Mux(self.unit, 0, place >> 2)),
                fine.eq(Mux(self.unit, 2, place[:2])),
                right.eq(~self.unit & (self.shift < 0)),
                unit.eq(self.unit),
            ]
        with m.Elif(left != -5):
            m.d.sync += left.eq(left - 1)
        minus  = self.zero_point[-1]
        ending = left == -3     # the result's digit 2 is the sum's lowest

        # Digit k is in the value's low bits in cycle 1 + k, and in the sum from cycle 5 + k on.
        value = Signal(signed(32), reset_less=True)
        above = Signal(3, reset_less=True)  # of the digit before
        m.d.sync += [
            value.eq(Mux(self.start, self.value, value >> 4)),
            above.eq(Mux(self.start, 0, value[1:4])),
        ]
        bits = Cat(above, value[:4])
        digit = Mux(fine[1], Mux(fine[0], bits[0:4], bits[1:5]), Mux(fine[0], bits[2:6], bits[3:7]))
        carry = Signal(reset_less=True)
        low, middle = _recoded(digit[:2], carry)
        high, out = _recoded(digit[2:], middle)
        m.d.sync += carry.eq(~self.start & out)
        low_2  = reg("low_2", 2, low)
        high_2 = reg("high_2", 2, high)
        low_minus_3, high_minus_3 = (reg(f"{name}_minus_3", 1, code.all() & ~unit)
                                     for name, code in (("low", low_2), ("high", high_2)))
        low_3, high_3 = (self._multiple(m, f"{name}_3", code, unit)
                         for name, code in (("low", low_2), ("high", high_2)))

        # The bits below the high digit's are free for what makes a complement a negative.
        sum_3  = _sum(low_3, Cat(high_minus_3.replicate(2), high_3).as_signed(), high_minus_3)
        part_4 = reg("part_4", signed(36), sum_3 | (ending & minus).replicate(36))
        total  = Signal(signed(36), reset_less=True)
        extra  = Signal(reset_less=True)
        low_carry = Signal(reset_less=True)
        addend = Signal(4, reset_less=True)
        window = Signal(16, reset_less=True)
        lowest = Signal(5)
        m.d.comb += lowest.eq(_sum(total[:4], addend, low_carry))
        # What the result's digit 3 will carry: its addend is the sign of the zero point.
        following = total[4:8]
        m.d.sync += extra.eq(low_minus_3 | (ending & Mux(
            minus, lowest[4] | following.any(), lowest[4] & following.all())))
        with m.If(self.step == 3):
            m.d.sync += [total.eq(0), low_carry.eq(0)]
        with m.Elif((left != -5) & (self.step > 3)):
            m.d.sync += [
                total.eq(_sum(total >> 4, part_4, extra)),
                low_carry.eq(lowest[4]),
                window.eq(Cat(window[4:], lowest[:4])),
            ]
        constant = self._constant(right, value[-1], fine, left == 1)
        m.d.sync += addend.eq(Mux(
            left > 0, constant, Mux(left == 0, self.zero_point[:4], Mux(
                left == -1, self.zero_point[4:], minus.replicate(4)))))
        self._limit(m, Cat(window, total[:23]).as_signed())
        return m

    def _multiple(self, m, name, code, unit):
        """Register of a digit's multiple of the multiplier, its complement for -1; of 2**30, and
        the negative itself, for ``unit``."""
        odd, high = code
        multiple = Signal(signed(33), name=name, reset_less=True)
        m.d.sync += multiple.eq(Mux(odd, Cat(self.multiplier, Const(0, 2)) ^ high.replicate(33),
                                    Mux(high, self.multiplier << 1, 0)))
        with m.If(unit):
            m.d.sync += multiple.eq(Cat(Const(0, 30), odd, high, odd & high))
        return multiple

    def _constant(self, right, negative, fine, last):
        """Digit of the roundings' constant, ``last`` its highest; one cycle ahead of the sum."""
        at_7, at_8, beyond = (self.step == 11), (self.step == 12), (self.step == 13)
        first = Mux(at_7, Mux(fine == 0, 4, Mux(fine == 1, 8, 0)),
                    Mux(at_8, Mux(fine == 2, 1, Mux(fine == 3, 2, 0)), 0))
        ones = Mux(at_7, Mux(fine == 0, 12, Mux(fine == 1, 8, 0)),
                   Mux(at_8, Mux(fine == 3, 14, 15), Mux(beyond, 15, 0)))
        digit = Mux(right, Mux(negative, ones, first), 0)
        return Cat(digit[:3], Mux(last, ~(right & negative), digit[3]))

    def _limit(self, m, placed):
        """What fits its type as it is, or the limits beyond; one cycle later."""
        int8, int16 = (self.result_type == kind for kind in (ElementType.INT8, ElementType.INT16))
        sign  = placed[-1]
        alike = {bits: placed[bits - 1:upper] == sign.replicate(upper - bits + 1)
                 for bits, upper in ((8, 15), (16, 31), (32, 38))}
        fits  = alike[32] & (alike[16] | ~(int8 | int16)) & (alike[8] | ~int8)
        above, inside = Signal(reset_less=True), Signal(reset_less=True)
        over  = placed[:8].as_signed() > self.clamp_high
        under = placed[:8].as_signed() < self.clamp_low
        m.d.sync += [
            above.eq(Mux(fits, over, ~sign)),
            inside.eq(fits & ~(int8 & (over | under))),
        ]
        limit = Mux(int8, Mux(above, self.clamp_high, self.clamp_low), above.replicate(8))
        short = Mux(int8, limit[7], above)
        wide  = Mux(int8, limit[7], Mux(int16, ~above, above))
        top   = Mux(int8, limit[7], ~above)
        m.d.comb += self.result.eq(Mux(inside, placed[:32], Cat(
            limit[:8], short.replicate(7), wide.replicate(16), top)))


def _sum(a, b, carry):
    """``a + b + carry`` in one carry chain."""
    def widened(value, bit):
        value = Cat(bit, value)
        return value.as_signed() if a.shape().signed else value
    return (widened(a, 1) + widened(b, carry)) >> 1


def _recoded(bits, carry):
    """Code of the digit of {-1, 0, 1, 2} that two bits and a carry are, and its carry: odd, and
    high for 2 and -1."""
    odd  = bits[0] ^ carry
    both = bits[0] & carry
    return Cat(odd, Mux(odd, bits[1], bits[1] ^ both)), bits[1] & (bits[0] | carry)
