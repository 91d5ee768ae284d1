"""What a design is made of, and what is foreseen from that."""

import json
import random
from collections import Counter

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_boards.boards import BOARDS
from systolith_boards.count import count
from systolith_boards.plan import Plan, blocks_of
from systolith_boards.synthesis import run_tool
from systolith_hw.array_ecp5 import Ecp5Array
from systolith_hw.cells import RamModule, place
from systolith_hw.emit import emit_verilog
from systolith_hw.ram import Ram


class Sample(wiring.Component):
    """An operator of each kind."""
    a: In(8)
    b: In(8)
    c: In(3)
    out: Out(40)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(depth=32, width=8)
        m.d.comb += [ram.write_en.eq(self.a[0]), ram.read_en.eq(self.a[1])]
        place(m, platform, "one", Inner(bits=5))
        place(m, platform, "two", Inner(bits=5))
        total = Signal(9)
        m.d.sync += total.eq(self.a + self.b)
        kept = self.a & self.b  # used twice, built once
        m.d.comb += self.out.eq(Cat(kept, kept, self.a < self.b, self.a == self.b, self.a == 7,
                                    Mux(self.c[0], self.a, self.b), self.a >> self.c))
        with m.If(self.c == 5):
            m.d.comb += self.out.eq(total * self.a)
        return m


class Inner(wiring.Component):
    """A shared cell with registers."""
    def __init__(self, *, bits):
        self.bits = bits
        super().__init__({"d": In(bits), "q": Out(bits)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.q.eq(self.d)
        return m


def test_operators_are_counted_by_their_bits():
    design = count(Sample())
    assert design.bits == Counter(
        registers=9 + 2 * 5, adders=8, gates=8, comparers=8, equals=16 + 8 + 3 + 1 + 1, choices=8,
        shifts=8 * 3, assigned=40)
    assert design.products == {(9, 8): 1}
    assert design.rams == {(32, 8, 8): 1}
    assert not design.cells


def test_cells_of_a_vendor_are_counted_in_shared_modules_too():
    array = Ecp5Array(rows=4, cols=3)
    assert count(array).cells["MULT18X18D"] == 12


class Reader(wiring.Component):
    """A memory, asked by what another component drives, or does not."""
    read_en: In(1)
    a: In(8)
    out: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(depth=512, width=8)
        m.d.comb += [ram.write_en.eq(1), ram.write_addr.eq(self.a), ram.read_addr.eq(~self.a),
                     ram.write_data.eq(self.a), ram.read_en.eq(self.read_en),
                     self.out.eq(ram.read_data)]
        return m


class Readers(wiring.Component):
    """Memories that are read, and such that never are."""
    a: In(8)
    out: Out(40)

    def elaborate(self, platform):
        m = Module()
        readers = [Reader() for _ in range(5)]
        m.submodules += readers
        m.d.comb += [reader.a.eq(self.a + i) for i, reader in enumerate(readers)]
        never, often, kept = Signal(), Signal(), Signal()
        m.d.sync += [never.eq(0), often.eq(self.a[0]), kept.eq(kept)]
        m.d.comb += [
            readers[1].read_en.eq(never), readers[2].read_en.eq(often), readers[3].read_en.eq(kept),
            self.out.eq(Cat(reader.out for reader in readers)),
        ]
        with m.If(self.a == 3):
            m.d.comb += readers[4].read_en.eq(1)
        return m


def test_memories_that_are_never_read_are_not_counted(tmp_path):
    assert count(Readers()).rams == {(512, 8, 8): 2}
    (tmp_path / "top.v").write_text(emit_verilog(Readers(), name="top"))
    script = "read_verilog top.v; synth_ecp5 -top top; tee -q -o stat.json stat -json"
    run_tool("yosys", ["-q", "-p", script], tmp_path)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["DP16KD"] == 2


@pytest.mark.parametrize("error, luts, certain", [
    (0.02, 5280 * 1.1, False), (0.02, 5280 * 1.1 + 1, True),
    (0.3, 5280 * 1.3, False), (0.3, 5280 * 1.3 + 1, True)])
def test_an_estimate_is_certain_beyond_its_error_and_a_tenth(error, luts, certain):
    planned = Plan(board=BOARDS["icebreaker"], luts=int(luts), ffs=0, dsps=0, brams=0,
                   errors={"luts": error, "ffs": error})
    assert planned.lacking == ("luts",)
    assert planned.certain == (("luts",) if certain else ())


@pytest.mark.parametrize("family, cell", [("ecp5", "DP16KD"), ("ice40", "SB_RAM40_4K")])
def test_block_rams_are_those_that_yosys_makes(family, cell, tmp_path):
    rng = random.Random(5)
    shapes = {(1 << rng.randrange(1, 13), bits, rng.choice((8, bits)) if bits % 8 == 0 else bits)
              for bits in (4, 8, 9, 16, 24, 31, 32, 36, 40, 64, 65, 96, 128) for _ in range(3)}
    print(sorted(shapes))
    rams = {shape: RamModule(name=f"ram{i}", depth=shape[0], width=shape[1], granularity=shape[2])
            for i, shape in enumerate(sorted(shapes))}
    (tmp_path / "rams.v").write_text("\n".join([
        *(ram.verilog() for ram in rams.values()), "module top(input clk);",
        *(f"(* keep *) {ram.name} {ram.name}_i (.clk(clk));" for ram in rams.values()),
        "endmodule"]))
    script = (f"read_verilog rams.v; synth_{family} -noflatten -top top; "
              "tee -q -o stat.json stat -json")
    run_tool("yosys", ["-q", "-p", script], tmp_path)
    modules = json.loads((tmp_path / "stat.json").read_text())["modules"]
    made = {shape: modules[f"\\{ram.name}"]["num_cells_by_type"].get(cell, 0)
            for shape, ram in rams.items()}
    assert made == {shape: blocks_of(shape, family) for shape in rams}
