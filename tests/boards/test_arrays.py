"""The ECP5's multiplier against a model of the cell, and through synthesis; the measuring command.

The reference ``mult18x18d.v`` is our own model of the MULT18X18D: Yosys has none. It follows the
vendor's usage guide for all registers, clock enables and resets of operands, pipeline and output.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from systolith_boards.arrays import CHIPS, Harness, fix, main, netlist, side_by_side
from systolith_boards.synthesis import run_tool
from systolith_hw.array_ecp5 import ArrayEcp5
from systolith_hw.cells_ecp5 import HeldMultiplier
from systolith_hw.emit import emit_verilog

MODEL = Path(__file__).with_name("mult18x18d.v")


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
    netlist(ArrayEcp5(rows=2, cols=3, pairs=pairs), chip="85k", directory=tmp_path)
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"].values()
    multipliers = [cell["parameters"] for cell in cells if cell["type"] == "MULT18X18D"]
    assert len(multipliers) == 2 * 3
    for parameters in multipliers:
        assert parameters == {
            f"REG_{register}_{pin}": "CE1" if (register, pin) == ("INPUTB", "CE") else f"{pin}0"
            for register in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
            for pin in ("CLK", "CE", "RST")}


@pytest.mark.parametrize("rows, cols", [(12, 12), (16, 8), (16, 9), (3, 5), (1, 1)])
def test_each_multiplier_has_a_site_of_its_own_beside_its_neighbours(rows, cols):
    rows_of_sites = CHIPS["85k"].sites
    order = {site: (y, x) for y, row in enumerate(rows_of_sites) for x, site in enumerate(row)}
    placed = side_by_side(rows, cols, rows_of_sites)
    assert len(set(placed.values())) == len(placed) == rows * cols
    for c in range(cols):
        places = [order[placed[f"column_{c}.multiplier_{r}.cell"]] for r in range(rows)]
        assert [y for y, _ in places] == sorted(y for y, _ in places)
        for (y0, x0), (y1, x1) in zip(places[0::2], places[1::2], strict=False):
            assert (y1, x1) == (y0, x0 + 1)  # the two whose products meet first


def test_an_array_with_too_many_multipliers_has_no_sites():
    with pytest.raises(ValueError) as info:
        side_by_side(16, 10, CHIPS["85k"].sites)
    assert str(info.value) == "sites must be at least 54 in each row, not 52"


def test_a_fixed_multiplier_is_where_it_should_be(tmp_path):
    array = netlist(ArrayEcp5(rows=2, cols=2), chip="85k", directory=tmp_path)
    placed = side_by_side(2, 2, CHIPS["85k"].sites)
    fix(array, placed)
    tool, *options = CHIPS["85k"].nextpnr
    run_tool(tool, [*options, "--json", "top.json", "--no-route", "--write", "placed.json"],
             tmp_path)
    cells = json.loads((tmp_path / "placed.json").read_text())["modules"]["top"]["cells"]
    assert {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in cells.items()
            if cell["type"] == "MULT18X18D"} == placed


def test_the_harness_leaves_the_array_its_registers(tmp_path):
    counts = []
    for component in (ArrayEcp5(rows=2, cols=2), Harness(array=ArrayEcp5(rows=2, cols=2))):
        design = json.loads(netlist(component, chip="25k", directory=tmp_path).read_text())
        kinds = [cell["type"] for cell in design["modules"]["top"]["cells"].values()]
        counts.append(kinds.count("TRELLIS_FF"))
    inputs, outputs = 2 * 8 + 2 * 8 + 3, 2 * 17 + 1
    parity = 9 + 3 + 1
    assert counts[1] == counts[0] + 2 * inputs + outputs + parity


def test_the_command_tells_area_and_clock():
    result = CliRunner().invoke(main, ["--strategy", "ecp5", "--rows", "2", "--cols", "2",
                                       "--chip", "25k", "--seed", "1", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["DSP"] == 4
    assert found["COMB per MAC"] == round(found["COMB"] / 4, 1)
    assert found["MHz, median"] == found["MHz, seed 1"] > 100
