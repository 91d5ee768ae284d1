"""What the requantiser promises: TFLite's double rounding."""

from amaranth.hdl import Const, Mux, Signal, signed
from systolith_hw.isa import ElementType
from systolith_hw.requantise import Requantiser

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]


class DoubleRounding(Specification):
    """``RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(value << left, multiplier), right)``
    of ``LATENCY`` cycles before, plus the zero point, limited to the clamp or to what the type can
    hold, which come ``PLACE`` cycles later.

    Written after gemmlowp's ``fixedpoint.h``, in integers wide enough for everything.

    Parameters
    ----------
    value, multiplier : int or None
        The only value or multiplier; None: any.
    least_shift : int
        No shift is below it.
    """
    def __init__(self, *, value: int | None = None, multiplier: int | None = None,
                 least_shift: int = Requantiser.MIN_SHIFT):
        self.value = value
        self.multiplier = multiplier
        self.least_shift = least_shift
        super().__init__(Requantiser(), drives=("value", "multiplier"),
                         any_value=signed(32), any_multiplier=31)

    def properties(self, m, dut):
        m.d.comb += [
            dut.value.eq(self.any_value if self.value is None else self.value),
            dut.multiplier.eq(self.any_multiplier if self.multiplier is None
                              else self.multiplier),
        ]
        self.given(m, (dut.shift >= self.least_shift) & (dut.shift <= dut.MAX_SHIFT))
        self.given(m, dut.clamp_low <= dut.clamp_high)
        self.given(m, dut.result_type <= ElementType.INT32)
        late = dut.LATENCY - dut.PLACE
        inputs = ((dut.value, dut.LATENCY), (dut.multiplier, dut.LATENCY),
                  (dut.shift, dut.LATENCY), (dut.zero_point, late), (dut.clamp_low, late),
                  (dut.clamp_high, late), (dut.result_type, late))
        before = []
        for i, (signal, cycles) in enumerate(inputs):
            for cycle in range(cycles):
                register = Signal.like(signal, name=f"input{i}_{cycle}", reset_less=True)
                m.d.sync += register.eq(signal)
                signal = register
            before.append(signal)
        value, multiplier, shift, zero_point, clamp_low, clamp_high, result_type = before
        # What is only one needs no memory.
        value = value if self.value is None else Const(self.value, signed(32))
        multiplier = multiplier if self.multiplier is None else Const(self.multiplier, 31)
        age = Signal(range(dut.LATENCY + 2))
        m.d.sync += age.eq(Mux(age <= dut.LATENCY, age + 1, age))

        product = Signal(signed(63))
        lifted  = Signal(signed(70))
        nudged  = Signal(signed(70))
        high    = Signal(signed(40))
        right   = Signal(range(32))
        rest, half, rounded = (Signal(signed(40), name=name)
                               for name in ("rest", "half", "rounded"))
        placed  = Signal(signed(41))
        least, most, result = (Signal(signed(32), name=name)
                                   for name in ("least", "most", "result"))
        m.d.comb += [
            product.eq(value * multiplier),
            lifted.eq(product << Mux(shift > 0, shift[:3], 0)),
            # SaturatingRoundingDoublingHighMul: to nearest, ties away from zero. The division
            # by 2 ** 31 rounds towards zero.
            nudged.eq(lifted + Mux(lifted < 0, 1 - (1 << 30), 1 << 30)),
            high.eq((nudged + Mux(nudged < 0, (1 << 31) - 1, 0)) >> 31),
            # RoundingDivideByPOT: to nearest, ties away from zero.
            right.eq(Mux(shift < 0, -shift, 0)),
            rest.eq(high & ((1 << right) - 1)),
            half.eq((((1 << right) - 1) >> 1) + (high < 0)),
            rounded.eq((high >> right) + (rest > half)),
            placed.eq(rounded + zero_point),
            # The limits of the type.
            least.eq(-1 << 31),
            most.eq((1 << 31) - 1),
            result.eq(Mux(placed < least, least, Mux(placed > most, most, placed))),
        ]
        with m.If(result_type == ElementType.INT8):
            m.d.comb += [least.eq(clamp_low), most.eq(clamp_high)]
        with m.Elif(result_type == ElementType.INT16):
            m.d.comb += [least.eq(-1 << 15), most.eq((1 << 15) - 1)]
        self.require(m, (age < dut.LATENCY) | (dut.result == result), "the result is TFLite's")


def _rounding(name, what, *bugs, **only):
    return Proof(
        name=name, block="requantise.py", cycles=Requantiser.LATENCY + 2,
        claim=f"Requantiser, {what}, every zero point, clamp and type: the result is TFLite's "
              "double rounding, of each input at its time. Registers begin with any contents "
              "and nothing older has an influence, so this holds in every cycle",
        make=lambda: DoubleRounding(**only),
        bugs=tuple(Bug(bug, "hw/systolith_hw/requantise.py", old, new, RUN)
                   for bug, old, new in bugs))


PROOFS = (
    _rounding("rounding-17", "every value, the multiplier 2^17, every shift", (
        "int16 that holds too much", "_fits(placed_8, bits, above)",
        "_fits(placed_8, bits + (bits == 16), above)"),
        multiplier=1 << 17),
    _rounding("rounding-30", "every value, the multiplier 2^30, shifts from 0 to 7", (
        "int32 that holds too much", "_fits(placed_8, bits, above)",
        "_fits(placed_8, bits + (bits == 32), above)"), (
        "the type of the next result",
        "reg(\"type_9\", 2, type_8)", "reg(\"type_9\", 2, self.result_type)"),
        multiplier=1 << 30, least_shift=0),
    _rounding("rounding-cut", "every value, the multiplier 3 * 2^16 (on both sides of a cut), "
              "shifts from 0 to 7", (
        "a part of the product one place off",
        "low_high_3 + high_low_3", "low_high_3 + (high_low_3 << 1)"),
        multiplier=3 << 16, least_shift=0),
    _rounding("rounding-up", "the value 2^20, every multiplier, every shift", (
        "a multiplier cut in the wrong place",
        "self.multiplier[17:])}", "self.multiplier[17:30])}"), value=1 << 20),
    _rounding("rounding-down", "the value -2^20, every multiplier, every shift", (
        "rounding towards zero on ties",
        "right_1 & minus_1)", "0)"),
        value=-1 << 20),
    _rounding("rounding-least", "the value -2^31, every multiplier, shifts from 0 to 7", (
        "a sum that wraps", "reg(\"placed_8\", signed(39)", "reg(\"placed_8\", signed(38)"),
        value=-1 << 31, least_shift=0),
)
