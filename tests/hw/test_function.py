"""The function unit against Python's integers."""

import random

import pytest
from systolith_hw.function import FunctionUnit
from systolith_hw.isa import ElementType, Function

from .pipelined import through

LOW, HIGH = -2**31, 2**31 - 1
BITS = {ElementType.INT8: 8, ElementType.INT16: 16, ElementType.INT32: 32}


def saturated(value, bits):
    return min(max(value, -1 << (bits - 1)), (1 << (bits - 1)) - 1)


def signed(value, bits):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def segment(word, place):
    """What a segment's word says of a place in it, with two bits below the result's."""
    return signed(word, 18) + (signed(word >> 18, 14) * place >> 15)


class Unit:
    """A function unit, its table of random entries, and what it should find."""
    def __init__(self, *, entries=256, multiply=True, normalises=False, seed=0):
        print(f"seed {seed}")
        self.rng = random.Random(seed)
        self.dut = FunctionUnit(entries=entries, multiply=multiply, normalises=normalises)
        self.bits = 32 if multiply else 8
        self.table = [self.rng.getrandbits(self.bits) for _ in range(entries)]

    def case(self, function, x, *, shift=0, wide=0, two_sided=0, base=0, immediate=0, factor=0,
             entry=0, limit=ElementType.INT32, normalise=0, halve=0):
        """Inputs, as the vector engine makes them of a command's fields."""
        coarse = int(shift > 15)
        return {"x": x, "factor": factor, "entry": entry, "settings": {
            "function": function, "coarse": coarse,
            "left": (15 if wide else 17) - (shift - 8 if coarse else shift),
            "wide": wide, "two_sided": two_sided, "base": base, "immediate": immediate,
            "limit": limit, "normalise": normalise, "halve": halve,
            "reads": int(function in (Function.TABLE, Function.LINEAR, Function.CHANNEL))}}

    def reference(self, case, shift):
        """Result and, of a normalised number, how far it was shifted."""
        x, factor, settings = case["x"], case["factor"], case["settings"]
        first, bits = 64 * settings["base"], BITS[settings["limit"]]
        u, count = saturated(x, 18), 256 if settings["wide"] else 64
        match settings["function"]:
            case Function.TABLE:
                return saturated(signed(self.table[first + saturated(x, 8) + 128], 8), bits)
            case Function.LINEAR if settings["normalise"]:
                left = 31 - max(x, 1).bit_length()
                left -= left % 2 if settings["halve"] else 0
                number, fraction = divmod(max(x, 1) << left, 2**31 // count)
                return segment(self.table[first + number], fraction * count >> 16), left
            case Function.LINEAR:
                if shift > 15:
                    x, shift = x >> 8, shift - 8
                least = -count // 2 if settings["two_sided"] else 0
                place = min(max(x * 2**(15 - shift), least << 15), (least + count << 15) - 1)
                word = self.table[first + (place >> 15) - least]
                return saturated(segment(word, place & 0x7fff) + 2 >> 2, bits)
            case Function.CHANNEL:
                return saturated(segment(self.table[first + case["entry"]], u) + 2 >> 2, bits)
            case Function.SQUARE:
                return saturated(u * u, bits)
            case Function.PRODUCT:
                return saturated(u * factor, bits)
            case Function.WEIGHTED:
                return saturated(x + factor * settings["immediate"], bits)
        return saturated(x, bits)

    async def _write(self, ctx):
        dut = self.dut
        for number, word in enumerate(self.table):
            ctx.set(dut.write_addr, number)
            ctx.set(dut.write_data, word)
            ctx.set(dut.write_en, (1 << dut.entry_bytes) - 1)
            await ctx.tick()
        ctx.set(dut.write_en, 0)

    def check(self, cases, shifts=None):
        dut = self.dut
        normalises = dut.normalises
        found = through(dut, cases, latency=dut.latency(multiply=dut.multiply),
                        outputs=["result", "left"], before=self._write)
        for case, shift, (result, left) in zip(
                cases, shifts or [0] * len(cases), found, strict=True):
            expected = self.reference(case, shift)
            assert ((result, left) if normalises else result) == expected, case

    def numbers(self, count):
        """Numbers of every size, on both sides of 0."""
        rng = self.rng
        return [0, -1, 1, LOW, HIGH, LOW + 1, HIGH - 1] + [
            signed(rng.getrandbits(32), rng.randint(1, 32)) for _ in range(count)]


@pytest.mark.parametrize("entries, multiply", [(256, True), (512, True), (256, False)])
def test_tables_have_an_entry_for_every_int8(entries, multiply):
    unit = Unit(entries=entries, multiply=multiply)
    unit.check([unit.case(Function.TABLE, x, base=base, limit=limit)
                for base in range(0, entries // 64 - 3, 2) for limit in range(3)
                for x in (*range(-140, 140), -2**15, 2**15, LOW, HIGH)])


@pytest.mark.parametrize("two_sided", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_every_place_of_every_segment(two_sided, wide):
    unit = Unit()
    count, shift = 256 if wide else 64, 2 if wide else 4
    cases = [unit.case(Function.LINEAR, x, shift=shift, wide=wide, two_sided=two_sided)
             for x in range(-(count + 3 << shift), count + 3 << shift)]
    unit.check(cases, [shift] * len(cases))


@pytest.mark.parametrize("two_sided", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_segments_of_every_width_meet_and_end_where_they_should(two_sided, wide):
    unit = Unit(entries=512)
    cases, shifts = [], []
    count = 256 if wide else 64
    for shift in range(24):
        edges = [0, 1, count - 1, count, -1, -count // 2, count // 2, count // 2 - 1]
        numbers = [(edge << shift) + step for edge in edges for step in (-257, -256, -1, 0, 1, 255)]
        for x in [x for x in numbers if LOW <= x <= HIGH] + unit.numbers(20):
            base = unit.rng.randrange(5 if wide else 8)
            cases.append(unit.case(Function.LINEAR, x, shift=shift, wide=wide, base=base,
                                   two_sided=two_sided, limit=unit.rng.randrange(3)))
            shifts.append(shift)
    unit.check(cases, shifts)


@pytest.mark.parametrize("halve", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_normalises_to_31_bits_by_even_places_for_a_root(halve, wide):
    unit = Unit(normalises=True)
    near = [(1 << bit) + step for bit in range(31) for step in (-1, 0, 1)]
    cases = [unit.case(Function.LINEAR, x, wide=wide, normalise=1, halve=halve)
             for x in [*near, *range(300), *unit.numbers(200)]]
    unit.check(cases)


@pytest.mark.parametrize("function", [Function.NONE, Function.CHANNEL, Function.SQUARE,
                                      Function.PRODUCT, Function.WEIGHTED])
def test_products_saturate_at_the_limit(function):
    unit = Unit(entries=512)
    rng = unit.rng
    cases = []
    for x in unit.numbers(800):
        shorter = rng.randint(1, 18)
        cases.append(unit.case(
            function, x, base=rng.randrange(4), entry=rng.randrange(256), limit=rng.randrange(3),
            factor=rng.choice([-2**17, 2**17 - 1, signed(rng.getrandbits(18), shorter)]),
            immediate=rng.choice([-2**15, 2**15 - 1, rng.randrange(-99, 99)])))
    unit.check(cases)


def test_another_function_with_every_number():
    unit = Unit(entries=512)
    rng = unit.rng
    cases, shifts = [], []
    for x in unit.numbers(1500):
        shift = rng.randrange(24)
        cases.append(unit.case(
            rng.choice(list(Function)), x, shift=shift, wide=rng.randrange(2),
            two_sided=rng.randrange(2), base=rng.randrange(5), limit=rng.randrange(3),
            factor=rng.randrange(-2**17, 2**17), entry=rng.randrange(192),
            immediate=rng.randrange(-2**15, 2**15)))
        shifts.append(shift)
    unit.check(cases, shifts)
