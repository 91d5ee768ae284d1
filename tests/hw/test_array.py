"""The array against NumPy, with the earliest legal timing, with gaps, and cycle by cycle."""

import numpy as np
import pytest
from systolith_hw.array import Array
from systolith_hw.element import sum_bits
from systolith_hw.emit import emit_verilog, module_names

from .simulate import simulate

SHAPES = [(1, 1), (4, 4), (3, 5), (8, 8), (1, 16), (16, 1)]


def random_tiles(rng, dut, lengths):
    """Activations and weights of tiles with so many rows each."""
    return [(rng.integers(-128, 128, (length, dut.rows)),
             rng.integers(-128, 128, (dut.rows, dut.cols))) for length in lengths]


def packed(values, bits=8):
    return sum((int(value) & (1 << bits) - 1) << bits * i for i, value in enumerate(values))


class Sequencer:
    """Feeds tiles by the array's rules, as early as they allow, and collects the sums.

    ``gap`` is the chance that an allowed row or weight row is held back, ``late`` delays a swap
    behind the first row of its tile, ``pause`` is the least distance of tiles. ``pairs`` says of
    each tile whether its weights are pairs, for arrays that have them, ``ports`` are values of
    other inputs, and ``vcd`` is a waveform to write.
    """
    def __init__(self, dut, tiles, rng, *, gap=0.0, late=0, pause=0, pairs=None, ports=None,
                 vcd=None):
        self.dut, self.tiles, self.rng = dut, tiles, rng
        self.ports, self.vcd = ports or {}, vcd
        self.gap, self.late, self.pause = gap, late, pause
        self.pairs = pairs
        self.swaps = []   # cycle in which the first row of each tile entered
        self.issued = []  # cycle in which each row entered
        self.sums = []    # (cycle, row of sums)

    def run(self):
        rows = sum(max(len(acts), self.dut.rows) for acts, _ in self.tiles)
        cycles = 10 * (rows + self.dut.rows + self.dut.latency + 10) + self.pause * 10
        simulate(self.dut, self._bench, cycles=cycles, vcd=self.vcd)
        return self

    async def _bench(self, ctx):
        dut, rng = self.dut, self.rng
        bits = len(dut.weights.as_value()) // dut.cols
        for name, value in self.ports.items():
            ctx.set(getattr(dut, name), value)
        tile, row = 0, 0                 # next activation row
        weight_tile, weight_row = 0, 0   # next weight row
        cycle = drained = 0
        while drained <= dut.latency:
            valid = (tile < len(self.tiles) and (row > 0 or tile < weight_tile)
                     and rng.random() >= self.gap
                     and not (row == 0 and self.swaps
                              and cycle < self.swaps[-1] + self.pause))
            ctx.set(dut.row_valid, valid)
            if valid:
                if row == 0:
                    self.swaps.append(cycle)
                self.issued.append(cycle)
                acts = self.tiles[tile][0]
                if self.pairs:
                    ctx.set(dut.row_pairs, self.pairs[tile])
                ctx.set(dut.row.as_value(), packed(acts[row]))
                ctx.set(dut.swap, row == min(self.late, len(acts) - 1))
                tile, row = (tile + 1, 0) if row + 1 == len(acts) else (tile, row + 1)
            else:
                ctx.set(dut.row.as_value(), packed(rng.integers(-128, 128, dut.rows)))
                ctx.set(dut.swap, int(rng.integers(2)))
            swapped = sum(swap + self.late <= cycle for swap in self.swaps)
            valid = (weight_tile < len(self.tiles) and (weight_row > 0 or weight_tile <= swapped)
                     and rng.random() >= self.gap)
            ctx.set(dut.weights_valid, valid)
            if valid:
                weights = self.tiles[weight_tile][1]
                if self.pairs:
                    ctx.set(dut.weights_pairs, self.pairs[weight_tile])
                ctx.set(dut.weights.as_value(), packed(weights[dut.rows - 1 - weight_row], bits))
                weight_row += 1
            else:
                ctx.set(dut.weights.as_value(), packed(rng.integers(-128, 128, dut.cols), bits))
            *_, sums_valid, sums = await ctx.tick().sample(dut.sums_valid, dut.sums)
            if sums_valid:
                self.sums.append((cycle, list(sums)))
            if weight_row == dut.rows:  # from the next cycle on, its swap may come
                weight_tile, weight_row = weight_tile + 1, 0
            drained = drained + 1 if tile == len(self.tiles) else 0
            cycle += 1

    @property
    def results(self):
        return np.array([row for _, row in self.sums])


def expected(tiles):
    return np.concatenate([acts @ weights for acts, weights in tiles])


def mixed_lengths(rng, dut, count):
    choices = sorted({1, 2, max(dut.rows - 1, 1), dut.rows, dut.rows + 1, 2 * dut.rows})
    return [int(rng.choice(choices)) for _ in range(count)]


