"""What the requantiser promises: TFLite's double rounding."""

from amaranth.hdl import Const, Mux, Signal, signed
from systolith_hw.requantise import Requantiser

from .proof import RUN, Bug, Proof
from .specification import Specification

__all__ = ["PROOFS"]


class DoubleRounding(Specification):
    """``RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(value << left, multiplier), right)``
    plus the zero point, clamped, of the inputs ``LATENCY`` cycles before.

    Written after gemmlowp's ``fixedpoint.h``, in integers wide enough for everything.

    Parameters
    ----------
    multiplier : int or None
        The only multiplier; None: any.
    value_bits : int
        The value is any signed number of so many bits.
    """
    def __init__(self, *, multiplier: int | None = None, value_bits: int = 32):
        self.only = multiplier
        super().__init__(Requantiser(), drives=("value", "multiplier"),
                         number=signed(value_bits), factor=31)

    def properties(self, m, dut):
        multiplier = self.factor if self.only is None else Const(self.only, 31)
        m.d.comb += [dut.value.eq(self.number), dut.multiplier.eq(multiplier)]
        self.given(m, (dut.shift >= dut.MIN_SHIFT) & (dut.shift <= dut.MAX_SHIFT))
        self.given(m, dut.clamp_low <= dut.clamp_high)
        inputs = (self.number, self.factor, dut.shift, dut.zero_point, dut.clamp_low,
                  dut.clamp_high)
        before = []
        for i, value in enumerate(inputs):
            for cycle in range(dut.LATENCY):
                register = Signal(value.shape(), name=f"input{i}_{cycle}", reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            before.append(value)
        number, factor, shift, zero_point, clamp_low, clamp_high = before
        age = Signal(range(dut.LATENCY + 2))
        m.d.sync += age.eq(Mux(age <= dut.LATENCY, age + 1, age))

        product = Signal(signed(63))
        lifted  = Signal(signed(70))
        nudged  = Signal(signed(70))
        high    = Signal(signed(40))
        right   = Signal(range(32))
        rest, half, rounded = (Signal(signed(40), name=name) for name in ("rest", "half", "rounded"))
        placed  = Signal(signed(41))
        result  = Signal(signed(8))
        m.d.comb += [
            product.eq(number * (factor if self.only is None else self.only)),
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


def _rounding(name, what, bug, **sizes):
    return Proof(
        name=name, block="requantise.py", cycles=Requantiser.LATENCY + 2,
        claim=f"Requantiser, {what}, every shift, zero point and clamp: the result is TFLite's "
              "double rounding. Registers begin with any contents and nothing older than the "
              "latency has an influence, so this holds in every cycle",
        make=lambda: DoubleRounding(**sizes), bugs=(bug,))


TIES = Bug("rounding towards zero on ties", "hw/systolith_hw/requantise.py",
           "right_1 & (value_high_1 < 0)).as_signed()", "right_1 & 0).as_signed()", RUN)
PROOFS = (
    _rounding("rounding-2^30", "every 32-bit value, the multiplier 2^30", TIES, multiplier=1 << 30),
    _rounding("rounding-2^0", "every 32-bit value, the multiplier 2^30", TIES, multiplier=1),
    _rounding("rounding-max", "every 32-bit value, the multiplier 2^30", TIES, multiplier=2**31-1),
    _rounding("rounding-5", "every 32-bit value, the multiplier 2^30", TIES, multiplier=0x50000000),
    _rounding("rounding-v2", "every 32-bit value, the multiplier 2^30", TIES, value_bits=2),
    _rounding("rounding-v4", "every 32-bit value, the multiplier 2^30", TIES, value_bits=4),
)
