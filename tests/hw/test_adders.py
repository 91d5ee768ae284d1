"""Trees of adders, and the adder of carry cells against Yosys' model of them."""

import random

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_boards.synthesis import run_tool
from systolith_hw.adders import CarryAdders, add_tree, adders_of, tree_levels
from systolith_hw.emit import emit_verilog

from .pipelined import through


class Tree(wiring.Component):
    """The sum of terms of different widths and places, some unsigned."""
    def __init__(self, terms, bits, family):
        self.terms, self.bits, self.family = terms, bits, family
        super().__init__({f"term{i}": In(shape) for i, (shape, _) in enumerate(terms)}
                         | {"sum": Out(signed(bits))})

    def elaborate(self, platform):
        m = Module()
        terms = [(getattr(self, f"term{i}"), shift) for i, (_, shift) in enumerate(self.terms)]
        total, shift = add_tree(m, "tree", terms, bits=self.bits,
                                add=adders_of(m, platform, self.family))
        m.d.sync += Signal().eq(0)  # a clock, where there is no register
        m.d.comb += self.sum.eq(total << shift)
        return m


@pytest.mark.parametrize("family", ["generic", "ecp5"])
@pytest.mark.parametrize("terms, bits", [
    ([(signed(8), 0)], 8),
    ([(signed(8), 0)] * 2, 9),
    ([(signed(8), 0)] * 7, 11),
    ([(signed(9), 0), (signed(10), 1)], 13),
    ([(signed(9), 3), (signed(9), 1), (5, 0)], 14),
    ([(signed(6), 2)] * 4, 10),
])
def test_a_tree_adds_up_its_terms(terms, bits, family):
    rng = random.Random(f"{terms}")
    cases = []
    for i in range(100):
        case = {}
        for t, (shape, _) in enumerate(terms):
            width, low = (shape, 0) if isinstance(shape, int) else (
                shape.width, -1 << shape.width - 1)
            extreme = [low, low + (1 << width) - 1]
            case[f"term{t}"] = extreme[i] if i < 2 else rng.choice(
                [*extreme, low + rng.randrange(1 << width)])
        cases.append(case)
    found = through(Tree(terms, bits, family), cases, latency=tree_levels(len(terms)),
                    outputs=["sum"])
    for case, (total,) in zip(cases, found, strict=True):
        assert total == sum(case[f"term{t}"] << shift for t, (_, shift) in enumerate(terms))


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("bits, lanes", [(1, 1), (2, 1), (9, 4), (10, 3), (14, 2)])
def test_the_carry_cells_add_by_yosys_model(bits, lanes, signs, tmp_path):
    for name, vendor_cells in (("gold", False), ("gate", True)):
        (tmp_path / f"{name}.v").write_text(
            emit_verilog(CarryAdders(bits=bits, lanes=lanes, signs=signs), name=name,
                         vendor_cells=vendor_cells))
    prove = ("read_verilog +/ecp5/ccu2c_sim.vh +/ecp5/common_sim.vh gate.v; "
             "hierarchy -top gate; proc; flatten; read_verilog gold.v; proc; "
             "miter -equiv -flatten gold gate miter; sat -verify -prove trigger 0 miter")
    output = run_tool("yosys", ["-p", prove], tmp_path)
    assert "SAT proof finished - no model found: SUCCESS" in output
