"""TFLite's int8 softmax on the core, in every byte."""

import dataclasses

import numpy as np
import pytest
from compiled import CORES, check
from int8_graphs import image, like, made_of
from systolith.compiler.compile import compile_model
from systolith.compiler.shares import FIRST, shares_of
from systolith.models import Quantisation, fixed
from systolith.models.evaluate import evaluate
from systolith_hw.config import CoreConfig

BENCH16 = CoreConfig.preset("bench16")
# Scales and columns of the keywords' and of ResNet-8's last layer, and others.
KEYWORDS, PICTURES = (0.14469251036643982, 12), (0.17185351252555847, 10)
ROWS = [KEYWORDS, PICTURES, (0.11, 20), (0.3, 10), (1.0, 5), (2.5, 2), (0.2, 1)]


def softmax(scale, cols, *, rows=1, rounding="twice"):
    q, steps = (Quantisation(np.array([one], np.float32), np.array([zero]))
                for one, zero in ((scale, 3), (1 / 256, -128)))
    rng = np.random.default_rng(0)
    return made_of("softmax", {"beta": 1.0, "rounding": rounding},
                   [image(rng, (rows, cols), quantisation=q)], like(rng, steps), 1)


def wanted(scale, t, total):
    return np.minimum(fixed.shares(fixed.powers(scale)[t], total), 255)


@pytest.mark.parametrize("scale, cols", ROWS)
def test_thresholds_are_those_of_the_fixed_point_division(scale, cols):
    how, rng = shares_of(scale, cols), np.random.default_rng(1)
    for t in range(len(how.added) if cols > 1 else 1):
        first = FIRST + (int(how.added[t]) if t else 0)
        near = ((int(how.added[t]) << 9) // (2 * np.arange(255) + 1))[:, None] + np.arange(-4, 5)
        sums = np.concatenate([near.reshape(-1), rng.integers(first, FIRST * cols + 1, 2000)])
        sums = sums[(sums >= first) & (sums <= FIRST * cols)]
        assert np.array_equal(how.result(np.array(t), sums), wanted(scale, t, sums)), t


@pytest.mark.full
@pytest.mark.parametrize("scale, cols", [KEYWORDS, PICTURES])
def test_all_sums_of_trained_models_give_what_the_division_does(scale, cols):
    how = shares_of(scale, cols)
    for t in range(len(how.added)):
        for first in range(FIRST + (int(how.added[t]) if t else 0), FIRST * cols + 1, FIRST):
            sums = np.arange(first, min(first + FIRST, FIRST * cols + 1))
            assert np.array_equal(how.result(np.array(t), sums), wanted(scale, t, sums)), t


@pytest.mark.parametrize("scale, cols", ROWS)
def test_rows_are_those_of_the_graph(scale, cols):
    graph, rng = softmax(scale, cols), np.random.default_rng(2)
    network = compile_model(graph, config=BENCH16)
    assert network.host_ops == []
    spreads = rng.choice([3, 15, 60, 200], (300, 1))
    x = np.clip(rng.normal(0, spreads, (300, cols)), -128, 127).astype(np.int8)
    found = network(x, integers=True)
    assert np.array_equal(found, evaluate(graph, {"x": x})["y"])


def row_with(how, cols, t, total):
    """How far a row's elements, one of them t, lie below the greatest, that add up to a sum; or
    None."""
    rng = np.random.default_rng(3)
    pairs = {int(one + other): (i, j) for i, one in enumerate(how.added)
             for j, other in enumerate(how.added)}
    for _ in range(20_000):
        some = [0, t, *rng.integers(0, rng.choice([3, 6, 20, len(how.added)]), cols - 4)]
        left = total - int(how.added[some].sum())
        if left in pairs:
            return np.array([*some, *pairs[left]])
    return None


def of_rows(t):
    """What the core makes of rows of the keywords, and the graph."""
    graph, x = softmax(*KEYWORDS), (127 - np.array(t)).astype(np.int8)
    return compile_model(graph, config=BENCH16)(x, integers=True), evaluate(graph, {"x": x})["y"]


def test_sums_at_which_thresholds_are_others():
    how = shares_of(*KEYWORDS)
    plain, rows = dataclasses.replace(how, but=()), []
    for total in map(np.array, how.but):
        t = np.arange(len(how.added) - 1)
        t, = np.flatnonzero(how.result(t, total) != plain.result(t, total))
        rows.append(row_with(how, KEYWORDS[1], t, int(total)))
    rows = [row for row in rows if row is not None]
    assert len(rows) >= 2
    found, wanted = of_rows(rows)
    assert np.array_equal(found, wanted)


def test_sums_next_to_thresholds():
    how, rows = shares_of(*KEYWORDS), []
    for t in range(1, 40):
        number = (int(how.added[t]) << 9) + int(how.rest[t])
        for odd in range(1, 511, 2):
            for total in (number // odd, number // odd + 1):
                if abs(number - odd * total) <= 6 and total in range(
                        FIRST + int(how.added[t]), 4 * FIRST) and total not in how.but:
                    rows.append(row_with(how, KEYWORDS[1], t, total))
    rows = [row for row in rows if row is not None]
    assert len(rows) > 20
    found, wanted = of_rows(rows)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name, rows, cols", [
    *((name, rows, 2) for name in CORES for rows in (1, 5)), ("8x8", 1, 12)])
def test_rows_one_below_the_other_on_any_core(name, rows, cols):
    check(softmax(0.2, cols, rows=rows), CORES[name], seed=4)


@pytest.mark.parametrize("scale, cols, rounding, why", [
    (0.05, 10, "twice", "at most 127 below the greatest"), (0.2, 21, "twice", "at most 20 numbers"),
    (0.2, 10, "even", "must be compiled as close")])
def test_other_rows_run_on_the_host_and_say_why(scale, cols, rounding, why):
    graph = softmax(scale, cols, rounding=rounding)
    layer, = compile_model(graph, config=BENCH16).layers
    assert why in layer.host
    assert compile_model(graph, config=BENCH16, exact=False).host_ops == []
