"""What the requantiser promises: TFLite's double rounding."""

from amaranth.hdl import Const, Mux, Signal, signed
from systolith_hw.requantise import Requantiser

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]


class DoubleRounding(Specification):
    """``RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(value << left, multiplier), right)``
    of ``LATENCY`` cycles before, plus the zero point, clamped, which come ``PLACE`` cycles later.

    Written after gemmlowp's ``fixedpoint.h``, in integers wide enough for everything.

    Parameters
    ----------
    value, multiplier : int or None
        The only value or multiplier; None: any.
    """
    def __init__(self, *, value: int | None = None, multiplier: int | None = None):
        self.value = value
        self.multiplier = multiplier
        super().__init__(Requantiser(), drives=("value", "multiplier"),
                         any_value=signed(32), any_multiplier=31)

    def properties(self, m, dut):
        m.d.comb += [
            dut.value.eq(self.any_value if self.value is None else self.value),
            dut.multiplier.eq(self.any_multiplier if self.multiplier is None
                              else self.multiplier),
        ]
        self.given(m, (dut.shift >= dut.MIN_SHIFT) & (dut.shift <= dut.MAX_SHIFT))
        self.given(m, dut.clamp_low <= dut.clamp_high)
        late = dut.LATENCY - dut.PLACE
        inputs = ((dut.value, dut.LATENCY), (dut.multiplier, dut.LATENCY),
                  (dut.shift, dut.LATENCY), (dut.zero_point, late), (dut.clamp_low, late),
                  (dut.clamp_high, late))
        before = []
        for i, (signal, cycles) in enumerate(inputs):
            for cycle in range(cycles):
                register = Signal.like(signal, name=f"input{i}_{cycle}", reset_less=True)
                m.d.sync += register.eq(signal)
                signal = register
            before.append(signal)
        value, multiplier, shift, zero_point, clamp_low, clamp_high = before
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
        result  = Signal(signed(8))
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
            result.eq(Mux(placed < clamp_low, clamp_low,
                          Mux(placed > clamp_high, clamp_high, placed))),
        ]
        self.require(m, (age < dut.LATENCY) | (dut.result == result), "the result is TFLite's")


def _rounding(name, what, bug, **only):
    return Proof(
        name=name, block="requantise.py", cycles=Requantiser.LATENCY + 2,
        claim=f"Requantiser, {what}, every shift, zero point and clamp: the result is TFLite's "
              "double rounding, of each input at its time. Registers begin with any contents "
              "and nothing older has an influence, so this holds in every cycle",
        make=lambda: DoubleRounding(**only), bugs=(bug,))


TIES = Bug("rounding towards zero on ties", "hw/systolith_hw/requantise.py",
           "right_1 & (value_high_1 < 0)).as_signed()", "right_1 & 0).as_signed()", RUN)
PROOFS = (
    _rounding("rounding-17", "every value, the multiplier 2^17", Bug(
        "saturated too narrow", "hw/systolith_hw/requantise.py",
        "reg(\"rounded_8\", signed(10), _saturated(shifted_7, 10))",
        "reg(\"rounded_8\", signed(9), _saturated(shifted_7, 9))", RUN), multiplier=1 << 17),
    _rounding("rounding-cut", "every value, the multiplier 3 * 2^16 (on both sides of a cut)", Bug(
        "a part of the product one place off", "hw/systolith_hw/requantise.py",
        "low_high_2 + high_low_2", "low_high_2 + (high_low_2 << 1)", RUN), multiplier=3 << 16),
    _rounding("rounding-up", "the value 2^20, every multiplier", Bug(
        "a multiplier cut in the wrong place", "hw/systolith_hw/requantise.py",
        "reg(\"mult_high_1\", 14, self.multiplier[17:])",
        "reg(\"mult_high_1\", 14, self.multiplier[17:30])", RUN), value=1 << 20),
    _rounding("rounding-down", "the value -2^20, every multiplier", Bug(
        "rounding towards zero on ties", "hw/systolith_hw/requantise.py",
        "right_1 & (value_high_1 < 0)).as_signed()", "right_1 & 0).as_signed()", RUN),
        value=-1 << 20),
)
