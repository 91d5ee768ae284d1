"""The scale of a row, against its definition."""

import random

import pytest
from amaranth.sim import Simulator
from systolith_hw.function import MANTISSA_BITS
from systolith_hw.requantise import Requantiser
from systolith_hw.rowscale import RowScale


def expected(result, left, halved, offset):
    shift = (left >> 1 if halved else left) + offset
    if shift > Requantiser.MAX_SHIFT:
        return (1 << 31) - 1, Requantiser.MAX_SHIFT
    if shift < Requantiser.MIN_SHIFT:
        return 0, Requantiser.MIN_SHIFT
    mantissa = min(max(result, 0), (1 << MANTISSA_BITS) - 1)
    return mantissa << 31 - MANTISSA_BITS, shift


@pytest.mark.parametrize("seed", range(3))
def test_every_scale_is_the_nearest_that_there_is(seed):
    rng = random.Random(seed)
    print("seed", seed)
    wide = (-1 << 31, -1, 0, 1, (1 << MANTISSA_BITS) - 1, 1 << MANTISSA_BITS, (1 << 31) - 1)
    cases = [(rng.choice((*wide, rng.randrange(1 << MANTISSA_BITS))), rng.randrange(32),
              rng.randrange(2), rng.choice((-128, 127, rng.randrange(-50, 20))))
             for _ in range(300)]
    dut = RowScale()
    found = []

    async def bench(ctx):
        for values in [*cases, cases[-1], cases[-1]]:
            for name, value in zip(("result", "left", "halved", "offset"), values, strict=True):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            scale = ctx.get(dut.scale)
            found.append((scale.multiplier, scale.shift))

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert found[1:len(cases) + 1] == [expected(*values) for values in cases]
