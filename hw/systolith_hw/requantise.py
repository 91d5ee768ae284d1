"""The requantiser: from an int32 sum to an activation, as TFLite's kernels do it."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import ElementType

__all__ = ["Requantiser"]


class Requantiser(wiring.Component):
    """``result = limit(round(value * multiplier * 2**(shift - 31)) + zero_point)`` of one lane.

    An int8 result is limited by the clamp, an int16 or int32 result by what its type can hold.

    Rounds twice, as SaturatingRoundingDoublingHighMul and RoundingDivideByPOT of TFLite's
    reference kernels [1]_ do one after the other (a left shift is exact, without their wrap at 32
    bits). With ``e = -shift``, ``S = 31 + e`` and floor shifts, both are one product, one constant
    and one shift::

        nudge = 2**(S - 1)                          if e <= 0
                -2**30 if value < 0 else 2**30      if e > 0
        sum   = value * multiplier + nudge
        round = (sum >> S) + (bit S - 1 of sum if e > 0 else 0)

    Timing: one result per cycle; ``result`` belongs to the value, multiplier and shift of
    ``LATENCY`` cycles before, and to the zero point, clamp and type ``PLACE`` cycles after these.

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
        Least and greatest int8 result; the least must not be above the greatest. Results of the
        other types do not depend on them.
    result_type : ``In(2)``
        ``ElementType.INT8``, ``INT16`` or ``INT32``.
    result : ``Out(signed(32))``
        The activation.

    References
    ----------
    .. [1] gemmlowp, ``fixedpoint/fixedpoint.h``; TFLite, ``kernels/internal/common.h``.
    """
    LATENCY = 9  # cycles
    PLACE = 6    # cycles from a value to its zero point, clamp and type
    MIN_SHIFT, MAX_SHIFT = -31, 7

    def __init__(self):
        super().__init__({
            "value": In(signed(32)),
            "multiplier": In(31),
            "shift": In(signed(6)),
            "zero_point": In(signed(8)),
            "clamp_low": In(signed(8)),
            "clamp_high": In(signed(8)),
            "result_type": In(2),
            "result": Out(signed(32)),
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

        # 5, 6: to the right by S - 1 = 23 + places, of which 23 are bits left out already.
        places_4  = delay("places", 6, 7 - shift_1, 3)
        coarse_5  = reg("coarse_5", signed(40), sum_4[6:].as_signed() >> (places_4 & 0x38))
        fine_5    = reg("fine_5", 3, places_4[:3])
        shifted_6 = reg("shifted_6", signed(40), coarse_5 >> fine_5)
        right_6   = delay("right", 1, right_1, 5)

        # 7: the last bit shifted out rounds, and the zero point. Nothing is cut off: at the left
        # shift of 7, -2**31 * (2**31 - 1) / 2**24 - 128 is -2**38.
        placed_7 = reg("placed_7", signed(39),
                       (shifted_6 >> 1) + self.zero_point + Mux(right_6, shifted_6[0], 0))
        type_7   = reg("type_7", 2, self.result_type)
        low_7    = reg("low_7", signed(32), _of_type(
            self.result_type, self.clamp_low, -2**15, -2**31))
        high_7   = reg("high_7", signed(32), _of_type(
            self.result_type, self.clamp_high, 2**15 - 1, 2**31 - 1))

        # 8: compare: what fits its type only with the clamp, what does not by its sign.
        fits_8   = reg("fits_8", 1, _of_type(
            type_7, *(_fits(placed_7, bits) for bits in (8, 16, 32))))
        int8_7   = type_7 == ElementType.INT8
        below_8  = reg("below_8", 1, int8_7 & (placed_7[:8].as_signed() < low_7[:8].as_signed()))
        above_8  = reg("above_8", 1, int8_7 & (placed_7[:8].as_signed() > high_7[:8].as_signed()))
        low_8    = reg("low_8", signed(32), low_7)
        high_8   = reg("high_8", signed(32), high_7)
        placed_8 = reg("placed_8", signed(32), placed_7[:32].as_signed())
        minus_8  = reg("minus_8", 1, placed_7[-1])

        # 9: select.
        low_side = Mux(fits_8, below_8, minus_8)
        inside   = fits_8 & ~below_8 & ~above_8
        m.d.comb += self.result.eq(reg("result_9", signed(32), Mux(
            inside, placed_8, Mux(low_side, low_8, high_8))))

        return m


def _of_type(result_type, int8, int16, int32):
    """The one of these that belongs to ``result_type``."""
    return Mux(result_type == ElementType.INT8, int8,
               Mux(result_type == ElementType.INT16, int16, int32))


def _fits(value, bits):
    """Whether the signed ``value`` is a number of so many bits."""
    return value[bits - 1:-1] == value[-1].replicate(len(value) - bits)
