"""The ECP5 array against NumPy, in both modes, with the earliest legal timing and with gaps."""

import numpy as np
import pytest
from systolith_hw.array_ecp5 import Ecp5Array, Ecp5Column
from systolith_hw.emit import emit_verilog, module_names

from .test_array import Sequencer, mixed_lengths, random_tiles

SHAPES = [(1, 1), (2, 2), (3, 5), (8, 3), (12, 4), (16, 9)]


def halves(weights):
    """The int4 weights of both sums of each column, the lower ones first."""
    low = weights & 15
    return np.concatenate([low - 16 * (low >> 3), weights >> 4], axis=1)


def right(run):
    """Whether all sums that mean something are those of NumPy; int8 has no upper ones."""
    sums = iter(run.results)
    for (acts, weights), pairs in zip(run.tiles, run.pairs or [False] * len(run.tiles),
                                      strict=True):
        wanted = acts @ (halves(weights) if pairs else weights)
        found = np.array([next(sums) for _ in acts])
        if not np.array_equal(found[:, :wanted.shape[1]], wanted):
            return False
    return next(sums, None) is None


def check_run(run):
    assert right(run)
    assert [cycle for cycle, _ in run.sums] == [cycle + run.dut.latency for cycle in run.issued]


@pytest.mark.parametrize("gap", [0.0, 0.3])
@pytest.mark.parametrize("rows, cols", SHAPES)
def test_multiplies_tiles_of_both_modes_in_any_order(rows, cols, gap):
    rng = np.random.default_rng([rows, cols])
    dut = Ecp5Array(rows=rows, cols=cols, pairs=True, fanout=2)
    lengths = [1, 1, 1, 1, rows, rows, *mixed_lengths(rng, dut, 6)]
    modes = [False, True, True, False, *map(bool, rng.integers(2, size=8))]
    check_run(Sequencer(dut, random_tiles(rng, dut, lengths), rng, gap=gap, pairs=modes).run())


@pytest.mark.parametrize("fanout", [1, 3])
@pytest.mark.parametrize("rows, cols", [(1, 1), (3, 5), (9, 4)])
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_multiplies_int8_without_pairs(rows, cols, fanout, gap):
    rng = np.random.default_rng([rows, cols, fanout])
    dut = Ecp5Array(rows=rows, cols=cols, fanout=fanout)
    lengths = [1, 1, 1, rows, rows, *mixed_lengths(rng, dut, 8)]
    check_run(Sequencer(dut, random_tiles(rng, dut, lengths), rng, gap=gap).run())


@pytest.mark.parametrize("rows, cols, soft_cols", [(1, 1, 1), (3, 5, 2), (8, 3, 3), (16, 4, 1)])
def test_multiplies_alike_where_luts_multiply_in_some_columns(rows, cols, soft_cols):
    rng = np.random.default_rng([rows, cols])
    dut = Ecp5Array(rows=rows, cols=cols, fanout=2, soft_cols=soft_cols)
    assert dut.latency == Ecp5Array(rows=rows, cols=cols, fanout=2).latency
    lengths = [1, 1, rows, *mixed_lengths(rng, dut, 6)]
    check_run(Sequencer(dut, random_tiles(rng, dut, lengths), rng).run())
    text = emit_verilog(Ecp5Array(rows=rows, cols=cols, soft_cols=soft_cols), name="top",
                        vendor_cells=True)
    assert ("MULT18X18D" in text) == (soft_cols < cols)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("length", ["1", "rows", "mixed"])
def test_a_tile_costs_the_larger_of_its_rows_and_the_arrays(length, pairs):
    rng = np.random.default_rng(4)
    dut = Ecp5Array(rows=4, cols=5, pairs=pairs)
    lengths = {"1": [1] * 12, "rows": [4] * 12, "mixed": mixed_lengths(rng, dut, 12)}[length]
    modes = list(map(bool, rng.integers(2, size=12))) if pairs else None
    run = Sequencer(dut, random_tiles(rng, dut, lengths), rng, pairs=modes).run()
    check_run(run)
    assert run.swaps[0] == 4
    assert list(np.diff(run.swaps)) == [max(m, 4) for m in lengths[:-1]]