@pytest.mark.parametrize("fanout", [1, 4])
@pytest.mark.parametrize("rows, cols", SHAPES)
@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_multiplies_tiles_of_any_length_without_a_lost_cycle_or_with_gaps(rows, cols, fanout, gap):
    rng = np.random.default_rng([rows, cols, fanout])
    dut = Array(rows=rows, cols=cols, fanout=fanout)
    lengths = [1, 1, 1, rows, rows, *mixed_lengths(rng, dut, 10)]
    tiles = random_tiles(rng, dut, lengths)
    run = Sequencer(dut, tiles, rng, gap=gap).run()
    assert np.array_equal(run.results, expected(tiles))
    assert [cycle for cycle, _ in run.sums] == [cycle + dut.latency for cycle in run.issued]


def test_multiplies_on_16_by_16():
    rng = np.random.default_rng(16)
    dut = Array(rows=16, cols=16)
    tiles = random_tiles(rng, dut, [1, 20, 3, 16])
    run = Sequencer(dut, tiles, rng).run()
    assert np.array_equal(run.results, expected(tiles))
    assert dut.latency == 15 + 3 + 3


@pytest.mark.parametrize("rows, cols", [(1, 1), (3, 5), (8, 8)])
@pytest.mark.parametrize("length", ["1", "rows", "mixed"])
def test_a_tile_costs_the_larger_of_its_rows_and_the_arrays(rows, cols, length):
    rng = np.random.default_rng([rows, cols])
    dut = Array(rows=rows, cols=cols)
    lengths = {"1": [1] * 12, "rows": [rows] * 12, "mixed": mixed_lengths(rng, dut, 12)}[length]
    tiles = random_tiles(rng, dut, lengths)
    run = Sequencer(dut, tiles, rng).run()
    assert np.array_equal(run.results, expected(tiles))
    assert list(np.diff(run.swaps)) == [max(m, rows) for m in lengths[:-1]]
    assert run.swaps[0] == rows
    # To the last row: the first fill, every tile but the last in full, the rows of the last.
    total = rows + sum(max(m, rows) for m in lengths[:-1]) + lengths[-1]
    assert run.sums[-1][0] == total - 1 + dut.latency


@pytest.mark.parametrize("acts, weights", [(-128, -128), (127, -128), (-128, 127)])
def test_extremes_fit_the_sums(acts, weights):
    rng = np.random.default_rng(0)
    dut = Array(rows=8, cols=3, fanout=2)
    tiles = [(np.full((8, 8), acts), np.full((8, 3), weights)) for _ in range(2)]
    run = Sequencer(dut, tiles, rng).run()
    assert np.array_equal(run.results, expected(tiles))


@pytest.mark.parametrize("rows, bits", [(1, 16), (2, 17), (3, 17), (4, 18), (16, 20), (64, 22)])
def test_sums_have_the_width_they_need(rows, bits):
    assert sum_bits(rows) == bits
    assert 2 ** (bits - 2) - 1 < rows * 128 * 128 <= 2 ** (bits - 1) - 1


def test_a_swap_one_cycle_late_gives_other_sums():
    # Tiles far apart, so that the array's own checks find nothing wrong: only the numbers tell.
    dut = Array(rows=4, cols=4)
    tiles = random_tiles(np.random.default_rng(1), dut, [4, 4, 4])
    right = Sequencer(dut, tiles, np.random.default_rng(2), pause=20).run()
    assert np.array_equal(right.results, expected(tiles))
    dut = Array(rows=4, cols=4)
    late = Sequencer(dut, tiles, np.random.default_rng(2), pause=20, late=1).run()
    # The first row of each tile met other weights; the rows after it met the right ones.
    assert list((late.results != expected(tiles)).any(axis=1)) == [True, False, False, False] * 3


def test_an_emission_has_one_kind_of_element_for_each_row():
    modules = module_names(emit_verilog(Array(rows=3, cols=5), name="top"))
    assert sum("element" in name for name in modules) == 3
    assert sum("multiplier" in name for name in modules) == 1


@pytest.mark.parametrize("error, message, parameters", [
    (TypeError, "rows must be an integer, not '4'", {"rows": "4"}),
    (ValueError, "rows must be from 1 to 64, not 0", {"rows": 0}),
    (ValueError, "cols must be from 1 to 128, not 129", {"cols": 129}),
    (ValueError, "fanout must be from 1 to 128, not 0", {"fanout": 0}),
    (TypeError, "gated must be a boolean, not 1", {"gated": 1}),
])
def test_explains_what_a_parameter_must_be(error, message, parameters):
    with pytest.raises(error) as info:
        Array(**{"rows": 4, "cols": 4} | parameters)
    assert str(info.value) == message
