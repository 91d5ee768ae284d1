"""Clock and reset of a chip: the settings of its PLL, and how long the reset lasts."""

import json

import pytest
from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from systolith_boards.soc.clocking import Clocking, ecp5_pll, ice40_pll
from systolith_boards.synthesis import run_tool
from systolith_hw.emit import emit_verilog


class Chip(wiring.Component):
    """Counts the cycles since its reset."""
    def __init__(self, **parameters):
        self.parameters = parameters
        super().__init__({"clk_pin": In(1), "count": Out(12)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.clocking = clocking = Clocking(**self.parameters)
        count = Signal(12)
        m.domains.sync = sync = ClockDomain()
        m.d.comb += [
            clocking.pin.eq(self.clk_pin),
            sync.clk.eq(clocking.clk),
            sync.rst.eq(clocking.rst),
            self.count.eq(count),
        ]
        m.d.sync += count.eq(count + 1)
        return m


def test_a_reset_begins_with_the_clock_and_lasts_for_1024_cycles():
    dut = Chip(family="ecp5")
    counts = []

    async def clock(ctx):
        for _ in range(1100):
            ctx.set(dut.clk_pin, 0)
            await ctx.delay(1e-8)
            ctx.set(dut.clk_pin, 1)
            await ctx.delay(1e-8)
            counts.append(ctx.get(dut.count))

    simulator = Simulator(dut)
    simulator.add_testbench(clock)
    simulator.run()
    begins = counts.index(2)
    # What registers hold before the first edge is counted, as an FPGA's zeros are.
    assert 1024 <= begins <= 1030
    assert set(counts[1:begins - 2]) == {0}
    assert counts[begins:] == list(range(2, 2 + len(counts) - begins))


# Multiplied and divided as the data sheets say, within the ranges they give.

@pytest.mark.parametrize("source, target", [
    (25e6, 125e6), (25e6, 50e6), (48e6, 140e6), (12e6, 100e6), (100e6, 125e6), (25e6, 83.3e6)])
def test_an_ecp5_pll_makes_the_clock(source, target):
    pll = ecp5_pll(source, target)
    values = pll.parameters
    compared = source / values["CLKI_DIV"]
    assert compared * values["CLKFB_DIV"] == pll.frequency
    assert 0.98 * target <= pll.frequency <= target
    assert compared >= 3.125e6
    assert 400e6 <= pll.frequency * values["CLKOP_DIV"] <= 800e6


@pytest.mark.parametrize("phase", [0, 90, 180, 270])
@pytest.mark.parametrize("source, target", [(25e6, 40e6), (25e6, 25e6), (25e6, 133e6)])
def test_the_second_output_of_an_ecp5_pll_is_late_by_the_phase(source, target, phase):
    values = ecp5_pll(source, target, phase=phase).parameters
    divider = values["CLKOS_DIV"]
    assert divider == values["CLKOP_DIV"]
    assert values["CLKOS_CPHASE"] < 128
    # Eighths of the oscillator's cycle, counted from the first output's.
    late = (8 * (values["CLKOS_CPHASE"] - values["CLKOP_CPHASE"]) + values["CLKOS_FPHASE"]) \
        / (8 * divider) * 360
    assert abs(late - phase) <= 22.5 / divider
    assert "CLKOS_ENABLE" not in ecp5_pll(source, target).parameters


@pytest.mark.parametrize("source, target", [(12e6, 50e6), (12e6, 90e6), (12e6, 24e6), (48e6, 60e6)])
def test_an_ice40_pll_makes_the_clock(source, target):
    pll = ice40_pll(source, target)
    divr, divf, divq = (pll.parameters[name].value for name in ("DIVR", "DIVF", "DIVQ"))
    oscillator = source / (divr + 1) * (divf + 1)
    assert oscillator / 2 ** divq == pll.frequency
    assert 0.98 * target <= pll.frequency <= target
    assert 10e6 <= source / (divr + 1) <= 133e6 and 533e6 <= oscillator <= 1066e6


def test_what_no_pll_makes_is_refused():
    with pytest.raises(ValueError) as caught:
        ice40_pll(12e6, 5e6)
    assert str(caught.value) == ("frequency must be one that a PLL makes of 12 MHz within 2 %, "
                                 "not 5 MHz")
    with pytest.raises(ValueError) as caught:
        Clocking(family="xilinx")
    assert str(caught.value) == "family must be one of ecp5, ice40, not 'xilinx'"


@pytest.mark.parametrize("family, parameters, nextpnr, cell", [
    ("ecp5", {"pll": ecp5_pll(25e6, 125e6)}, ["nextpnr-ecp5", "--25k", "--lpf-allow-unconstrained"],
     "EHXPLLL"),
    ("ice40", {"pll": ice40_pll(12e6, 60e6), "source": "pad"},
     ["nextpnr-ice40", "--up5k", "--package", "sg48", "--pcf", "pins.pcf",
      "--pcf-allow-unconstrained"], "SB_PLL40_PAD"),
    ("ice40", {"pll": ice40_pll(12e6, 60e6)}, ["nextpnr-ice40", "--hx8k", "--package", "ct256"],
     "SB_PLL40_CORE"),
])
def test_a_pll_is_placed_and_gives_the_clock(family, parameters, nextpnr, cell, tmp_path):
    (tmp_path / "chip.v").write_text(
        emit_verilog(Chip(family=family, **parameters), name="chip", vendor_cells=True))
    (tmp_path / "pins.pcf").write_text("set_io clk_pin 35\n")
    run_tool("yosys", ["-q", "-p", (f"read_verilog chip.v; synth_{family} -top chip; "
                       f"write_json chip.json")], tmp_path)
    modules = json.loads((tmp_path / "chip.json").read_text())["modules"]
    assert cell in {part["type"] for part in modules["chip"]["cells"].values()}
    tool, *options = nextpnr
    output = run_tool(tool, [*options, "--json", "chip.json", "--freq", "60"], tmp_path)
    assert "Program finished normally" in output