EXTREME = np.array([-128, 127, -1, 0, 1, 0x08, 0x78, 0x77, 0x0f, 0x88 - 256, 0x87 - 256])


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_extremes_fit_the_sums(rows):
    # All rows alike: the largest sums there are, and those of int4 pairs of -8.
    rng = np.random.default_rng(rows)
    dut = Ecp5Array(rows=rows, cols=len(EXTREME), pairs=True, fanout=4)
    acts = np.tile(np.array([[-128], [127], [-1]]), (1, rows))
    tiles = [(acts, np.tile(EXTREME, (rows, 1)))] * 2
    check_run(Sequencer(dut, tiles, rng, pairs=[False, True]).run())


@pytest.mark.parametrize("rows", [2, 3])
def test_every_weight_meets_the_extreme_activations_in_both_modes(rows):
    rng = np.random.default_rng(rows)
    dut = Ecp5Array(rows=rows, cols=16, pairs=True, fanout=16)
    values = np.arange(-128, 128).reshape(16, 1, 16)
    acts = np.array([[a] * rows for a in (-128, -127, -1, 1, 127)])
    tiles = [(acts, np.concatenate([page, *[np.roll(page, 5 * r, axis=1) for r in range(1, rows)]]))
             for page in values] * 2
    check_run(Sequencer(dut, tiles, rng, pairs=[False] * 16 + [True] * 16).run())


@pytest.mark.parametrize("pairs", [False, True])
def test_a_swap_one_cycle_late_gives_other_sums(pairs):
    # Tiles far apart, so that the array's own checks find nothing wrong: only the numbers tell.
    modes = [False, False, False] if pairs else None
    for late in (0, 1):
        dut = Ecp5Array(rows=4, cols=4, pairs=pairs)
        tiles = random_tiles(np.random.default_rng(1), dut, [4, 4, 4])
        run = Sequencer(dut, tiles, np.random.default_rng(2), pause=20, late=late, pairs=modes)
        assert right(run.run()) == (late == 0)


@pytest.mark.parametrize("rows, cols, pairs, fanout, latency", [
    (1, 1, False, 1, 2 + 3), (16, 8, True, 2, 2 + 3 + 3 + 4 + 2), (12, 12, False, 4, 2 + 2 + 3 + 4),
])
def test_states_its_latency(rows, cols, pairs, fanout, latency):
    assert Ecp5Array(rows=rows, cols=cols, pairs=pairs, fanout=fanout).latency == latency


def test_an_emission_has_one_kind_of_column_and_of_multiplier():
    for vendor_cells in (False, True):
        text = emit_verilog(Ecp5Array(rows=3, cols=5, pairs=True), name="top",
                            vendor_cells=vendor_cells)
        modules = module_names(text)
        assert sum("column" in name for name in modules) == 1
        assert sum("multiplier" in name for name in modules) == 1
        assert text.count("MULT18X18D") == vendor_cells


@pytest.mark.parametrize("error, message, parameters", [
    (TypeError, "rows must be an integer, not '4'", {"rows": "4"}),
    (ValueError, "rows must be from 1 to 64, not 0", {"rows": 0}),
    (ValueError, "cols must be from 1 to 64, not 65", {"cols": 65}),
    (ValueError, "fanout must be from 1 to 64, not 0", {"fanout": 0}),
    (TypeError, "pairs must be a boolean, not 1", {"pairs": 1}),
    (ValueError, "soft_cols must be from 0 to 4, not 5", {"soft_cols": 5}),
    (ValueError, "soft_cols must be from 0 to 0, not 1", {"soft_cols": 1, "pairs": True}),
])
def test_explains_what_a_parameter_must_be(error, message, parameters):
    with pytest.raises(error) as info:
        Ecp5Array(**{"rows": 4, "cols": 4} | parameters)
    assert str(info.value) == message


def test_a_column_explains_what_a_parameter_must_be():
    with pytest.raises(ValueError) as info:
        Ecp5Column(rows=65)
    assert str(info.value) == "rows must be from 1 to 64, not 65"
