"""Multiplier strategies: values, latency and the moment a weight changes."""

import random

import pytest
from systolith_hw.config import STRATEGIES as CONFIGURABLE
from systolith_hw.multiply import STRATEGIES, strategy_named

from .simulate import simulate


@pytest.mark.parametrize("name", STRATEGIES)
def test_multiplies_by_the_weight_taken_with_the_activation_of_the_swap(name):
    rng = random.Random(name)
    strategy = strategy_named(name)
    dut = strategy.multiplier()
    extremes = [-128, -127, -1, 0, 1, 127]
    operands = [(a, w, 1) for a in extremes for w in extremes]
    operands += [(rng.randrange(-128, 128), rng.randrange(-128, 128), rng.random() < 0.3)
                 for _ in range(1000)]

    async def bench(ctx):
        active, products = 0, []  # the first operands swap
        for activation, weight, swap in operands:
            ctx.set(dut.activation, activation)
            ctx.set(dut.weight, weight)
            ctx.set(dut.swap, swap)
            *_, product = await ctx.tick().sample(dut.product)
            if len(products) >= strategy.latency:
                assert product == products[-strategy.latency]
            active = weight if swap else active
            products.append(activation * active)

    assert len(dut.product) == strategy.product_bits
    simulate(dut, bench)


def test_every_strategy_a_configuration_may_name_exists():
    assert set(CONFIGURABLE) <= set(STRATEGIES)


def test_refuses_a_strategy_that_does_not_exist():
    with pytest.raises(ValueError) as info:
        strategy_named("magic")
    assert str(info.value) == "strategy must be one of generic, not 'magic'"
