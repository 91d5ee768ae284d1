"""Registers behind an ECP5's block RAM: taken into it where they may be, and nothing else changes.

The reference is our own model of the DP16KD, which netlists are tested with: Yosys has none.
"""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import systolith_boards
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith_boards.block_ram import absorb_registers
from systolith_boards.synthesis import run_tool
from systolith_hw.emit import emit_verilog
from systolith_hw.ram import Ram

from ..icarus import run_icarus

MODEL = Path(systolith_boards.__file__).parent / "cells" / "dp16kd.v"


class Registered(wiring.Component):
    """A memory with a register behind it, which ``take`` enables if it is ``enabled``; its bits
    from ``cleared`` on have a reset. ``word`` shows its ``tapped`` lowest bits before the
    register."""
    def __init__(self, *, depth, width, granularity=None, enabled=False, cleared=None, tapped=0):
        self.enabled, self.tapped = enabled, tapped
        self.cleared = width if cleared is None else cleared
        self.ram = Ram(depth=depth, width=width, granularity=granularity)
        super().__init__({
            "write_addr": In(range(depth)), "write_data": In(width),
            "write_en": In(len(self.ram.write_en)), "read_addr": In(range(depth)), "read_en": In(1),
            "take": In(1), "read_data": Out(width), "word": Out(tapped)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self.ram
        data, cleared = ram.read_data, self.cleared
        low  = Signal(cleared, reset_less=True)
        high = Signal(len(data) - cleared)
        m.d.comb += [
            *(getattr(ram, name).eq(getattr(self, name)) for name in (
                "write_addr", "write_data", "write_en", "read_addr", "read_en")),
            self.read_data.eq(low | high << cleared),
            self.word.eq(data[:self.tapped]),
        ]
        with m.If(self.take | (not self.enabled)):
            m.d.sync += [low.eq(data[:cleared]), high.eq(data[cleared:])]
        return m


def absorbed(folder, **parameters):
    """The netlist of such a memory; how many flip-flops it lost."""
    text = emit_verilog(Registered(**parameters), name="top")
    (folder / "top.v").write_text(text)
    run_tool("yosys", ["-q", "-p", "read_verilog top.v; synth_ecp5 -top top; write_json top.json"],
             folder)
    netlist = json.loads((folder / "top.json").read_text())
    return netlist, absorb_registers(netlist)["top"]


def kinds(netlist):
    return Counter(cell["type"] for cell in netlist["modules"]["top"]["cells"].values())


def modes(netlist):
    """Register modes of both sides of each block RAM."""
    return {(cell["parameters"]["REGMODE_A"], cell["parameters"]["REGMODE_B"])
            for cell in netlist["modules"]["top"]["cells"].values() if cell["type"] == "DP16KD"}


@pytest.mark.parametrize("depth, width, granularity, enabled", [
    (512, 36, None, False), (512, 40, 8, True), (1024, 16, 8, False), (2048, 9, None, True),
    (4096, 6, None, False),
])
def test_a_register_in_block_ram_shows_the_same(tmp_path, depth, width, granularity, enabled):
    netlist, gone = absorbed(tmp_path, depth=depth, width=width, granularity=granularity,
                             enabled=enabled)
    assert gone == width
    assert kinds(netlist)["TRELLIS_FF"] == 0
    assert all("OUTREG" in sides for sides in modes(netlist))
    (tmp_path / "absorbed.json").write_text(json.dumps(netlist))
    script = "read_json absorbed.json; rename top netlist; write_verilog -noattr netlist.v"
    run_tool("yosys", ["-q", "-p", script], tmp_path)
    (tmp_path / "bench.v").write_text(bench(depth, width, width // (granularity or width)))
    said = run_icarus(["bench.v", "top.v", "netlist.v", MODEL], tmp_path)
    assert said.split() == ["alike", "3000"]


def bench(depth, width, enables):
    """All rows are written, then any are written and read; what is shown is compared."""
    seed = random.Random(f"{depth}x{width}").getrandbits(31)
    ports = ("clk", "write_addr", "write_data", "write_en", "read_addr", "read_en", "take")
    inputs = ", ".join(f".{port}({port})" for port in ports)
    return f"""
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{{D, C, B, A}}];
endmodule

module bench;
  reg clk = 0;
  reg [{(depth - 1).bit_length() - 1}:0] write_addr, read_addr;
  reg [{width - 1}:0] write_data;
  reg [{enables - 1}:0] write_en;
  reg read_en, take;
  wire [{width - 1}:0] one, two;
  integer seed = {seed}, cycle, compared = 0;
  top behaviour ({inputs}, .read_data(one));
  netlist cells ({inputs}, .read_data(two));
  initial begin
    for (cycle = 0; cycle < {depth} + 3004; cycle = cycle + 1) begin
      write_addr = cycle < {depth} ? cycle : $random(seed);
      write_data = {{$random(seed), $random(seed)}};
      write_en = cycle < {depth} ? -1 : $random(seed);
      read_addr = cycle % 3 ? $random(seed) : write_addr + 1;
      read_en = cycle >= {depth} && read_addr != write_addr && $random(seed) % 4 != 0;
      take = cycle < {depth} + 4 || $random(seed) % 4 != 0;
      if (cycle == {depth}) begin
        read_addr = write_addr + 1;
        read_en = 1;
      end
      #1 clk = 1;
      #1 clk = 0;
      if (cycle >= {depth} + 4) begin
        if (one !== two || ^one === 1'bx) begin
          $display("cycle %0d: %h is not %h", cycle, two, one);
          $finish;
        end
        compared = compared + 1;
      end
    end
    $display("alike %0d", compared);
  end
endmodule
"""


@pytest.mark.parametrize("parameters", [
    {"tapped": 1}, {"tapped": 36}, {"cleared": 35}, {"cleared": 0},
])
def test_a_register_stays_where_block_ram_has_none_like_it(tmp_path, parameters):
    netlist, gone = absorbed(tmp_path, depth=512, width=36, **parameters)
    assert gone == 0
    assert kinds(netlist)["TRELLIS_FF"] == 36
    assert modes(netlist) == {("NOREG", "NOREG")}


@pytest.fixture(scope="module")
def unabsorbed(tmp_path_factory):
    """A netlist whose registers may all be taken, and are not."""
    netlist, gone = absorbed(tmp_path_factory.mktemp("ram"), depth=512, width=36, tapped=1)
    assert gone == 0
    del netlist["modules"]["top"]["ports"]["word"]
    return json.dumps(netlist)


@pytest.mark.parametrize("change", [
    lambda ram, ff: ff["parameters"].update(CLKMUX="INV"),
    lambda ram, ff: ff["parameters"].update(CEMUX="INV"),
    lambda ram, ff: ff["connections"].update(CLK=["1"]),
    lambda ram, ff: ff["connections"].update(LSR=["1"]),
    lambda ram, ff: ram["connections"].update(RSTB=[2]),
    lambda ram, ff: ram["connections"].update(CLKA=["0"]),
    lambda ram, ff: ram["parameters"].update(CLKBMUX="INV"),
    lambda ram, ff: ram["parameters"].update(REGMODE_B="OUTREG"),
])
def test_one_flip_flop_or_pin_that_differs_keeps_all_registers(unabsorbed, change):
    netlist = json.loads(unabsorbed)
    assert absorb_registers(json.loads(unabsorbed))["top"] == 36
    cells = netlist["modules"]["top"]["cells"]
    change(next(cell for cell in cells.values() if cell["type"] == "DP16KD"),
           next(cell for cell in cells.values() if cell["type"] == "TRELLIS_FF"))
    assert absorb_registers(netlist)["top"] == 0
