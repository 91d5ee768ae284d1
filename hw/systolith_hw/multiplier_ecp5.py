"""A multiplier of the ECP5's carry cells, beside those that its MULT18X18Ds are."""

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .cells import has_vendor_cells, place
from .cells_ecp5 import carry_chain
from .checks import check_bool, check_int
from .latency import ECP5_MULTIPLIER

__all__ = ["CarryAdder", "CarryMultiplier", "TwoTerms"]


class TwoTerms(wiring.Component):
    """``sum = term * bits[0] + 2 * term * bits[1]`` in CCU2Cs; the same in plain Amaranth without
    vendor cells.

    The LUT in front of a carry has room for a bit of both terms. It says whether they differ; where
    they do not, both are what is carried.

    Timing: combinational.

    Source: Lattice FPGA-TN-02200 (ECP5 family), "Ripple Mode"; Yosys' model of the cell.

    Parameters
    ----------
    negative : bool
        Whether the second term is subtracted, as that of the highest bit of a signed number is.

    Members
    -------
    term : ``In(signed(8))``
    bits : ``In(2)``
    sum : ``Out(signed(10))``
    """
    def __init__(self, *, negative: bool):
        check_bool("negative", negative)
        self.negative = negative
        super().__init__({"term": In(signed(8)), "bits": In(2), "sum": Out(signed(10))})

    def elaborate(self, platform):
        m = Module()
        first, second = self.bits
        if not has_vendor_cells(platform):
            one = (self.term.as_unsigned() & first.replicate(8)).as_signed()
            two = (self.term.as_unsigned() & second.replicate(8)).as_signed() << 1
            m.d.comb += self.sum.eq(one - two if self.negative else one + two)
            return m
        # A & B differs from C & D, or, for what is subtracted, from ~C & D with a carry.
        init, below = (0x8788, Const(0)) if self.negative else (0x7888, Const(1))
        halves = [(init, (self.term[min(bit, 7)], first,
                          self.term[min(bit, 8) - 1] if bit else below,
                          second if bit or self.negative else Const(0)), self.sum[bit])
                  for bit in range(len(self.sum))]
        carry_chain(m, halves, carry=second if self.negative else None)
        return m


class CarryAdder(wiring.Component):
    """``sum = low + high * 2**shift``, a carry chain of its own: a synthesiser would make one tree
    of full adders of several.

    Timing: combinational.

    Parameters
    ----------
    low_bits, high_bits, sum_bits : int
        Widths; ``low`` has more bits than ``shift``, and the sum is not cut where it fits.
    shift : int
        Bits of ``low`` that stay as they are.

    Members
    -------
    low : ``In(signed(low_bits))``
    high : ``In(signed(high_bits))``
    sum : ``Out(signed(sum_bits))``
    """
    def __init__(self, *, low_bits: int, high_bits: int, sum_bits: int, shift: int):
        check_int("shift", shift, 0, 32)
        check_int("low_bits", low_bits, shift + 1, 64)
        check_int("high_bits", high_bits, 1, 64)
        check_int("sum_bits", sum_bits, shift + 1, 64)
        self.low_bits = low_bits
        self.high_bits = high_bits
        self.sum_bits = sum_bits
        self.shift = shift
        super().__init__({"low": In(signed(low_bits)), "high": In(signed(high_bits)),
                          "sum": Out(signed(sum_bits))})

    def elaborate(self, platform):
        m = Module()
        if not has_vendor_cells(platform):
            m.d.comb += self.sum.eq(self.low + (self.high << self.shift))
            return m
        one, shift = Const(1), self.shift
        m.d.comb += self.sum[:shift].eq(self.low[:shift])
        carry_chain(m, [(0x66AA, (self.low[min(bit, len(self.low) - 1)],
                                  self.high[min(bit - shift, len(self.high) - 1)], one, one),
                         self.sum[bit]) for bit in range(shift, len(self.sum))])
        return m


class CarryMultiplier(wiring.Component):
    """``product = activation * factor`` in carry cells, with the registers of a MULT18X18D.

    Four sums of two terms each, a register, and the sum of those.

    Timing: ``product`` is that of the activation ``LATENCY`` cycles before.

    Members
    -------
    activation : ``In(signed(8))``
        Operand, one each cycle.
    factor : ``In(signed(8))``
        Factor to take with ``load``.
    load : ``In(1)``
        Take ``factor``, for this cycle's activation and those after it.
    product : ``Out(signed(16))``
        The exact product.
    """
    LATENCY = ECP5_MULTIPLIER

    def __init__(self):
        super().__init__({"activation": In(signed(8)), "factor": In(signed(8)), "load": In(1),
                          "product": Out(signed(16))})

    def elaborate(self, platform):
        m = Module()
        activation = Signal.like(self.activation, reset_less=True)
        factor     = Signal.like(self.factor, reset_less=True)
        output     = Signal.like(self.product, reset_less=True)
        with m.If(self.load):
            m.d.sync += factor.eq(self.factor)
        m.d.sync += activation.eq(self.activation)
        sums = []
        for i in range(0, 8, 2):
            terms = TwoTerms(negative=i == 6)
            place(m, platform, f"terms_{i}", terms)
            m.d.comb += [terms.term.eq(activation), terms.bits.eq(factor[i:i + 2])]
            sums.append(Signal(terms.sum.shape(), name=f"sum_{i}", reset_less=True))
            m.d.sync += sums[-1].eq(terms.sum)
        shift = 2
        while len(sums) > 1:
            pairs = list(zip(sums[::2], sums[1::2], strict=True))
            sums = []
            for i, (low, high) in enumerate(pairs):
                # As wide as the activation and the bits of the factor that have met it.
                adder = CarryAdder(low_bits=len(low), high_bits=len(high), shift=shift,
                                   sum_bits=8 + 2 * shift)
                place(m, platform, f"adder_{len(pairs)}_{i}", adder)
                m.d.comb += [adder.low.eq(low), adder.high.eq(high)]
                sums.append(adder.sum)
            shift *= 2
        m.d.sync += output.eq(sums[0])
        m.d.comb += self.product.eq(output)
        return m
