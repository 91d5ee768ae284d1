"""What a lane does with a number beside scaling it: tables, segments, products."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .cells import place
from .cells_ecp5 import Multiplier18
from .checks import check_bool
from .combine import saturated
from .config import CoreConfig
from .isa import ElementType, Function
from .ram import Ram
from .scratchpad import WritePort

__all__ = ["MANTISSA_BITS", "FunctionUnit", "fun_port", "function_layout"]

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


def fun_port(config: CoreConfig) -> dict[str, wiring.Member]:
    """The way to write function tables, where there are any."""
    if not config.vector.functions:
        return {}
    return {"fun": In(WritePort(addr_bits=1 + exact_log2(config.vector.functions),
                                width=8 * config.fun_row_bytes))}


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
    cells : bool
        Whether the multiplier is a ``Multiplier18`` in a cell of the ECP5.

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
    def __init__(self, *, entries: int, multiply: bool, normalises: bool = False,
                 cells: bool = False):
        check_bool("cells", cells)
        self.entries = entries
        self.multiply = multiply
        self.normalises = normalises
        self.cells = cells
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
        return 15 if multiply else 5

    def elaborate(self, platform):
        m = Module()
        self.m = m
        # A name's digit is the cycle in which its value is there.
        mode = [self.settings]
        for i in range(self.latency(multiply=self.multiply)):
            mode.append(self._reg(f"mode_{i + 1}", function_layout, mode[-1]))
        byte   = saturated(self.x, 8)
        byte_1 = self._reg("byte_1", 8, Cat(byte[:7], ~byte[7]))
        x_1    = self._reg("x_1", signed(32), self.x)
        if not self.multiply:
            index_2 = self._reg("index_2", range(max(self.entries, 1)),
                                byte_1 + (mode[1].base << 6))
            found_4 = self._found(mode, index_2, 2)
            x_4 = self._delay("x_from_1", x_1, 3)
            m.d.comb += self.result.eq(self._reg("result_5", signed(32), Mux(
                mode[4].function == Function.TABLE, found_4[:8].as_signed(), x_4)))
            return m

        # 2: factors and what is added to their product, where it is nothing of the table.
        u_1 = self._reg("u_1", signed(FACTOR_BITS), saturated(self.x, FACTOR_BITS))
        factor_1 = self._reg("factor_1", signed(FACTOR_BITS), self.factor)
        weighted = mode[1].function == Function.WEIGHTED
        second, added = Signal(signed(FACTOR_BITS)), Signal(signed(32))
        m.d.comb += added.eq(x_1)
        with m.Switch(mode[1].function):
            with m.Case(Function.SQUARE):
                m.d.comb += [second.eq(u_1), added.eq(0)]
            with m.Case(Function.PRODUCT):
                m.d.comb += [second.eq(factor_1), added.eq(0)]
            with m.Case(Function.WEIGHTED):
                m.d.comb += second.eq(mode[1].immediate)
        first_6 = self._delay("first", Mux(weighted, factor_1, u_1), 5)
        first_8 = self._delay("first_from_6", first_6, 2)
        second  = self._delay("second", second, 7)
        added   = self._delay("added", added, 7)

        # 6: the entry. 8: what it says. 9, 10, 11: product. 12: sum.
        left_4 = Const(0)
        if self.entries:
            index_6, fraction_6, left_4 = self._segment(mode, byte_1)
            first_7 = self._reg("first_7", signed(FACTOR_BITS), Mux(
                mode[6].function == Function.LINEAR, fraction_6, first_6))
            first_8 = self._reg("first_8", signed(FACTOR_BITS), first_7)
            found_8 = self._found(mode, index_6, 6)
            table_8 = self._reg("table_8", 1, mode[7].function == Function.TABLE)
            segments_8 = self._reg("segments_8", 1, _segments(mode[7]))
            second = Mux(segments_8, found_8[BASE_BITS:].as_signed(), second)
            added = Mux(segments_8, found_8[:BASE_BITS].as_signed(),
                        Mux(table_8, found_8[:8].as_signed(), added))
        unit = Multiplier18(cell=self.cells)
        place(m, platform, "multiplier", unit)
        m.d.comb += [unit.first.eq(first_8), unit.second.eq(second)]
        added_11    = self._delay("added_from_8", added, 3)
        segments_11 = self._reg("segments_11", 1, _segments(mode[10]))
        sum_12 = self._reg("sum_12", signed(2 * FACTOR_BITS + 1), added_11 + Mux(
            segments_11, unit.product >> FRACTION_BITS, unit.product))

        # 13: rounded. 14: whether it fits, type by type. 15: limited.
        rounds_12 = self._reg("rounds_12", 1, _segments(mode[11]) & ~mode[11].normalise)
        rounded   = (sum_12[GUARD_BITS:BASE_BITS + 3].as_signed() + sum_12[GUARD_BITS - 1])
        number_13 = self._reg("number_13", signed(len(sum_12)), Mux(rounds_12, rounded, sum_12))
        sign_13   = number_13[-1]
        fits_14   = {bits: self._reg(f"fits{bits}_14", 1, number_13[bits - 1:above]
                                     == sign_13.replicate(above - bits + 1))
                     for bits, above in ((8, 16), (16, 32), (32, len(number_13)))}
        is_8      = self._reg("is_8_14", 1, mode[13].limit == ElementType.INT8)
        is_16     = self._reg("is_16_14", 1, mode[13].limit == ElementType.INT16)
        sign_14   = self._reg("sign_14", 1, sign_13)
        number_14 = self._reg("number_14", 32, number_13[:32])
        fits      = fits_14[32] & (fits_14[16] | ~(is_8 | is_16)) & (fits_14[8] | ~is_8)
        limit     = Cat((~sign_14).replicate(7), Mux(is_8, sign_14, ~sign_14).replicate(8),
                        Mux(is_8 | is_16, sign_14, ~sign_14).replicate(16), sign_14)
        m.d.comb += [
            self.result.eq(self._reg("result_15", signed(32), Mux(fits, number_14, limit))),
            self.left.eq(self._delay("left_from_4", left_4, 11)),
        ]
        return m

    def _reg(self, name, shape, value):
        """Register that follows ``value``."""
        signal = Signal(shape, name=name, reset_less=True)
        self.m.d.sync += signal.eq(value)
        return signal

    def _delay(self, name, value, cycles):
        """``value`` of ``cycles`` cycles before."""
        shape = Value.cast(value).shape()
        for i in range(cycles):
            value = self._reg(f"{name}_{i + 1}", shape, value)
        return value

    def _found(self, mode, index, at):
        """The entry at ``index``, which is of cycle ``at``, two cycles later."""
        if not self.entries:
            return Const(0, 8 * self.entry_bytes)
        self.m.submodules.ram = ram = Ram(depth=self.entries, width=8 * self.entry_bytes,
                                          granularity=8)
        self.m.d.comb += [
            ram.read_en.eq(mode[at].reads), ram.read_addr.eq(index),
            ram.write_addr.eq(self.write_addr), ram.write_data.eq(self.write_data),
            ram.write_en.eq(self.write_en),
        ]
        return self._reg(f"found_{at + 2}", ram.width, ram.read_data)

    def _segment(self, mode, byte_1):
        """The entry, the place in its segment, both of cycle 6, and how far x was normalised, of
        cycle 4."""
        m = self.m
        bits = 8 + FRACTION_BITS    # of a place among 256 segments
        near_1 = self._reg("near_1", signed(bits + 1), Mux(
            mode[0].coarse, self.x[8:].as_signed(), saturated(self.x, bits + 1)))
        coarse_2 = self._reg("coarse_2", signed(bits + 17), near_1 << (mode[1].left & 0x18))
        place_3  = self._reg("place_3", signed(bits + 18), coarse_2 << mode[2].left[:3])
        # Half a window further up, what lies on both sides of 0 is positive.
        two_sided, sign = mode[3].two_sided, place_3[-1]
        beyond_4 = self._reg("beyond_4", 1, Mux(
            two_sided, place_3[bits - 1:] != sign.replicate(19), place_3[bits:].any()))
        top = place_3[bits - 1] ^ two_sided
        place_4  = self._reg("place_4", bits, Cat(place_3[:bits - 1], top))
        minus_4  = self._reg("minus_4", 1, sign)
        within   = Mux(beyond_4, (~minus_4).replicate(bits), place_4)
        left_4   = Const(0, 5)
        if self.normalises:
            filled_4, left_4 = self._normalised(mode)
            within = Mux(mode[4].normalise, filled_4[31 - bits:], within)
        place_5 = self._reg("place_5", bits, within)
        entry_5 = self._delay("entry", self.entry, 5)
        byte_5  = self._delay("byte_from_1", byte_1, 4)
        number  = Signal(9)
        wide    = mode[5].wide
        m.d.comb += number.eq(Mux(wide, place_5[FRACTION_BITS:], place_5[FRACTION_BITS + 2:]))
        with m.If(mode[5].function == Function.TABLE):
            m.d.comb += number.eq(byte_5)
        with m.Elif(mode[5].function == Function.CHANNEL):
            m.d.comb += number.eq(entry_5)
        index_6 = self._reg("index_6", range(self.entries), number + (mode[5].base << 6))
        fraction_6 = self._reg("fraction_6", FRACTION_BITS, Mux(
            wide, place_5[:FRACTION_BITS], place_5[2:FRACTION_BITS + 2]))
        return index_6, fraction_6, left_4

    def _normalised(self, mode):
        """x, at least 1, shifted to the left to fill 31 bits, and by how many; of cycle 4."""
        positive = Mux(self.x[31], 0, self.x[:31])
        little   = ~positive[15:].any()
        filled_1 = self._reg("filled_1", 31, Mux(little, positive << 16, positive))
        least_1  = self._reg("least_1", 1, ~positive.any())     # 1 in place of x
        filled   = Cat(filled_1[:16], filled_1[16] | least_1, filled_1[17:])
        left     = self._reg("left_1", 1, little)
        for cycle, places in ((2, 8), (3, 4)):
            little = ~filled[-places:].any()
            filled = self._reg(f"filled_{cycle}", 31, Mux(little, filled << places, filled))
            left   = self._reg(f"left_{cycle}", cycle, Cat(little, left))
        # 4: by 2 and 1, the last of which leaves the number even for a root.
        by_2 = ~filled[29:].any()
        by_1 = ~Mux(by_2, filled[28], filled[30]) & ~mode[3].halve
        filled_4 = self._reg("filled_4", 31, Mux(
            by_2, Mux(by_1, filled << 3, filled << 2), Mux(by_1, filled << 1, filled)))
        return filled_4, self._reg("left_4", 5, Cat(by_1, by_2, left))


def _segments(mode):
    """Whether an entry is a base and a slope."""
    return (mode.function == Function.LINEAR) | (mode.function == Function.CHANNEL)
