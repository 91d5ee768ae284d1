"""Every array checks that weights and swaps take turns."""

import pytest
from systolith_hw.array import Array
from systolith_hw.array_ecp5 import Ecp5Array
from systolith_hw.array_ice40 import Ice40Array
from systolith_hw.array_soft import SoftArray

from .simulate import simulate

ARRAYS = pytest.mark.parametrize("array", [Array, Ecp5Array, Ice40Array, SoftArray])


@ARRAYS
def test_a_swap_before_its_weights_is_caught(array):
    dut = array(rows=4, cols=2)

    async def bench(ctx):
        ctx.set(dut.weights_valid, 1)
        for _ in range(3):
            await ctx.tick()
        ctx.set(dut.row_valid, 1)
        ctx.set(dut.swap, 1)
        for _ in range(2):
            await ctx.tick()

    with pytest.raises(AssertionError, match="a swap may not enter before the weights"):
        simulate(dut, bench)


@ARRAYS
def test_weights_before_the_swap_are_caught(array):
    dut = array(rows=4, cols=2)

    async def bench(ctx):
        ctx.set(dut.weights_valid, 1)
        for _ in range(6):
            await ctx.tick()

    with pytest.raises(AssertionError, match="weights may not enter before the swap"):
        simulate(dut, bench)
