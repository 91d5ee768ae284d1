"""Emission: one text, plain Verilog, cells once, the same bytes every time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from systolith_hw.cells import EmitPlatform, check, place
from systolith_hw.emit import emit_verilog, module_names, write_if_changed
from systolith_hw.ram import Ram

# Components that a test only constructs, so that they refuse or get refused.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


class Adder(wiring.Component):
    """Without a clock."""
    a: In(8)
    y: Out(8)

    def __init__(self, *, step):
        self.step = step
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.y.eq(self.a + self.step)
        return m


class Cell(wiring.Component):
    """Clocked, with a cell of its own, a check and a state machine."""
    a: In(8)
    y: Out(8)

    def __init__(self, *, step):
        self.step = step
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        adder = Adder(step=self.step)
        place(m, platform, "adder", adder)
        m.d.comb += adder.a.eq(self.a)
        with m.FSM():
            with m.State("even"):
                m.d.sync += self.y.eq(adder.y)
                m.next = "odd"
            with m.State("odd"):
                with m.Switch(self.a):
                    with m.Case(1, 2):
                        m.d.sync += self.y.eq(7)
                    with m.Case(9):
                        m.d.sync += self.y.eq(11)
                m.next = "even"
        check(m, platform, self.a != 255, "a must not be 255")
        return m


class Chain(wiring.Component):
    """Several cells in a row, and a memory."""
    a: In(8)
    y: Out(8)

    def __init__(self, *, steps):
        self.steps = steps
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        value = self.a
        for i, step in enumerate(self.steps):
            cell = Cell(step=step)
            place(m, platform, f"cell{i}", cell)
            m.d.comb += cell.a.eq(value)
            value = cell.y
        addr = Signal(2, init=1)
        m.d.sync += addr.eq(addr + 1)
        m.submodules.ram = ram = Ram(depth=4, width=8)
        m.d.comb += [
            ram.write_addr.eq(addr), ram.write_data.eq(value), ram.write_en.eq(1),
            ram.read_addr.eq(addr - 1), ram.read_en.eq(1), self.y.eq(ram.read_data),
        ]
        return m


class Slicer(wiring.Component):
    """Passes parts of a signal down, which Amaranth gives a port without a name."""
    a: In(8)
    y: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Ram(depth=4, width=8)
        m.d.comb += [ram.write_addr.eq(self.a[:2]), ram.read_addr.eq(self.a[2:4]),
                     self.y.eq(ram.read_data)]
        return m


def chain(**options):
    return emit_verilog(Chain(steps=(1, 1, 2, 1)), name="top", **options)


def test_cells_are_emitted_once_for_each_set_of_parameters():
    text = chain()
    assert sorted(module_names(text)) == ["top", "top_adder", "top_adder_2", "top_cell",
                                          "top_cell_2", "top_ram", "top_ram_4x8"]
    assert len(re.findall(r"^  top_cell cell\d ", text, re.M)) == 3
    assert len(re.findall(r"^  top_cell_2 cell2 ", text, re.M)) == 1


def test_a_cell_has_clock_and_reset_only_if_it_uses_them():
    text = chain()
    assert "module top_adder(y, a);" in text
    assert "module top_cell(clk, rst, y, a);" in text


def test_plain_text_has_no_initial_values_and_no_assertions():
    text = chain()
    for word in ("assert", "$write", "$display", "initial", "always @*", "always_"):
        assert word not in text
    assert not re.search(r"^\s*reg\b.*=", text, re.M)


def test_unnamed_ports_are_numbered_within_their_module():
    text = emit_verilog(Slicer(), name="top")
    assert "port$" not in text
    assert "    .port_1(a[3:0]),\n" in text
    assert "    .write_addr(port_1[1:0]),\n" in text


def test_registers_reset_to_their_initial_value():
    assert re.search(r"rst \? 2'h1 :", chain())


def test_assertion_builds_carry_the_checks():
    text = chain(assertions=True)
    assert text.count("assert (") == 3  # two kinds of cell, one memory
    assert '$display("a must not be 255");' in text
    assert "initial" not in text


def test_every_module_name_starts_with_the_top_s():
    assert all(name.startswith("npu") for name in
               module_names(emit_verilog(Chain(steps=(1, 2)), name="npu")))


def test_the_text_does_not_depend_on_the_hash_seed():
    script = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
              "from test_emit import chain; sys.stdout.write(chain())")
    texts = {subprocess.run([sys.executable, "-c", script], check=True, capture_output=True,
                            env={**os.environ, "PYTHONHASHSEED": str(seed)}).stdout
             for seed in (0, 1, 2)}
    assert texts == {chain().encode()}


def test_simulation_elaborates_the_same_components():
    dut = Chain(steps=(1, 2))
    seen = []

    async def bench(ctx):
        ctx.set(dut.a, 5)
        for _ in range(12):
            await ctx.tick()
            seen.append(ctx.get(dut.y))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen[-1] == 8


def test_a_check_fails_in_simulation():
    dut = Cell(step=1)

    async def bench(ctx):
        ctx.set(dut.a, 255)
        await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    with pytest.raises(AssertionError, match="a must not be 255"):
        simulator.run()


def test_a_file_with_the_same_text_is_left_alone(tmp_path):
    path = tmp_path / "new" / "top.v"
    assert write_if_changed(path, "a\n")
    os.utime(path, (1, 1))
    assert not write_if_changed(path, "a\n")
    assert path.stat().st_mtime == 1
    assert write_if_changed(path, "b\n")
    assert path.read_text() == "b\n"


@pytest.mark.parametrize("name, error, text", [
    ("9a", ValueError, "top must be a Verilog identifier, not '9a'"),
    (9, TypeError, "top must be a string, not 9"),
])
def test_wrong_names_are_refused(name, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        emit_verilog(Adder(step=1), name=name)


def test_a_cell_must_keep_its_parameters():
    class Forgetful(wiring.Component):
        def __init__(self, *, size):
            super().__init__({"a": In(size)})

        def elaborate(self, platform):
            return Module()

    with pytest.raises(TypeError, match="^Forgetful must store its parameter under the same name, "
                                        "not without 'size'$"):
        place(Module(), EmitPlatform(top="top"), "cell", Forgetful(size=3))
