"""Comparisons with constants, as LUTs."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.choose import at_most

from .simulate import simulate


class Comparisons(wiring.Component):
    """Bit i of ``o``: ``i`` is at most i."""
    def __init__(self, bits):
        self.limits = range(1 << bits)
        super().__init__({"i": In(bits), "o": Out(1 << bits)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.o[limit].eq(at_most(self.i, limit)) for limit in self.limits]
        return m


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_at_most_compares(bits):
    dut = Comparisons(bits)

    async def bench(ctx):
        for value in dut.limits:
            ctx.set(dut.i, value)
            await ctx.tick()
            assert ctx.get(dut.o) == sum((value <= limit) << limit for limit in dut.limits)

    simulate(dut, bench)


def test_whatever_fits_is_at_most_a_limit_beyond():
    assert repr(at_most(Signal(3), 7)) == repr(at_most(Signal(3), 100)) == "(const 1'd1)"
