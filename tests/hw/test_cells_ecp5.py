"""The twins of the ECP5's cells: values, latency and the moment a factor changes."""

import random

import pytest
from systolith_hw.cells import EmitPlatform
from systolith_hw.cells_ecp5 import HeldMultiplier, Multiplier18, has_vendor_cells
from systolith_hw.emit import emit_verilog

from .pipelined import through
from .simulate import simulate


@pytest.mark.parametrize("bits", [2, 8, 18])
def test_multiplies_by_the_factor_taken_with_the_activation_of_the_load(bits):
    rng = random.Random(bits)
    low, high = -1 << bits - 1, (1 << bits - 1) - 1
    dut = HeldMultiplier(factor_bits=bits)
    operands = [(a, f, 1) for a in (-128, -127, -1, 0, 1, 127) for f in (low, -1, 0, 1, high)]
    operands += [(rng.randrange(-128, 128), rng.randint(low, high), rng.random() < 0.3)
                 for _ in range(1000)]

    async def bench(ctx):
        held, products = 0, []  # the first operands load
        for activation, factor, load in operands:
            ctx.set(dut.activation, activation)
            ctx.set(dut.factor, factor)
            ctx.set(dut.load, load)
            *_, product = await ctx.tick().sample(dut.product)
            if len(products) >= dut.LATENCY:
                assert product == products[-dut.LATENCY]
            held = factor if load else held
            products.append(activation * held)

    simulate(dut, bench)


@pytest.mark.parametrize("cell", [False, True])
def test_multiplies_18_by_18_bits(cell):
    rng = random.Random(cell)
    low, high = -1 << 17, (1 << 17) - 1
    edges = [low, low + 1, -1, 0, 1, high]
    cases = [{"first": a, "second": b} for a in edges for b in edges]
    cases += [{"first": rng.randint(low, high), "second": rng.randint(low, high)}
              for _ in range(500)]
    found = through(Multiplier18(cell=cell), cases, latency=Multiplier18.LATENCY,
                    outputs=["product"])
    assert found == [(case["first"] * case["second"],) for case in cases]


def test_only_an_emission_that_asks_for_them_has_vendor_cells():
    assert not has_vendor_cells(None)
    assert not has_vendor_cells(EmitPlatform(top="top"))
    assert has_vendor_cells(EmitPlatform(top="top", vendor_cells=True))
    assert has_vendor_cells(object())  # a platform of amaranth-boards
    for vendor_cells in (False, True):
        text = emit_verilog(HeldMultiplier(factor_bits=8), name="top", vendor_cells=vendor_cells)
        assert ("MULT18X18D" in text) == vendor_cells
        for cell in (False, True):
            text = emit_verilog(Multiplier18(cell=cell), name="top", vendor_cells=vendor_cells)
            assert ("MULT18X18D" in text) == (cell and vendor_cells)


@pytest.mark.parametrize("error, message, bits", [
    (TypeError, "factor_bits must be an integer, not '8'", "8"),
    (ValueError, "factor_bits must be from 2 to 18, not 1", 1),
    (ValueError, "factor_bits must be from 2 to 18, not 19", 19),
])
def test_explains_what_a_parameter_must_be(error, message, bits):
    with pytest.raises(error) as info:
        HeldMultiplier(factor_bits=bits)
    assert str(info.value) == message
