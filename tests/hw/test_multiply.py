"""The multiplier: values, latency and the moment a weight changes."""

import random

import pytest
from systolith_hw.multiply import Multiplier

from .simulate import simulate


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
def test_multiplies_by_the_weight_taken_with_the_activation_of_the_swap(bits):
    rng = random.Random(bits)
    dut = Multiplier(weight_bits=bits)
    low, high = -1 << (bits - 1), (1 << (bits - 1)) - 1
    extremes = {low, low + 1, -1, 0, 1, high}
    operands = [(a, w, 1) for a in (-128, -127, -1, 0, 1, 127) for w in sorted(extremes)]
    operands += [(rng.randrange(-128, 128), rng.randint(low, high), rng.random() < 0.3)
                 for _ in range(1000)]

    async def bench(ctx):
        active, products = 0, []  # the first operands swap
        for activation, weight, swap in operands:
            ctx.set(dut.activation, activation)
            ctx.set(dut.weight, weight)
            ctx.set(dut.swap, swap)
            *_, product = await ctx.tick().sample(dut.product)
            if len(products) >= Multiplier.LATENCY:
                assert product == products[-Multiplier.LATENCY]
            active = weight if swap else active
            products.append(activation * active)

    simulate(dut, bench)


def test_refuses_weights_that_are_too_wide():
    with pytest.raises(ValueError) as info:
        Multiplier(weight_bits=9)
    assert str(info.value) == "weight_bits must be from 2 to 8, not 9"


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
def test_gated_it_multiplies_live_activations_and_keeps_its_product_without_a_valid_one(bits):
    rng = random.Random(bits)
    dut = Multiplier(weight_bits=bits, gated=True)
    low, high = -1 << (bits - 1), (1 << (bits - 1)) - 1

    async def bench(ctx):
        active, products = 0, []
        for cycle in range(1000):
            activation, weight = rng.randrange(-128, 128), rng.randint(low, high)
            swap, valid = cycle == 0 or rng.random() < 0.3, cycle == 0 or rng.random() < 0.6
            live = valid and rng.random() < 0.5
            for port, value in ((dut.activation, activation), (dut.weight, weight),
                                (dut.swap, swap), (dut.valid, valid), (dut.live, live)):
                ctx.set(port, value)
            *_, product = await ctx.tick().sample(dut.product)
            if len(products) >= Multiplier.LATENCY:
                assert product == products[-Multiplier.LATENCY]
            active = weight if swap else active
            product = activation * active if live else 0
            products.append(product if valid else products[-1])

    simulate(dut, bench)
