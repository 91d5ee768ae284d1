"""Delay lines."""

import random

import pytest
from amaranth.hdl import signed
from systolith_hw.skew import Skew

from .simulate import simulate


@pytest.mark.parametrize("shape", [1, 5, signed(8)])
@pytest.mark.parametrize("delays", [[0, 1], [3], range(5), [3, 2, 1, 0], [0, 0, 1, 2], [7, 0, 7]])
def test_delays_every_lane_by_its_own_number_of_cycles(shape, delays):
    rng = random.Random(str(delays))
    dut = Skew(shape=shape, delays=delays)
    low = -128 if dut.shape.signed else 0

    async def bench(ctx):
        rows = []
        for _ in range(60):
            rows.append([low + rng.randrange(1 << dut.shape.width) for _ in delays])
            ctx.set(dut.lanes, rows[-1])
            *_, delayed = await ctx.tick().sample(dut.delayed)
            for i, delay in enumerate(delays):
                if len(rows) > delay:
                    assert delayed[i] == rows[-1 - delay][i]

    simulate(dut, bench)


@pytest.mark.parametrize("error, message, delays", [
    (TypeError, "delays must be an integer, not 'now'", ["now"]),
    (ValueError, "delays must be from 0 to 65536, not -1", [0, -1]),
])
def test_explains_what_a_parameter_must_be(error, message, delays):
    with pytest.raises(error) as info:
        Skew(shape=8, delays=delays)
    assert str(info.value) == message
