"""cocotb bench of a processing element: a multiply-accumulate against Python's integers."""

import random

from cocotb.triggers import FallingEdge

from systolith_sim import tb

OPERANDS = (-128, -127, -1, 0, 1, 127)


def quiet(dut):
    """Drive every input of the parts side by side to 0; they start at random otherwise."""
    for name in tb.parameters()["inputs"]:
        getattr(dut, name).value = 0


@tb.bench(cycles=3000)
async def adds_the_product_of_activation_and_active_weight(dut):
    """Random operands, extremes among them, shifts and swaps in any cycle."""
    parameters = tb.parameters()
    latency, above_bits = parameters["latency"], parameters["above_bits"]
    rng = random.Random(parameters["seed"])
    activation_port, weight_port, swap_port, shift_port, weight_below, total = (
        getattr(dut, f"element_{parameters['row']}_{port}") for port in (
            "activation", "weight", "swap", "shift", "weight_below", "sum"))
    quiet(dut)
    await tb.start(dut)
    await FallingEdge(dut.clk)

    def operand():
        return rng.choice([rng.randrange(-128, 128), rng.choice(OPERANDS)])

    shadow = active = None
    expected = {}   # cycle: product
    above = {}      # cycle: sum from above
    for cycle in range(2000):
        # Inputs change at the falling edge, so that outputs are seen half a cycle after theirs.
        if cycle - latency in expected:
            assert total.value.to_signed() == (expected.pop(cycle - latency)
                                               + above.get(cycle - 1, 0))
        if shadow is not None:
            assert weight_below.value.to_signed() == shadow
        shift = cycle < 2 or rng.random() < 0.4
        swap = cycle in (2, 3) or (cycle > 3 and rng.random() < 0.3)
        activation, weight = operand(), operand()
        shift_port.value = int(shift)
        swap_port.value = int(swap)
        activation_port.value = activation & 0xff
        weight_port.value = weight & 0xff
        if above_bits:
            value = rng.choice([rng.randrange(-(1 << above_bits - 2), 1 << above_bits - 2), 0])
            above[cycle] = value
            sum_above = getattr(dut, f"element_{parameters['row']}_sum_above")
            sum_above.value = value & (1 << above_bits) - 1
        if swap:
            active = shadow
        if shift:
            shadow = weight
        if active is not None:
            expected[cycle] = activation * active
        await FallingEdge(dut.clk)
