"""The requantiser: from an int32 sum to an activation, as TFLite's kernels do it."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import place
from .cells_ecp5 import Multiplier18
from .checks import check_bool
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

    Parameters
    ----------
    cells : bool
        Whether its multipliers are ``Multiplier18`` in cells of the ECP5.

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
    LATENCY = 11    # cycles
    INTERVAL = 1    # cycles from one value to the next
    PLACE = 7       # cycles from a value to its zero point, clamp and type
    MIN_SHIFT, MAX_SHIFT = -31, 7

    def __init__(self, *, cells: bool = False):
        check_bool("cells", cells)
        self.cells = cells
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
        # 3: four products that each fit a signed 18 x 18 bit multiplier.
        halves = {"low": (self.value[:17], self.multiplier[:17]),
                  "high": (self.value[17:].as_signed(), self.multiplier[17:])}
        products = {}
        for mine, (of_value, _) in halves.items():
            for other, (_, of_multiplier) in halves.items():
                unit = Multiplier18(cell=self.cells)
                place(m, platform, f"{mine}_{other}", unit)
                m.d.comb += [unit.first.eq(of_value), unit.second.eq(of_multiplier)]
                products[mine, other] = unit.product
        low_low_3, high_high_3 = products["low", "low"][:34], products["high", "high"][:29]
        low_high_3, high_low_3 = products["low", "high"][:31], products["high", "low"][:32]

        # The nudge in units of 2**17, below which it has no bits: 2**(13 - shift) for shifts to
        # the left and none, +-2**13 for those to the right.
        shift_1 = reg("shift_1", signed(6), self.shift)
        minus_1 = reg("minus_1", 1, self.value[-1])
        right_1 = shift_1 < 0
        nudge_3 = delay("nudge", 9, Cat(
            *(~right_1 & (shift_1[:3] == 13 - bit) for bit in range(6, 13)),
            right_1 | (shift_1[:3] == 0), right_1 & minus_1), 2).as_signed() << 6

        # 4, 5: sum of the products and the nudge, from bit 17 on.
        outer_3 = Cat(low_low_3, high_high_3).as_signed() >> 17
        outer_4 = reg("outer_4", signed(46), outer_3 + nudge_3)
        inner_4 = reg("inner_4", signed(33), low_high_3 + high_low_3.as_signed())
        sum_5   = reg("sum_5", signed(46), outer_4 + inner_4)

        # 6, 7: to the right by S - 1 = 23 + places, of which 23 are bits left out already.
        places_5  = delay("places", 6, 7 - shift_1, 4)
        coarse_6  = reg("coarse_6", signed(40), sum_5[6:].as_signed() >> (places_5 & 0x38))
        fine_6    = reg("fine_6", 3, places_5[:3])
        shifted_7 = reg("shifted_7", signed(40), coarse_6 >> fine_6)
        right_7   = delay("right", 1, right_1, 6)

        # 8: the last bit shifted out rounds, as the carry into the addition of the zero point.
        # Nothing is cut off: at the left shift of 7, -2**31 * (2**31 - 1) / 2**24 - 128 is -2**38.
        round_7  = right_7 & shifted_7[0]
        placed_8 = reg("placed_8", signed(39), (
            Cat(1, shifted_7[1:]).as_signed() + Cat(round_7, self.zero_point).as_signed()) >> 1)
        type_8   = reg("type_8", 2, self.result_type)
        low_8    = reg("low_8", signed(8), self.clamp_low)
        high_8   = reg("high_8", signed(8), self.clamp_high)

        # 9: whether it fits, type by type, and how an int8 compares with the clamp.
        sign_8   = placed_8[-1]
        fits_9   = {bits: reg(f"fits{bits}_9", 1, _fits(placed_8, bits, above))
                    for bits, above in ((8, 16), (16, 32), (32, 39))}
        int8_8   = placed_8[:8].as_signed()     # signs of differences need no comparator
        below_9  = reg("below_9", 1, (int8_8 - low_8)[-1])
        above_9  = reg("above_9", 1, (high_8 - int8_8)[-1])
        minus_9  = reg("minus_9", 1, sign_8)
        type_9   = reg("type_9", 2, type_8)
        placed_9 = reg("placed_9", signed(32), placed_8[:32].as_signed())
        low_9    = reg("low_9", signed(8), low_8)
        high_9   = reg("high_9", signed(8), high_8)

        # 10: by which limit it is replaced, the least or the greatest of its type, if by any.
        int8_9   = type_9 == ElementType.INT8
        int16_9  = type_9 == ElementType.INT16
        fits     = fits_9[32] & (fits_9[16] | ~(int8_9 | int16_9)) & (fits_9[8] | ~int8_9)
        least    = Mux(fits, below_9, minus_9)
        clamp    = Mux(least, low_9, high_9)
        inside_10 = reg("inside_10", 1, fits & ~(int8_9 & (below_9 | above_9)))
        limit_10 = reg("limit_10", signed(32), Cat(
            Mux(int8_9, clamp[:7], (~least).replicate(7)),
            Mux(int8_9, clamp[7], ~least).replicate(8),
            Mux(int8_9, clamp[7], Mux(int16_9, least, ~least)).replicate(16),
            Mux(int8_9, clamp[7], least)).as_signed())
        placed_10 = reg("placed_10", signed(32), placed_9)

        # 11: select.
        m.d.comb += self.result.eq(reg("result_11", signed(32),
                                       Mux(inside_10, placed_10, limit_10)))
        return m


def _fits(value, bits, above):
    """Whether the bits of the signed ``value`` from the sign of such a number to below bit
    ``above`` are all its sign."""
    return value[bits - 1:above - 1] == value[-1].replicate(above - bits)
