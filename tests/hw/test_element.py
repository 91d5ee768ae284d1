"""One element: both weights, the product, the partial sum."""

import random

import pytest
from systolith_hw.element import ProcessingElement, sum_bits

from .simulate import simulate


def check_sums(dut, weights, *, low, high):
    """Random weights of ``weights``, swaps and activations; ``low`` to ``high`` is what the rows
    above may sum to."""
    rng = random.Random(dut.row)

    async def bench(ctx):
        shadow = active = None
        history = []  # product of each activation so far
        above = 0
        for cycle in range(600):
            start = cycle < 2  # a first weight, then a first swap
            shift, swap = start or rng.random() < 0.4, start or rng.random() < 0.3
            weight = rng.choice([weights[0], weights[-1], rng.choice(weights)])
            activation = rng.choice([-128, 127, rng.randrange(-128, 128)])
            ctx.set(dut.weight, weight)
            ctx.set(dut.shift, shift)
            ctx.set(dut.activation, activation)
            ctx.set(dut.swap, swap)
            above, last_above = rng.choice([low, high, rng.randint(low, high)]), above
            ctx.set(dut.sum_above, above)
            *_, total, below = await ctx.tick().sample(dut.sum, dut.weight_below)
            if len(history) >= dut.latency and history[-dut.latency] is not None:
                assert total == last_above + history[-dut.latency]
            assert shadow is None or below == shadow
            # The swap takes the weight from before this cycle's shift.
            active, shadow = shadow if swap else active, weight if shift else shadow
            history.append(None if active is None else activation * active)

    simulate(dut, bench)


@pytest.mark.parametrize("row", [0, 1, 5, 63])
def test_adds_its_product_to_the_sum_from_above(row):
    check_sums(ProcessingElement(row=row), range(-128, 128), low=row * -128 * 127,
               high=row * 128 * 128)


@pytest.mark.parametrize("products", range(1, 65))
def test_sums_have_the_width_they_need_and_no_bit_more(products):
    bits = sum_bits(products)
    assert products * 128 * 128 < 2 ** (bits - 1)
    assert products * -128 * 127 >= -2 ** (bits - 1)
    assert products * 128 * 128 >= 2 ** (bits - 2)


@pytest.mark.parametrize("error, message, parameters", [
    (ValueError, "row must be from 0 to 63, not 64", {"row": 64}),
    (ValueError, "weight_bits must be from 2 to 8, not 9", {"row": 0, "weight_bits": 9}),
])
def test_explains_what_a_parameter_must_be(error, message, parameters):
    with pytest.raises(error) as info:
        ProcessingElement(**parameters)
    assert str(info.value) == message
