"""The array in LUTs against NumPy: every weight, the earliest legal timing, gaps."""

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from systolith_hw.array_soft import SoftArray
from systolith_hw.emit import emit_verilog, module_names

from .simulate import simulate
from .test_array import Sequencer, expected, mixed_lengths

CELLS = {"ternary": ("ternary", False, -1, 1), "int4": ("int4", False, -8, 7),
         "digits": ("int4", True, -16, 15)}
SHAPES = [(1, 1, 4), (2, 3, 4), (3, 5, 2), (5, 3, 1), (4, 4, 4)]


def array(kind, rows, cols, **parameters):
    cell, digits, least, most = CELLS[kind]
    return SoftArray(rows=rows, cols=cols, cell=cell, digits=digits, **parameters), least, most


def tiles_of(rng, dut, lengths, least, most):
    return [(rng.integers(-128, 128, (length, dut.rows)),
             rng.integers(least, most + 1, (dut.rows, dut.cols))) for length in lengths]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("rows, cols, fanout", SHAPES)
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_multiplies_tiles_of_any_length_without_a_lost_cycle_or_with_gaps(kind, rows, cols, fanout,
                                                                         gap):
    rng = np.random.default_rng([rows, cols, fanout])
    dut, least, most = array(kind, rows, cols, fanout=fanout)
    lengths = [1, 1, 1, rows, rows, *mixed_lengths(rng, dut, 8)]
    tiles = tiles_of(rng, dut, lengths, least, most)
    run = Sequencer(dut, tiles, rng, gap=gap).run()
    assert np.array_equal(run.results, expected(tiles))
    assert [cycle for cycle, _ in run.sums] == [cycle + dut.latency for cycle in run.issued]
    if gap == 0:
        assert list(np.diff(run.swaps)) == [max(m, rows) for m in lengths[:-1]]


def test_multiplies_16_by_4_ternary():
    rng = np.random.default_rng(16)
    dut, least, most = array("ternary", 16, 4)
    tiles = tiles_of(rng, dut, [1, 20, 3, 16], least, most)
    run = Sequencer(dut, tiles, rng).run()
    assert np.array_equal(run.results, expected(tiles))
    assert dut.latency == 1 + 1 + 4 + 1


@pytest.mark.parametrize("kind", CELLS)
def test_every_activation_meets_every_weight(kind):
    dut, least, most = array(kind, 2, 4, fanout=4)
    weights = np.arange(least, most + 1)
    weights = np.concatenate([weights, np.zeros(-len(weights) % 4, int)]).reshape(-1, 4)
    x = np.arange(-128, 128)
    acts = np.stack([x, x[::-1]], axis=1)
    tiles = [(acts, np.stack([row, row])) for row in weights]
    run = Sequencer(dut, tiles, np.random.default_rng(0)).run()
    assert np.array_equal(run.results, expected(tiles))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("rows", [3, 8])
def test_extremes_fit_the_sums_exactly(kind, rows):
    dut, least, most = array(kind, rows, 2, fanout=1)
    tiles = [(np.full((rows, rows), act), np.full((rows, 2), weight))
             for act in (-128, 127) for weight in (least, most)]
    run = Sequencer(dut, tiles, np.random.default_rng(0)).run()
    assert np.array_equal(run.results, expected(tiles))
    largest = rows * least * -128
    assert run.results.max() == largest
    assert 2 ** (dut.sum_bits - 2) - 1 < largest <= 2 ** (dut.sum_bits - 1) - 1


class Interrupted(Sequencer):
    """Begins with weights that a reset of one cycle throws away."""
    def run(self):
        reset = Signal()

        async def bench(ctx):
            ctx.set(self.dut.weights_valid, 1)
            for _ in range(self.dut.rows - 1):
                ctx.set(self.dut.weights.as_value(), -1)
                await ctx.tick()
            ctx.set(self.dut.weights_valid, 0)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            await self._bench(ctx)

        simulate(ResetInserter(reset)(self.dut), bench)
        return self


@pytest.mark.parametrize("kind", CELLS)
def test_forgets_in_a_reset_of_one_cycle_what_came_before(kind):
    dut, least, most = array(kind, 4, 3, fanout=2)
    rng = np.random.default_rng(4)
    tiles = tiles_of(rng, dut, [4, 1, 5], least, most)
    run = Interrupted(dut, tiles, rng).run()
    assert np.array_equal(run.results, expected(tiles))


@pytest.mark.parametrize("cell, digits, rows, cols, fanout, latency", [
    ("ternary", False, 1, 1, 4, 3), ("ternary", False, 32, 32, 4, 8 + 1 + 5 + 1),
    ("int4", False, 4, 4, 4, 1 + 1 + 2 + 2), ("int4", True, 5, 9, 4, 3 + 1 + 3 + 2),
])
def test_states_its_latency(cell, digits, rows, cols, fanout, latency):
    dut = SoftArray(rows=rows, cols=cols, cell=cell, digits=digits, fanout=fanout)
    assert dut.latency == latency


def test_an_emission_has_one_column():
    modules = module_names(emit_verilog(SoftArray(rows=3, cols=5), name="top"))
    assert sum(name.endswith("column") for name in modules) == 1


@pytest.mark.parametrize("error, message, parameters", [
    (ValueError, "rows must be from 1 to 64, not 0", {"rows": 0}),
    (ValueError, "cols must be from 1 to 128, not 129", {"cols": 129}),
    (ValueError, "fanout must be from 1 to 128, not 0", {"fanout": 0}),
    (ValueError, "cell must be one of ternary, int4, not 'int8'", {"cell": "int8"}),
    (ValueError, "digits must be False for ternary cells, not True", {"digits": True}),
    (TypeError, "digits must be a boolean, not 1", {"digits": 1}),
])
def test_explains_what_a_parameter_must_be(error, message, parameters):
    with pytest.raises(error) as info:
        SoftArray(**{"rows": 4, "cols": 4} | parameters)
    assert str(info.value) == message
