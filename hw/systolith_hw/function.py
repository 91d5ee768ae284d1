"""What a lane does with a number beside scaling it: tables, segments, products."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .combine import saturated
from .isa import ElementType, Function
from .ram import Ram

__all__ = ["MANTISSA_BITS", "FunctionUnit", "function_layout"]

FRACTION_BITS = 15      # of a place in a segment
BASE_BITS = 18          # of a segment
SLOPE_BITS = 14
GUARD_BITS = 2          # of the base, below the result's bits
FACTOR_BITS = 18        # of the multiplier, signed
MANTISSA_BITS = BASE_BITS

# What a command says of its function, and whether it needs the table now. ``left`` and ``coarse``
# come of its function_shift (with 64 segments, the window is that of 256 whose width is a fourth);
# ``limit`` is the type that results saturate to.
function_layout = data.StructLayout({
    "function": Function, "coarse": 1, "left": 5, "wide": 1, "two_sided": 1, "base": 3,
    "immediate": signed(16), "limit": 2, "normalise": 1, "halve": 1,
    "reads": 1})


class FunctionUnit(wiring.Component):
    """A function of ``x``, one number per cycle, ``latency(multiply=...)`` cycles later.

    Tables have an int8 for every int8; segments a base and a slope of which
    ``base + (slope * place >> 15)`` is the result with two more bits, ``place`` being the
    fraction of a segment's width by which x is beyond its beginning.

    Parameters
    ----------
    entries : int
        Entries of the table memory: 0, or a power of two.
    multiply : bool
        Whether there is a multiplier; without, tables are all there is.
    normalises : bool
        Whether ``left`` can be found so that x fills 31 bits.

    Members
    -------
    x : ``In(signed(32))``
    factor : ``In(signed(18))``
        The stream, less the immediate for products.
    entry : ``In(9)``
        The channel's entry.
    settings : ``In(function_layout)``
    result : ``Out(signed(32))``
    left : ``Out(5)``
        Beside ``result``: places by which x was shifted to the left to fill 31 bits; an even
        number with ``halve``.
    write_addr, write_data, write_en : ``In``
        To the table memory, an entry of 4 bytes (one without multiplier) with an enable for each.
    """
    def __init__(self, *, entries: int, multiply: bool, normalises: bool = False):
        self.entries = entries
        self.multiply = multiply
        self.normalises = normalises
        self.entry_bytes = 4 if multiply else 1
        super().__init__({
            "x": In(signed(32)), "factor": In(signed(FACTOR_BITS)), "entry": In(9),
            "settings": In(function_layout), "result": Out(signed(32)), "left": Out(5),
            "write_addr": In(range(max(entries, 1))), "write_data": In(8 * self.entry_bytes),
            "write_en": In(self.entry_bytes),
        })

    @staticmethod
    def latency(*, multiply: bool) -> int:
        """Cycles from x to result."""
        return 8 if multiply else 5

    def elaborate(self, platform):
        m = Module()

        def reg(name, shape, value):
            """Register that follows ``value``."""
            signal = Signal(shape, name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        def delay(name, value, cycles):
            """``value`` of ``cycles`` cycles before."""
            for i in range(cycles):
                value = reg(f"{name}_{i + 1}", value.shape(), value)
            return value

        # A name's digit is the cycle in which its value is there.
        # 1: limits. 2, 3: the place among segments, and its entry.
        mode_1 = reg("mode_1", function_layout, self.settings)
        mode_2 = reg("mode_2", function_layout, mode_1)
        mode_3 = reg("mode_3", function_layout, mode_2)
        x_1 = reg("x_1", signed(32), self.x)
        x_3 = delay("x_from_1", x_1, 2)
        byte_2 = delay("byte", Cat(*(limited := saturated(self.x, 8))[:7], ~limited[7]), 2)
        entry_2 = delay("entry", self.entry, 2)
        index_2 = byte_2
        fraction_2 = left_2 = Const(0)
        if self.multiply and self.entries:
            index_2, fraction_2, left_2 = self._segment(m, reg, mode_1, mode_2, byte_2,
                                                        entry_2)
        found = Const(0, 8 * self.entry_bytes)
        if self.entries:
            m.submodules.ram = ram = Ram(depth=self.entries, width=8 * self.entry_bytes,
                                         granularity=8)
            index_3 = reg("index_3", range(self.entries),
                          index_2 + (mode_2.base << 6))
            found = ram.read_data   # cycle 4
            m.d.comb += [
                ram.read_en.eq(mode_3.reads), ram.read_addr.eq(index_3),
                ram.write_addr.eq(self.write_addr), ram.write_data.eq(self.write_data),
                ram.write_en.eq(self.write_en),
            ]
        mode_4 = reg("mode_4", function_layout, mode_3)
        x_4 = reg("x_4", signed(32), x_3)
        looked_up = found[:8].as_signed()
        if not self.multiply:
            m.d.comb += self.result.eq(reg("result_5", signed(32), Mux(
                mode_4.function == Function.TABLE, looked_up, x_4)))
            return m

        # 5: factors and what is added to their product. 6: product. 7: sum. 8: rounded, limited.
        u_4 = delay("u", saturated(self.x, FACTOR_BITS), 4)
        factor_4 = delay("factor", self.factor, 4)
        fraction_4 = delay("fraction_from_2", fraction_2, 2)
        mode_5 = reg("mode_5", function_layout, mode_4)
        mode_6 = reg("mode_6", function_layout, mode_5)
        mode_7 = reg("mode_7", function_layout, mode_6)
        first  = Signal(signed(FACTOR_BITS))
        second = Signal(signed(FACTOR_BITS))
        added  = Signal(signed(32))
        m.d.comb += [first.eq(u_4), second.eq(u_4), added.eq(0)]
        with m.Switch(mode_4.function):
            if self.entries:
                with m.Case(Function.TABLE):
                    m.d.comb += [second.eq(0), added.eq(looked_up)]
                with m.Case(Function.LINEAR, Function.CHANNEL):
                    m.d.comb += [second.eq(found[BASE_BITS:].as_signed()),
                                 added.eq(found[:BASE_BITS].as_signed())]
                    with m.If(mode_4.function == Function.LINEAR):
                        m.d.comb += first.eq(fraction_4)
            with m.Case(Function.SQUARE):
                pass
            with m.Case(Function.PRODUCT):
                m.d.comb += second.eq(factor_4)
            with m.Case(Function.WEIGHTED):
                m.d.comb += [first.eq(factor_4), second.eq(mode_4.immediate), added.eq(x_4)]
            with m.Default():
                m.d.comb += [second.eq(0), added.eq(x_4)]
        first_5  = reg("first_5", signed(FACTOR_BITS), first)
        second_5 = reg("second_5", signed(FACTOR_BITS), second)
        added_6  = delay("added", added, 2)
        product_6 = reg("product_6", signed(2 * FACTOR_BITS), first_5 * second_5)
        segments_6 = (mode_6.function == Function.LINEAR) | (mode_6.function == Function.CHANNEL)
        sum_7 = reg("sum_7", signed(2 * FACTOR_BITS + 1), added_6 + Mux(
            segments_6, product_6 >> FRACTION_BITS, product_6))
        rounds_7 = reg("rounds_7", 1, segments_6 & ~mode_6.normalise)
        rounded = (sum_7[:BASE_BITS + 3].as_signed() + (1 << (GUARD_BITS - 1))) >> GUARD_BITS
        number = Signal(signed(len(sum_7)))
        m.d.comb += number.eq(Mux(rounds_7, rounded, sum_7))
        sign = number[-1]
        fits = {bits: number[bits - 1:] == sign.replicate(len(number) - bits + 1)
                for bits in (8, 16, 32)}
        is_8, is_16 = mode_7.limit == ElementType.INT8, mode_7.limit == ElementType.INT16
        limit = Cat((~sign).replicate(7), Mux(is_8, sign, ~sign).replicate(8),
                    Mux(is_8 | is_16, sign, ~sign).replicate(16), sign)
        result = Mux(Mux(is_8, fits[8], Mux(is_16, fits[16], fits[32])), number[:32], limit)
        m.d.comb += [
            self.result.eq(reg("result_8", signed(32), result.as_signed())),
            self.left.eq(delay("left_from_2", left_2, 6)),
        ]
        return m

    def _segment(self, m, reg, mode_1, mode_2, byte_2, entry_2):
        """Entry and place in the segment, and how far x was normalised; all of cycle 2."""
        bits = 8 + FRACTION_BITS    # of a place among 256 segments
        mode = self.settings
        near_1 = reg("near_1", signed(bits + 1), saturated(
            Mux(mode.coarse, self.x >> 8, self.x), bits + 1))
        place  = Signal(signed(bits + 18))
        within = Signal(bits)
        m.d.comb += place.eq(near_1 << mode_1.left)
        # Half a window further up, what lies on both sides of 0 is positive.
        beyond = Mux(mode_1.two_sided, place[bits - 1:] != place[-1].replicate(19),
                     place[bits:].any())
        top = Mux(mode_1.two_sided, ~place[bits - 1], place[bits - 1])
        m.d.comb += within.eq(Mux(beyond, (~place[-1]).replicate(bits),
                                  Cat(place[:bits - 1], top)))
        left_2 = Const(0, 5)
        if self.normalises:
            at_least_1 = Signal(31)
            m.d.comb += at_least_1.eq(Mux(self.x <= 0, 1, self.x[:31]))
            positive_1 = reg("positive_1", 31, at_least_1)
            left = Signal(5)
            m.d.comb += left.eq(0)
            for i in range(31):     # the highest bit that is set decides
                with m.If(at_least_1[i]):
                    m.d.comb += left.eq(30 - i)
            left_1 = reg("left_1", 5, left & Cat(~mode.halve, Const(0b1111)))
            filled = Signal(31)
            m.d.comb += filled.eq(positive_1 << left_1)
            with m.If(mode_1.normalise):
                m.d.comb += within.eq(filled[31 - bits:])
            left_2 = reg("left_2", 5, left_1)
        place_2 = reg("place_2", unsigned(bits), within)
        index_2 = Signal(range(self.entries))
        fraction_2 = Signal(FRACTION_BITS)
        m.d.comb += [
            index_2.eq(Mux(mode_2.wide, place_2[FRACTION_BITS:], place_2[FRACTION_BITS + 2:])),
            fraction_2.eq(Mux(mode_2.wide, place_2[:FRACTION_BITS], place_2[2:])),
        ]
        with m.If(mode_2.function == Function.TABLE):
            m.d.comb += index_2.eq(byte_2)
        with m.Elif(mode_2.function == Function.CHANNEL):
            m.d.comb += index_2.eq(entry_2)
        return index_2, fraction_2, left_2
