"""The ternary element of carry cells: its sums, its timing, and the cells by Yosys' model."""

import numpy as np
import pytest
from systolith_boards.synthesis import run_tool
from systolith_hw.array import Array
from systolith_hw.element import sum_bits
from systolith_hw.element_ecp5 import CarryElement, TernaryAdder
from systolith_hw.emit import emit_verilog

from .test_array import Sequencer, expected, mixed_lengths
from .test_element import check_sums


@pytest.mark.parametrize("row", [0, 1, 5, 63])
def test_adds_its_activation_to_the_sum_from_above(row):
    check_sums(CarryElement(row=row), range(-1, 2), low=row * -128, high=row * 128)


@pytest.mark.parametrize("row", [0, 1, 2, 3, 7, 31])
def test_its_cells_add_by_yosys_model(row, tmp_path):
    bits = {"left_bits": sum_bits(row, 2), "sum_bits": sum_bits(row + 1, 2)}
    for name, vendor_cells in (("gold", False), ("gate", True)):
        (tmp_path / f"{name}.v").write_text(
            emit_verilog(TernaryAdder(**bits), name=name, vendor_cells=vendor_cells))
    prove = ("read_verilog +/ecp5/ccu2c_sim.vh +/ecp5/common_sim.vh gate.v; "
             "hierarchy -top gate; proc; flatten; read_verilog gold.v; proc; "
             "miter -equiv -flatten gold gate miter; sat -verify -prove trigger 0 miter")
    output = run_tool("yosys", ["-p", prove], tmp_path)
    assert "SAT proof finished - no model found: SUCCESS" in output


# The array of such elements.

@pytest.mark.parametrize("rows, cols, fanout", [(1, 1, 4), (2, 3, 4), (3, 5, 2), (5, 3, 1),
                                                (8, 8, 4), (16, 2, 1)])
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_an_array_multiplies_without_a_lost_cycle_or_with_gaps(rows, cols, fanout, gap):
    rng = np.random.default_rng([rows, cols, fanout])
    dut = Array(rows=rows, cols=cols, weight_bits=2, fanout=fanout, carry=True)
    lengths = [1, 1, 1, rows, rows, *mixed_lengths(rng, dut, 8)]
    tiles = [(rng.choice([-128, 127, *range(-128, 128, 9)], (length, rows)),
              rng.integers(-1, 2, (rows, cols))) for length in lengths]
    run = Sequencer(dut, tiles, rng, gap=gap).run()
    assert np.array_equal(run.results, expected(tiles))
    assert [cycle for cycle, _ in run.sums] == [cycle + dut.latency for cycle in run.issued]
    if gap == 0:
        assert list(np.diff(run.swaps)) == [max(m, rows) for m in lengths[:-1]]


@pytest.mark.parametrize("rows", [3, 8])
@pytest.mark.parametrize("act", [-128, 127])
def test_extremes_fit_the_sums_of_an_array(rows, act):
    dut = Array(rows=rows, cols=2, weight_bits=2, carry=True)
    tiles = [(np.full((rows, rows), act), np.full((rows, 2), weight)) for weight in (-1, 1)]
    run = Sequencer(dut, tiles, np.random.default_rng(0)).run()
    assert np.array_equal(run.results, expected(tiles))


def test_an_array_states_its_latency():
    assert Array(rows=32, cols=32, weight_bits=2, carry=True).latency == 31 + 7 + 2


@pytest.mark.parametrize("error, message, make", [
    (ValueError, "weight_bits must be 2 where carry is true, not 8",
     lambda: Array(rows=4, cols=4, carry=True)),
    (ValueError, "gated must be False where carry is true, not True",
     lambda: Array(rows=4, cols=4, weight_bits=2, carry=True, gated=True)),
    (TypeError, "carry must be a boolean, not 1", lambda: Array(rows=4, cols=4, carry=1)),
    (ValueError, "row must be from 0 to 63, not 64", lambda: CarryElement(row=64)),
    (ValueError, "left_bits must be from 1 to 64, not 0",
     lambda: TernaryAdder(left_bits=0, sum_bits=9)),
    (ValueError, "sum_bits must be from 2 to 64, not 1",
     lambda: TernaryAdder(left_bits=9, sum_bits=1)),
])
def test_explains_what_a_parameter_must_be(error, message, make):
    with pytest.raises(error) as info:
        make()
    assert str(info.value) == message
