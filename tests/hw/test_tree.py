"""Trees of adders against Python's sums."""

import random

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_hw.latency import tree_levels
from systolith_hw.tree import add_tree

from .pipelined import through


class Tree(wiring.Component):
    """The sum of terms of different widths and places, some unsigned."""
    def __init__(self, terms, bits):
        self.terms, self.bits = terms, bits
        super().__init__({f"term{i}": In(shape) for i, (shape, _) in enumerate(terms)}
                         | {"sum": Out(signed(bits))})

    def elaborate(self, platform):
        m = Module()
        terms = [(getattr(self, f"term{i}"), shift) for i, (_, shift) in enumerate(self.terms)]
        total, shift = add_tree(m, "tree", terms, bits=self.bits)
        m.d.sync += Signal().eq(0)  # a clock, where there is no register
        m.d.comb += self.sum.eq(total << shift)
        return m


@pytest.mark.parametrize("terms, bits", [
    ([(signed(8), 0)], 8),
    ([(signed(8), 0)] * 2, 9),
    ([(signed(8), 0)] * 7, 11),
    ([(signed(9), 0), (signed(10), 1)], 13),
    ([(signed(9), 3), (signed(9), 1), (5, 0)], 14),
    ([(signed(6), 2)] * 4, 10),
])
def test_a_tree_adds_up_its_terms(terms, bits):
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
    found = through(Tree(terms, bits), cases, latency=tree_levels(len(terms)),
                    outputs=["sum"])
    for case, (total,) in zip(cases, found, strict=True):
        assert total == sum(case[f"term{t}"] << shift for t, (_, shift) in enumerate(terms))
