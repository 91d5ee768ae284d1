"""A bitstream, read back, does what was put into it."""

import shutil

import pytest
from systolith_boards.bitstream import _without_twins, bitstream_verilog
from systolith_boards.boards import BOARDS
from systolith_boards.build import Built, build
from systolith_sim.chip import ChipPort

BITS = 12


@pytest.mark.full
def test_a_counter_in_a_bitstream_counts(blink):
    if shutil.which("icebox_vlog") is None:
        pytest.skip("icebox_vlog must be installed: sudo apt-get install -y fpga-icestorm")
    board = BOARDS["ice40_hx8k_b_evn"]
    built = build(blink(board=board, bits=BITS), board, allow_timing_fail=True)
    port = ChipPort(bitstream_verilog(built), divisor=8, clock_hz=1e6)
    lamps = len(board.pins["led"])
    seen = []
    for _ in range(3 << lamps):
        seen.append(port.leds)
        port.run(1 << BITS - lamps)
    assert seen == [count % (1 << lamps) for count in range(3 << lamps)]


def test_what_a_port_is_is_declared_once():
    # As icebox_vlog writes it.
    text = """module top (output [2:0] \\led , output tx, output alive, input rx, input clk);

wire rx, n1, n2, alive;
wire clk;
reg n3 = 0, tx = 1, n4 = 0;
assign n1 = rx;
"""
    assert _without_twins(text) == """module top (output [2:0] \\led , output reg tx = 1, \
output alive, input rx, input clk);

wire n1, n2;

reg n3 = 0, n4 = 0;
assign n1 = rx;
"""


def test_only_bitstreams_of_an_ice40_are_read(tmp_path):
    board = BOARDS["ulx3s_25f"]
    built = Built(board=board, seed=1, luts=0, ffs=0, dsps=0, brams=0, used={}, clocks=(), tools={},
                  verilog="", netlist=tmp_path, folder=tmp_path, bitstream=tmp_path, fresh=True)
    with pytest.raises(ValueError) as caught:
        bitstream_verilog(built)
    assert str(caught.value) == "chip of ulx3s_25f must be an iCE40, not LFE5U-25F"
