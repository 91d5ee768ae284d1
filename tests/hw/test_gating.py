"""Gated arrays: the sums and cycles of arrays that are not gated, with fewer toggles."""

import numpy as np
import pytest
from systolith_hw import parts
from systolith_hw.array import Array
from systolith_hw.config import ArrayConfig, CoreConfig
from systolith_hw.formats import STRATEGIES, Strategy
from systolith_hw.pairs import Pairs

from .test_array import Sequencer, expected, mixed_lengths

RANGES = {8: (-128, 127), 5: (-8, 15), 4: (-8, 7), 2: (-1, 1)}


def sparse(rng, shape, low, high, zeros):
    return rng.integers(low, high + 1, shape) * (rng.random(shape) >= zeros)


def sparse_tiles(rng, dut, *, zeros, low, high):
    """Tiles of mixed lengths with so many zeros among the activations."""
    return [(sparse(rng, (length, dut.rows), -128, 127, zeros),
             rng.integers(low, high + 1, (dut.rows, dut.cols)))
            for length in [1, 1, dut.rows, *mixed_lengths(rng, dut, 8)]]


def runs(make, tiles, **options):
    """The tiles on an array, not gated and gated, with the same gaps."""
    return [Sequencer(make(gated), tiles, np.random.default_rng(7), **options).run()
            for gated in (False, True)]


@pytest.mark.parametrize("zeros, gap", [(0, 0.3), (0.5, 0), (0.9, 0.3), (1, 0)])
@pytest.mark.parametrize("bits", RANGES)
@pytest.mark.parametrize("rows, cols, fanout", [(1, 1, 4), (3, 5, 1), (4, 6, 4)])
def test_sums_and_cycles_are_those_of_an_array_that_is_not_gated(rows, cols, fanout, bits, zeros,
                                                                 gap):
    def make(gated):
        return Array(rows=rows, cols=cols, weight_bits=bits, fanout=fanout, gated=gated)

    rng = np.random.default_rng([rows, cols, bits])
    low, high = RANGES[bits]
    tiles = sparse_tiles(rng, make(True), zeros=zeros, low=low, high=high)
    plain, gated = runs(make, tiles, gap=gap)
    assert np.array_equal(gated.results, expected(tiles))
    assert (gated.sums, gated.swaps) == (plain.sums, plain.swaps)


@pytest.mark.parametrize("zeros", [0, 0.5, 0.9])
def test_a_tile_may_begin_with_rows_of_zeros(zeros):
    # The swap comes with an activation that no operand register takes.
    rng = np.random.default_rng(3)
    tiles = sparse_tiles(rng, Array(rows=4, cols=3, gated=True), zeros=zeros, low=-128, high=127)
    for acts, _ in tiles:
        acts[0] = 0
    plain, gated = runs(lambda gated: Array(rows=4, cols=3, fanout=2, gated=gated), tiles)
    assert np.array_equal(gated.results, expected(tiles))
    assert gated.sums == plain.sums


@pytest.mark.parametrize("zeros", [0, 0.5, 0.9])
@pytest.mark.parametrize("pairs", [False, True])
def test_through_pairs_sums_and_cycles_are_the_same(pairs, zeros):
    def make(gated):
        return Pairs(nibbles=Array(rows=4, cols=6, weight_bits=5, fanout=2, gated=gated))

    rng = np.random.default_rng([pairs, 5])
    tiles = sparse_tiles(rng, make(True), zeros=zeros, low=-128, high=127)
    plain, gated = runs(make, tiles, gap=0.2, ports={"row_pairs": pairs, "weights_pairs": pairs})
    nibbles = [np.concatenate([((weights & 15) ^ 8) - 8, weights >> 4], axis=1) if pairs else
               np.concatenate([weights, np.zeros_like(weights)], axis=1) for _, weights in tiles]
    assert np.array_equal(gated.results, np.concatenate(
        [acts @ weights for (acts, _), weights in zip(tiles, nibbles, strict=True)]))
    assert gated.sums == plain.sums


def test_gating_is_no_part_of_the_fingerprint():
    config = CoreConfig.preset("demo")
    assert config.updated({"array": {"gated": True}}).fingerprint == config.fingerprint


def test_gating_must_be_a_boolean():
    with pytest.raises(TypeError) as info:
        ArrayConfig(gated=1)
    assert str(info.value) == "array.gated must be a boolean, not 1"


def test_gating_is_refused_with_strategies_other_than_generic(monkeypatch):
    monkeypatch.setattr(parts, "STRATEGIES", {**STRATEGIES, "other": Strategy(cells=("int8",))})
    assert not ArrayConfig(strategy="other").gated
    with pytest.raises(ValueError) as info:
        ArrayConfig(strategy="other", gated=True)
    assert str(info.value) == ("array.strategy must be generic where array.gated is true, not "
                               "'other'")
