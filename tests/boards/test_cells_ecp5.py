"""The ECP5's multiplier against a model of the cell, and through synthesis.

The reference ``cells/mult18x18d.v`` is our own model of the MULT18X18D: Yosys has none. It follows
the vendor's usage guide for all registers, clock enables and resets of operands, pipeline and
output.
"""

import json
from pathlib import Path

import pytest
import systolith_boards
from systolith_boards.arrays import synthesise
from systolith_boards.synthesis import run_tool
from systolith_hw.array_ecp5 import Ecp5Array
from systolith_hw.cells_ecp5 import HeldMultiplier
from systolith_hw.emit import emit_verilog

MODEL = Path(systolith_boards.__file__).parent / "cells" / "mult18x18d.v"


def prove_alike(directory, bits, change=lambda text: text):
    """Ask Yosys whether the twin and the cell are alike in every cycle, or raise.

    Constant inputs and their registers vanish, alike registers and multiplications are merged, and
    then nothing is left that could differ; Yosys names the cells that are.
    """
    for name, vendor_cells in (("twin", False), ("cell", True)):
        text = emit_verilog(HeldMultiplier(factor_bits=bits), name=name, vendor_cells=vendor_cells)
        (directory / f"{name}.v").write_text(change(text) if vendor_cells else text)
    (directory / "model.v").write_text(MODEL.read_text())
    script = ["read_verilog twin.v cell.v model.v", "hierarchy -check", "proc", "flatten",
              "miter -equiv -flatten twin cell both", "hierarchy -top both",
              "opt -full", "wreduce", "opt -full", "simplemap t:$dff t:$dffe", "opt -full",
              "select -assert-none t:* t:$scopeinfo %d", "sat -verify -prove trigger 0 both"]
    run_tool("yosys", ["-q", "-p", "; ".join(script)], directory)


@pytest.mark.parametrize("bits", [2, 8, 18])
def test_the_twin_is_the_cell(tmp_path, bits):
    prove_alike(tmp_path, bits)


@pytest.mark.parametrize("right, wrong", [
    ('.REG_INPUTB_CE("CE1")', '.REG_INPUTB_CE("CE0")'),
    ('.REG_INPUTA_CE("CE0")', '.REG_INPUTA_CE("CE1")'),
    ('.REG_PIPELINE_CLK("CLK0")', '.REG_PIPELINE_CLK("NONE")'),
    (".RST0(1'h0)", ".RST0(1'h1)"),
    (".SIGNEDA(1'h1)", ".SIGNEDA(1'h0)"),
    (".A10(activation[0])", ".A10(activation[1])"),
    (".P35(product[25])", ".P35(product[24])"),
])
def test_the_proof_sees_what_is_wrong(tmp_path, right, wrong):
    def change(text):
        assert right in text
        return text.replace(right, wrong)

    with pytest.raises(RuntimeError, match="both/"):
        prove_alike(tmp_path, 18, change)


@pytest.mark.parametrize("pairs", [False, True])
def test_synthesis_leaves_every_multiplier_as_it_is(tmp_path, pairs):
    synthesise(Ecp5Array(rows=2, cols=3, pairs=pairs), chip="lfe5u-85f", directory=tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    multipliers = [cell["parameters"] for cell in cells if cell["type"] == "MULT18X18D"]
    assert len(multipliers) == 2 * 3
    for parameters in multipliers:
        assert parameters == {
            f"REG_{register}_{pin}": "CE1" if (register, pin) == ("INPUTB", "CE") else f"{pin}0"
            for register in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
            for pin in ("CLK", "CE", "RST")}
