"""Narrow addresses of a compact core: what does not fit leads out, from anywhere in memory."""

import random

import pytest
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.config import CoreConfig
from systolith_hw.fit import fitted
from systolith_hw.isa import COMMANDS, Opcode
from systolith_hw.narrow import index_bits, length_bits, memory_bits

from .simulate import simulate

CONFIG = CoreConfig.preset("tiny")
# What each field's addresses walk: positions, those they may stand behind, and the ring.
SIZES = {
    Opcode.LOAD: {"memory_base": (1 << 17, None), "memory_jumps": (1 << 17, None),
                  "pad_base": (2048, None), "pad_jumps": (2048, 0), "row_step": (512, 0)},
    Opcode.STORE: {"memory_jumps": (1 << 17, None), "pad_jumps": (2048, 0), "row_step": (512, 0)},
    Opcode.EXECUTE: {"act_base": (512, None), "act_jumps": (512, 0), "acc_base": (256, None),
                     "acc_jumps": (256, 2), "wgt_base": (1024, None), "wgt_rewind": (1024, 1)},
}


class Words(wiring.Component):
    """All words of a command, fitted as the queue does it."""
    def __init__(self, opcode, bits):
        self.opcode, self.bits = opcode, bits
        super().__init__({"i": In(512), "o": Out(512)})

    def elaborate(self, platform):
        m = Module()
        rings = self.i[COMMANDS[self.opcode].field("ring").bit:][:16]
        m.d.sync += self.o.eq(Cat(
            fitted(self.opcode, i, self.i.word_select(i, self.bits), rings, CONFIG)
            for i in range(512 // self.bits)))
        return m


def fields_of(opcode, word):
    """Every value of the fields in ``SIZES``, as unsigned bits."""
    for name, (size, ring) in SIZES[opcode].items():
        field = COMMANDS[opcode].field(name)
        for entry in range(field.count):
            start = field.bit + entry * field.bits
            yield name, entry, size, ring, field.bits, word >> start & ((1 << field.bits) - 1)


@pytest.mark.parametrize("bits", [32, 128, 512])
@pytest.mark.parametrize("opcode", SIZES)
def test_a_step_from_inside_ends_where_the_wide_one_does_or_outside(opcode, bits):
    rng = random.Random(f"{opcode} {bits}")
    dut = Words(opcode, bits)
    seen = set()

    async def bench(ctx):
        for _ in range(200):
            rings = [rng.choice([0, rng.randint(1, 9)]) for _ in range(4)]
            word = rng.getrandbits(512)
            for name, entry, size, _, width, _ in fields_of(opcode, word):
                field = COMMANDS[opcode].field(name)
                value = rng.choice([rng.randint(-2 * size, 2 * size), rng.getrandbits(width),
                                    size, -size, size - 1, -size - 1])
                start = field.bit + entry * width
                word &= ~(((1 << width) - 1) << start)
                word |= (value & ((1 << width) - 1)) << start
            at = COMMANDS[opcode].field("ring").bit
            word &= ~(0xffff << at)
            word |= sum(ring << 4 * i for i, ring in enumerate(rings)) << at
            ctx.set(dut.i, word)
            await ctx.tick()
            result = ctx.get(dut.o)
            for (name, _, size, ring, width, wide), (*_, narrow) in zip(
                    fields_of(opcode, word), fields_of(opcode, result), strict=True):
                walked = 2 * size   # one bit more than the memory has
                if ring is not None and rings[ring]:
                    assert narrow % walked == wide % walked, "a ring takes the low bits"
                    continue
                for place in (0, rng.randrange(size), size - 1):
                    if name.endswith("_base"):
                        place = 0
                    true, found = (place + wide) % (1 << width), (place + narrow) % walked
                    assert found == true if true < size else found >= size, (name, wide)
                    seen.add(true < size)

    simulate(dut, bench)
    assert seen == {False, True}


def test_addresses_and_positions_have_the_bits_that_memory_needs():
    assert (memory_bits(CONFIG), index_bits(CONFIG), length_bits(CONFIG)) == (18, 12, 13)
    demo = CoreConfig.preset("demo")
    assert (memory_bits(demo), index_bits(demo), length_bits(demo)) == (32, 20, 20)
    word = Signal(32)
    assert fitted(Opcode.LOAD, 7, word, Const(0, 16), demo).shape().width == 32
