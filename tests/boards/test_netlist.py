"""What synthesis made of a chip runs behind its serial pins, and does what the Verilog does."""

import copy
import random
from pathlib import Path

import pytest
import systolith_boards
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.link import Link, LinkError
from systolith_boards.boards import BOARDS
from systolith_boards.build import chip_verilog, synthesise
from systolith_boards.netlist import DIVISOR, classify, netlist_verilog, read_netlist
from systolith_boards.soc import top_of
from systolith_boards.soc.clocking import Clocking
from systolith_hw.emit import emit_verilog
from systolith_sim.chip import ChipPort

from ..icarus import run_icarus
from .stand_ins import SmallBoard

CELLS = Path(systolith_boards.__file__).parent / "cells"
CLOCK = 800_000  # Hz, so that timeouts of tenths of seconds take few cycles


@pytest.mark.full
@pytest.mark.parametrize("name", ["orangecrab_r0_2_25f", "icebreaker"])
def test_a_boards_netlist_classifies_digits_as_the_model_does(name):
    board = BOARDS[name]
    seed = random.randrange(1, 1 << 31)
    print("seed", seed)
    top = top_of(board, board.config, baud=board.target_mhz * 1e6 / DIVISOR)
    module = read_netlist(synthesise(chip_verilog(top), board))
    found = classify(netlist_verilog(module, board.chip.family), board, clock_hz=top.clock_hz,
                     count=20, seed=seed)
    assert found.exact
    assert found.right >= 18


class Pins(wiring.Component):
    """A link with a small memory behind the pins of a board."""
    def __init__(self):
        super().__init__({"clk": In(1), "uart_rx": In(1), "uart_tx": Out(1), "led": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.submodules.clocking = clocking = Clocking(family="ice40")
        m.submodules.board = board = SmallBoard(divisor=DIVISOR)
        m.d.comb += [clocking.pin.eq(self.clk), sync.clk.eq(clocking.clk),
                     sync.rst.eq(clocking.rst), board.rx.eq(self.uart_rx),
                     self.uart_tx.eq(board.tx), self.led.eq(board.busy)]
        return m


@pytest.fixture(scope="module")
def netlists():
    """That design's netlist by family."""
    verilog = emit_verilog(Pins(), name="top")
    return {board.chip.family: read_netlist(synthesise(verilog, board))
            for board in (BOARDS["ulx3s_25f"], BOARDS["icebreaker"])}


def talk(module, family):
    """Write and read memory and a register, or raise."""
    rng = random.Random(1)
    port = ChipPort(netlist_verilog(module, family), divisor=DIVISOR, clock_hz=CLOCK, timeout=0.02,
                    seed=3)
    link = Link(port, baud=CLOCK // DIVISOR, clock=lambda: port.cycle / CLOCK)
    link.connect()
    for size in (4, 64, 1000):
        address, data = 4 * rng.randrange(1000), rng.randbytes(size)
        link.write(address, data)
        if link.read(address, size) != data:
            raise LinkError("memory must keep what is written")
    link.set(8, 0x1234_5678)
    assert link.get(8) == [0x1234_5678]


@pytest.mark.parametrize("family", ["ecp5", "ice40"])
def test_the_hosts_software_talks_to_a_netlist(netlists, family):
    talk(netlists[family], family)


def cells_of(module, kind):
    return [cell for _, cell in sorted(module["cells"].items()) if cell["type"] == kind]


def driver(module, bit):
    """The cell whose output ``bit`` is."""
    return next(cell for cell in module["cells"].values()
                for pin, bits in cell["connections"].items()
                if bits == [bit] and cell["port_directions"][pin] == "output")


def swap_lanes(module):
    pins = next(cell for cell in cells_of(module, "DP16KD")
                if isinstance(cell["connections"]["DIA0"][0], int))["connections"]
    pins["DIA0"], pins["DIA1"] = pins["DIA1"], pins["DIA0"]


def flip_a_bit_of_a_lut(module):
    """Of the LUT before the register that drives the serial line."""
    register = driver(module, module["ports"]["uart_tx"]["bits"][0])
    lut = driver(module, register["connections"]["DI"][0])
    init = lut["parameters"]["INIT"]
    lut["parameters"]["INIT"] = init[:-1] + str(1 - int(init[-1]))


def drop_an_enable(module):
    """Of a register that has one."""
    next(cell for cell in cells_of(module, "TRELLIS_FF")
         if cell["parameters"].get("CEMUX") == "CE")["parameters"]["CEMUX"] = "0 "


@pytest.mark.full
@pytest.mark.parametrize("harm", [swap_lanes, flip_a_bit_of_a_lut, drop_an_enable])
def test_a_netlist_that_is_wrong_in_one_place_is_found(netlists, harm):
    module = copy.deepcopy(netlists["ecp5"])
    harm(module)
    with pytest.raises((LinkError, AssertionError)):
        talk(module, "ecp5")


def test_a_cell_without_a_model_is_refused(netlists):
    module = copy.deepcopy(netlists["ecp5"])
    cells_of(module, "LUT4")[0]["type"] = "ALU54B"
    with pytest.raises(ValueError) as caught:
        netlist_verilog(module, "ecp5")
    assert str(caught.value) == "cells of ecp5 must have models, not be ALU54B"


def test_a_block_ram_whose_reset_is_driven_is_refused(netlists):
    module = copy.deepcopy(netlists["ecp5"])
    cells_of(module, "DP16KD")[0]["connections"]["RSTB"] = [2]
    with pytest.raises(ValueError) as caught:
        netlist_verilog(module, "ecp5")
    assert str(caught.value) == "RSTB of DP16KD must be the constant 0, not driven"


@pytest.mark.parametrize("family, lut, parameter, inputs", [
    ("ecp5", "LUT4", "INIT", "Z, A, B, C, D"),
    ("ice40", "SB_LUT4", "LUT_INIT", "O, I0, I1, I2, I3")])
def test_a_lut_looks_its_inputs_up(tmp_path, family, lut, parameter, inputs):
    # Tables with a single one: what all others are made of.
    output, *pins = inputs.split(", ")
    connections = ", ".join(f".{pin}(i[{n}])" for n, pin in enumerate(pins))
    cells = "\n".join(f"{lut} #(.{parameter}(16'd{1 << n})) l{n} (.{output}(o[{n}]), "
                      f"{connections});" for n in range(16))
    (tmp_path / "bench.v").write_text(f"""
module bench;
  reg [4:0] i;
  wire [15:0] o;
  {cells}
  initial begin
    for (i = 0; i < 16; i = i + 1)
      #1 if (o !== 1 << i) $display("%b gives %b", i, o);
    $display("end");
  end
endmodule
""")
    assert run_icarus([CELLS / f"{family}.v", "bench.v"], tmp_path) == "end\n"
