"""The requantiser: from an int32 sum to an int8 activation, as TFLite's kernels do it."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Requantiser"]


class Requantiser(wiring.Component):
    """``result = clamp(round(value * multiplier * 2**(shift - 31)) + zero_point)`` of one lane.

    Rounds twice, as SaturatingRoundingDoublingHighMul and RoundingDivideByPOT of TFLite's
    reference kernels [1]_ do one after the other (a left shift is exact, without their wrap at 32
    bits). With ``e = -shift``, ``S = 31 + e`` and floor shifts, both are one product, one constant
    and one shift::

        nudge = 2**(S - 1)                          if e <= 0
                -2**30 if value < 0 else 2**30      if e > 0
        sum   = value * multiplier + nudge
        round = (sum >> S) + (bit S - 1 of sum if e > 0 else 0)

    Timing: one result per cycle; ``result`` belongs to the value, multiplier and shift of
    ``LATENCY`` cycles before, and to the zero point and limits ``PLACE`` cycles after these.

    Members
    -------
    value : ``In(signed(32))``
        Sum, bias included.
    multiplier : ``In(31)``
        Scale as a fraction of 2**31.
    shift : ``In(signed(6))``
        Exponent of the scale, positive to the left: -31 to 7.
    zero_point : ``In(signed(8))``
        What stands for zero in the result.
    clamp_low, clamp_high : ``In(signed(8))``
        Least and greatest result; the least must not be above the greatest.
    result : ``Out(signed(8))``
        The activation.

    References
    ----------
    .. [1] gemmlowp, ``fixedpoint/fixedpoint.h``; TFLite, ``kernels/internal/common.h``.
    """
    LATENCY = 11  # cycles
    PLACE = 8     # cycles from a value to its zero point and limits
    MIN_SHIFT, MAX_SHIFT = -31, 7

    def __init__(self):
        super().__init__({
            "value": In(signed(32)),
            "multiplier": In(31),
            "shift": In(signed(6)),
            "zero_point": In(signed(8)),
            "clamp_low": In(signed(8)),
            "clamp_high": In(signed(8)),
            "result": Out(signed(8)),
        })

    def elaborate(self, platform):
        m = Module()

        def reg(name, shape, value):
            """Register that follows ``value``."""
            signal = Signal(shape, name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        def delay(name, shape, value, cycles):
            """``value`` of ``cycles`` cycles before."""
            for i in range(cycles):
                value = reg(f"{name}_{i + 1}", shape, value)
            return value

        # A name's digit is the cycle in which its value is there.
        # 1, 2: four products that each fit a signed 18 x 18 bit multiplier.
        value_low_1  = reg("value_low_1", 17, self.value[:17])
        value_high_1 = reg("value_high_1", signed(15), self.value[17:].as_signed())
        mult_low_1   = reg("mult_low_1", 17, self.multiplier[:17])
        mult_high_1  = reg("mult_high_1", 14, self.multiplier[17:])
        shift_1      = reg("shift_1", signed(6), self.shift)
        low_low_2    = reg("low_low_2", 34, value_low_1 * mult_low_1)
        low_high_2   = reg("low_high_2", 31, value_low_1 * mult_high_1)
        high_low_2   = reg("high_low_2", signed(32), value_high_1 * mult_low_1)
        high_high_2  = reg("high_high_2", signed(29), value_high_1 * mult_high_1)

        # The nudge in units of 2**17, below which it has no bits: 2**(13 - shift) for shifts to
        # the left and none, +-2**13 for those to the right.
        right_1 = shift_1 < 0
        nudge_2 = reg("nudge_2", signed(15), Cat(
            *(~right_1 & (shift_1[:3] == 13 - bit) for bit in range(6, 13)),
            right_1 | (shift_1[:3] == 0),
            right_1 & (value_high_1 < 0)).as_signed() << 6)

        # 3, 4: sum of the products and the nudge, from bit 17 on.
        outer_2 = Cat(low_low_2, high_high_2).as_signed() >> 17
        outer_3 = reg("outer_3", signed(46), outer_2 + nudge_2)
        inner_3 = reg("inner_3", signed(33), low_high_2 + high_low_2)
        sum_4   = reg("sum_4", signed(46), outer_3 + inner_3)

        # 5 to 8: to the right by S - 1 = 23 + places, of which 23 are bits left out already; what
        # does not fit is as good as the extremes, since 255 - 128 is the greatest result.
        places_4  = delay("places", 6, 7 - shift_1, 3)
        coarse_5  = reg("coarse_5", signed(40), sum_4[6:].as_signed() >> (places_4 & 0x38))
        fine_5    = reg("fine_5", 3, places_4[:3])
        limited_6 = reg("limited_6", signed(18), _saturated(coarse_5, 18))
        fine_6    = reg("fine_6", 3, fine_5)
        shifted_7 = reg("shifted_7", signed(18), limited_6 >> fine_6)
        rounded_8 = reg("rounded_8", signed(10), _saturated(shifted_7, 10))
        right_8   = delay("right", 1, right_1, 7)

        # 9: the last bit shifted out rounds, and the zero point.
        placed_9 = reg("placed_9", signed(10),
                       (rounded_8 >> 1) + self.zero_point + Mux(right_8, rounded_8[0], 0))

        # 10, 11: compare, then select.
        low_9    = reg("low_9", signed(8), self.clamp_low)
        high_9   = reg("high_9", signed(8), self.clamp_high)
        below_10 = reg("below_10", 1, placed_9 < low_9)
        above_10 = reg("above_10", 1, placed_9 > high_9)
        low_10   = reg("low_10", signed(8), low_9)
        high_10  = reg("high_10", signed(8), high_9)
        inner_10 = reg("placed_10", signed(8), placed_9)
        m.d.comb += self.result.eq(reg("result_11", signed(8), Mux(
            below_10, low_10, Mux(above_10, high_10, inner_10))))

        return m


def _saturated(value, bits):
    """``value`` in so many bits, or the nearest number that fits them."""
    sign = value[-1]
    fits = value[bits - 1:] == sign.replicate(len(value) - bits + 1)
    return Mux(fits, value[:bits], Cat((~sign).replicate(bits - 1), sign)).as_signed()
