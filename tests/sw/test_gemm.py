"""Products of any shape on any core equal integer arithmetic."""

import random

import numpy as np
import pytest
from configurations import CONFIGURATIONS, core, random_core
from rounding import rounding_two_step
from systolith import ModelDevice, gemm, plan_gemm
from systolith_hw.config import CoreConfig

ORDERS = (None, 1, 2)


def operands(seed, m, n, k, dtype=np.int8):
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    return (rng.integers(info.min, info.max + 1, (m, k), dtype=dtype),
            rng.integers(info.min, info.max + 1, (k, n), dtype=dtype), rng)


def big_product(a, b):
    """In Python integers."""
    return [[sum(int(x) * int(y) for x, y in zip(row, column, strict=True)) for column in b.T]
            for row in a]


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (7, 9, 5), (3, 33, 70), (40, 6, 20)])
def test_sums_are_exact_in_every_order(name, m, n, k):
    a, b, rng = operands(len(name) * 100 + m, m, n, k)
    bias = rng.integers(-10**6, 10**6, n) if m != 7 else None
    expected = np.array(big_product(a, b)) + (0 if bias is None else bias)
    for order in ORDERS:
        result = gemm(a, b, bias, device=ModelDevice(CONFIGURATIONS[name], order=order))
        assert result.dtype == np.int32
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_requantised_results_are_exact_in_every_order(name):
    m, n, k = 6, 19, 23
    a, b, rng = operands(len(name), m, n, k)
    bias = rng.integers(-9999, 9999, n)
    multiplier, shift = rng.integers(1 << 30, 1 << 31, n), rng.integers(-11, -7, n)
    sums = np.array(big_product(a, b)) + bias
    expected = [[min(max(rounding_two_step(int(sums[i, j]), int(multiplier[j]), int(shift[j])) - 7,
                         -100), 90) for j in range(n)] for i in range(m)]
    for order in ORDERS:
        result = gemm(a, b, bias, device=ModelDevice(CONFIGURATIONS[name], order=order),
                      multiplier=multiplier, shift=shift, zero_point=-7, clamp=(-100, 90))
        assert result.dtype == np.int8
        assert result.tolist() == expected


