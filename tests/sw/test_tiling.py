"""Every tiling computes the same product, in every order of the engines."""

import random

import numpy as np
import pytest
from configurations import CONFIGURATIONS, random_core
from systolith import ModelDevice, gemm, layers, plan_gemm
from systolith.search import choose_tiling, predict_product
from systolith.tiling import Problem, possible_tilings
from systolith_hw.config import CoreConfig

BENCH16 = CoreConfig.preset("bench16")


def product(choice, config):
    """Operands that a small model is done with soon, and what ``gemm`` makes of them."""
    m, n, k = choice.randint(1, 60), choice.randint(1, 60), choice.randint(1, 200)
    while m * -(-n // config.array.cols) * -(-k // config.array.rows) > 3000:
        m, n, k = -(-m // 2), -(-n // 2), -(-k // 2)
    rng = np.random.default_rng(choice.randrange(1 << 32))
    a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    b = rng.integers(-128, 128, (k, n), dtype=np.int8)
    bias = choice.choice([None, None, rng.integers(-5000, 5000, n), 77])
    zero_point = choice.choice([0, 0, choice.randint(-128, 127)])
    expected = a.astype(int) @ (b.astype(int) - zero_point) + (0 if bias is None else bias)
    return a, b, {"bias": bias, "b_zero_point": zero_point}, expected


@pytest.mark.parametrize("seed", range(120))
def test_every_tiling_is_exact_in_every_order(seed, monkeypatch):
    choice = random.Random(seed)
    config = (random_core(seed) if choice.random() < 0.7
              else CONFIGURATIONS[choice.choice(list(CONFIGURATIONS))])
    a, b, arguments, expected = product(choice, config)

    def any_tiling(problem):
        return 0, choice.choice(list(possible_tilings(problem)))

    def any_orientation(given, *, config, rows):
        fits = given[0].params != "columns" or b.shape[1] <= config.memory.par_rows
        return len(given[0].parts) == 1 and fits and seed % 2 == 1

    monkeypatch.setattr(layers, "choose_tiling", any_tiling)
    monkeypatch.setattr(layers, "_swap_pays", any_orientation)
    for order in (None, seed + 1, seed + 2):
        result = gemm(a, b, device=ModelDevice(config, order=order), **arguments)
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("m, n, k", [(124, 35, 752), (1, 300, 200), (64, 64, 64), (5, 700, 90)])
@pytest.mark.parametrize("params", ["columns", "shared", "none"])
def test_the_chosen_tiling_is_predicted_to_be_no_slower_than_random_ones(m, n, k, params):
    problem = Problem(config=BENCH16, m=m, n=n, k=k, passes=1,
                      result_bytes=4 if params == "none" else 1, params=params)
    cycles, tiling = choose_tiling(problem)
    assert predict_product(problem, tiling) == cycles
    others = random.Random(m).sample(list(possible_tilings(problem)), 8)
    predicted = [predict_product(problem, other) for other in others]
    assert None not in predicted
    assert all(cycles <= 1.005 * (other or 0) for other in predicted)


@pytest.mark.parametrize("m, n, swapped", [(124, 35, True), (128, 48, False), (512, 1, False),
                                           (35, 124, False), (100, 17, True)])
def test_the_longer_dimension_streams_where_that_pays(m, n, swapped):
    image = plan_gemm(np.ones((64, n), np.int8), config=BENCH16, rows=m)
    assert bool(image.inputs[0].panel) == bool(image.outputs[0].panel) == swapped


@pytest.mark.parametrize("order", [None, 3, 4])
@pytest.mark.parametrize("bias", ["none", "one", "own"])
def test_swapped_products_requantise_every_channel_by_its_own_parameters(order, bias):
    rng = np.random.default_rng(5)
    m, n, k = 100, 35, 70
    a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    b = rng.integers(-128, 128, (k, n), dtype=np.int8)
    given = {"none": None, "one": 99, "own": rng.integers(-9999, 9999, n)}[bias]
    multiplier = (rng.integers(1 << 30, 1 << 31, n) if bias == "own"
                  else np.full(n, 1 << 30))
    image = plan_gemm(b, given, config=BENCH16, rows=m, multiplier=multiplier, shift=-9)
    assert image.inputs[0].panel
    one_by_one = np.concatenate([
        gemm(a, b[:, j:j + 1], None if given is None else np.broadcast_to(given, n)[j:j + 1],
             device=ModelDevice(BENCH16), multiplier=multiplier[j:j + 1], shift=-9)
        for j in range(n)], axis=1)
    assert np.array_equal(image.run(ModelDevice(BENCH16, order=order), a)[0], one_by_one)


def test_swapped_layers_pass_on_what_the_next_one_reads():
    rng = np.random.default_rng(8)
    weights = [rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((50, 33), (33, 17))]
    chain = [layers.Linear(weights=w, multiplier=1 << 30, shift=-9) for w in weights]
    a = rng.integers(-128, 128, (120, 50), dtype=np.int8)
    image = layers.compile_layers(chain, config=BENCH16, rows=120)
    assert image.inputs[0].panel
    expected = a
    for w in weights:
        expected = gemm(expected, w, device=ModelDevice(BENCH16), multiplier=1 << 30, shift=-9)
    assert np.array_equal(image.run(ModelDevice(BENCH16, order=2), a)[0], expected)
