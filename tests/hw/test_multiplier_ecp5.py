"""The multiplier of carry cells: every product, its timing, and the cells by Yosys' model."""

import random

import pytest
from amaranth.hdl import Module, Signal
from systolith_boards.synthesis import run_tool
from systolith_hw.emit import emit_verilog
from systolith_hw.multiplier_ecp5 import CarryAdder, CarryMultiplier, TwoTerms

from .simulate import simulate

PARTS = [TwoTerms(negative=False), TwoTerms(negative=True),
         CarryAdder(low_bits=10, high_bits=10, sum_bits=12, shift=2),
         CarryAdder(low_bits=12, high_bits=12, sum_bits=16, shift=4),
         CarryAdder(low_bits=2, high_bits=1, sum_bits=4, shift=0),
         CarryAdder(low_bits=9, high_bits=3, sum_bits=9, shift=5)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_its_cells_add_by_yosys_model(part, tmp_path):
    for name, vendor_cells in (("gold", False), ("gate", True)):
        (tmp_path / f"{name}.v").write_text(
            emit_verilog(part, name=name, vendor_cells=vendor_cells))
    prove = ("read_verilog +/ecp5/ccu2c_sim.vh +/ecp5/common_sim.vh gate.v; "
             "hierarchy -top gate; proc; flatten; read_verilog gold.v; proc; "
             "miter -equiv -flatten gold gate miter; sat -verify -prove trigger 0 miter")
    output = run_tool("yosys", ["-p", prove], tmp_path)
    assert "SAT proof finished - no model found: SUCCESS" in output


@pytest.mark.parametrize("negative", [False, True])
def test_two_terms_are_added_or_one_subtracted(negative):
    dut = Module()
    dut.submodules.terms = terms = TwoTerms(negative=negative)
    dut.d.sync += Signal().eq(terms.sum[0])     # so that there is a clock

    async def bench(ctx):
        for term in range(-128, 128):
            for bits in range(4):
                ctx.set(terms.term, term)
                ctx.set(terms.bits, bits)
                second = 2 * term * (bits >> 1)
                assert ctx.get(terms.sum) == term * (bits & 1) + (-second if negative else second)

    simulate(dut, bench, cycles=2000)


def test_multiplies_every_factor_by_activations_from_its_load_on():
    rng = random.Random(1)
    dut = CarryMultiplier()
    expected, found = [], []

    async def bench(ctx):
        for factor in range(-128, 128):
            activations = [-128, 127, -1, 0, *(rng.randrange(-128, 128) for _ in range(4))]
            for i, activation in enumerate(activations):
                ctx.set(dut.load, i == 0)
                ctx.set(dut.factor, factor if i == 0 else rng.randrange(-128, 128))
                ctx.set(dut.activation, activation)
                expected.append(activation * factor)
                found.append(ctx.get(dut.product))
                await ctx.tick()
        for _ in range(dut.LATENCY):
            found.append(ctx.get(dut.product))
            await ctx.tick()

    simulate(dut, bench, cycles=4000)
    assert found[dut.LATENCY:] == expected