@pytest.mark.parametrize("seed", range(60))
def test_random_shapes_on_random_cores(seed):
    choice, config = random.Random(seed), random_core(seed)
    m, n, k = choice.randint(1, 60), choice.randint(1, 60), choice.randint(1, 300)
    while m * -(-n // config.array.cols) * -(-k // config.array.rows) > 10000:
        m, n, k = -(-m // 2), -(-n // 2), -(-k // 2)
    a, b, rng = operands(seed, m, n, k, choice.choice([np.int8, np.uint8]))
    low, high = np.iinfo(a.dtype).min, np.iinfo(a.dtype).max
    a_zero = choice.choice([0, choice.randint(low, high)])
    b_zero = choice.choice([0, choice.randint(low, high), rng.integers(low, high + 1, n)])
    bias = choice.choice([None, rng.integers(-5000, 5000, n)])
    expected = (a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - b_zero) + (
        0 if bias is None else bias)
    for order in (None, seed + 1, seed + 2):
        result = gemm(a, b, bias, device=ModelDevice(config, order=order), a_zero_point=a_zero,
                      b_zero_point=b_zero)
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("name", ["demo", "tiny", "bench16"])
@pytest.mark.parametrize("m, n, k", [(1, 300, 700), (129, 65, 257), (300, 2, 64)])
def test_products_larger_than_the_scratchpads(name, m, n, k):
    a, b, rng = operands(m, m, n, k)
    with ModelDevice(CONFIGURATIONS[name], memory_bytes=1 << 17 if name == "tiny" else None,
                     order=5) as device:
        if name == "tiny":
            b = b[:, :40]
        assert np.array_equal(gemm(a, b, device=device), a.astype(int) @ b.astype(int))


def test_counters_count_rows_and_words():
    a, b, _ = operands(0, 32, 32, 32)
    with ModelDevice(CoreConfig.preset("bench16")) as device:
        image = plan_gemm(b, config=device.config, rows=32,
                          multiplier=np.arange(1 << 30, (1 << 30) + 32), shift=-8)
        image.run(device, a)
        counters = device.counters()
    assert counters["rows"] == 32 * 2 * 2
    assert counters["store_words"] == 32 * 32 // 16
    weights, activations = (32 * 32 + 12 * 32) // 16, 32 * 32 // 16
    assert counters["load_words"] - weights in (activations, 2 * activations)
    assert counters["fetch_words"] == 4 * image.commands


@pytest.mark.parametrize("multiplier, param_words", [(1 << 30, 12), (range(1, 65), 48)])
def test_parameters_that_all_columns_share_are_loaded_once(multiplier, param_words):
    a, b, _ = operands(0, 1, 64, 16)
    with ModelDevice(CoreConfig.preset("bench16")) as device:
        image = plan_gemm(b, config=device.config, rows=1, multiplier=np.array(multiplier),
                          shift=-8)
        image.run(device, a)
        words = device.counters()["load_words"]
    assert 0 < words - 64 - param_words <= 4  # activations, once or for each strip


def test_weight_range_of_nine_bits_takes_two_passes():
    a, b, _ = operands(3, 5, 6, 40, np.uint8)
    with ModelDevice(CoreConfig.preset("demo")) as device:
        result = gemm(a, b, device=device, b_zero_point=200)
        rows = device.counters()["rows"]
    assert np.array_equal(result, a.astype(int) @ (b.astype(int) - 200))
    assert rows == 2 * 5 * 5


INT8 = np.ones((2, 3), np.int8)


@pytest.mark.parametrize("arguments, error, text", [
    ({"a": INT8.astype(int)}, TypeError, "a must be of dtype int8 or uint8, not 'int64'"),
    ({"b": INT8.T.astype(float)}, TypeError, "b must be of dtype int8 or uint8, not 'float64'"),
    ({"a": INT8[0]}, ValueError, "a must have shape (M, K), not (3,)"),
    ({"b": INT8}, ValueError, "b must have shape (3, N), not (2, 3)"),
    ({"bias": np.zeros(3, int)}, ValueError, "bias must have shape (2,), not (3,)"),
    ({"bias": np.zeros(2)}, TypeError, "bias must be integers, not 'float64'"),
    ({"bias": np.array([0, 1 << 31])}, ValueError,
     "bias must be from -2147483648 to 2147483647, not 2147483648"),
    ({"multiplier": 1}, ValueError, "shift must be given exactly where multiplier is, not None"),
    ({"multiplier": -1, "shift": 0}, ValueError,
     "multiplier must be from 0 to 2147483647, not -1"),
    ({"multiplier": 1, "shift": 8}, ValueError, "shift must be from -31 to 7, not 8"),
    ({"multiplier": 1, "shift": np.zeros(5, int)}, ValueError,
     "shift must have shape (2,), not (5,)"),
    ({"zero_point": 3}, ValueError,
     "multiplier must be given where zero_point or clamp is, not None"),
    ({"multiplier": 1, "shift": 0, "zero_point": 200}, ValueError,
     "zero_point must be from -128 to 127, not 200"),
    ({"multiplier": 1, "shift": 0, "zero_point": 0.5}, TypeError,
     "zero_point must be an integer, not 0.5"),
    ({"multiplier": 1, "shift": 0, "clamp": (5, 4)}, ValueError,
     "clamp must be from 5 to 127, not 4"),
    ({"multiplier": 1, "shift": 0, "clamp": (5,)}, ValueError,
     "clamp must be two integers, not (5,)"),
    ({"a_zero_point": 128}, ValueError, "input_zero_point must be from -128 to 127, not 128"),
    ({"a_zero_point": "0"}, TypeError, "a_zero_point must be an integer, not '0'"),
    ({"b_zero_point": np.zeros(3, int)}, ValueError,
     "weight_zero_point must have shape (2,), not (3,)"),
])
def test_bad_arguments_are_named(arguments, error, text):
    with ModelDevice(CoreConfig.preset("demo")) as device, pytest.raises(error) as caught:
        gemm(**{"a": INT8, "b": INT8.T, "device": device, **arguments})
    assert str(caught.value) == text


def test_sums_that_could_overflow_name_the_column():
    b = np.ones((140_000, 3), np.int8)
    b[:, 1] = -128
    with pytest.raises(ValueError) as caught:
        plan_gemm(b, config=CoreConfig.preset("demo"), rows=1)
    assert str(caught.value) == (
        "weights must keep every sum of column 1 within 2147483647, not 2293760000")


def test_too_little_memory_says_how_much_is_needed():
    with ModelDevice(CoreConfig.preset("demo"), memory_bytes=4096) as device:
        with pytest.raises(ValueError) as caught:
            gemm(np.ones((64, 64), np.int8), np.ones((64, 64), np.int8), device=device)
    assert str(caught.value).startswith("memory_bytes of the device must be at least ")
    assert str(caught.value).endswith(" for this image, not 4096")


def test_too_few_semaphores_are_refused():
    config = core(8, 8, control={"semaphores": 4})
    with pytest.raises(ValueError) as caught:
        plan_gemm(np.ones((64, 64), np.int8), config=config, rows=64)
    assert str(caught.value) == "control.semaphores must be at least 5 for this program, not 4"
