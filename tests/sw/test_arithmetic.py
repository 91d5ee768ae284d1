"""The requantiser against TFLite's two steps in Python integers."""

import random

import numpy as np
import pytest
from rounding import rounding_two_step
from systolith.model import requantise
from systolith.model.arithmetic import matmul_int8

EDGES = [-2**31, -2**31 + 1, -2**30, -3, -2, -1, 0, 1, 2, 3, 2**30 - 1, 2**30, 2**31 - 1]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("zero_point, clamp", [(0, (-128, 127)), (-128, (-128, 127)),
                                               (5, (-10, 20)), (127, (0, 127))])
def test_equals_the_two_steps(zero_point, clamp, dtype):
    choice = random.Random(zero_point)
    low, high = clamp if dtype == np.int8 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    xs, ms, ss = [], [], []
    for _ in range(6000):
        bits = choice.randint(1, 32)
        xs.append(choice.choice([choice.choice(EDGES), choice.getrandbits(bits) - (1 << bits - 1)]))
        ms.append(choice.choice([0, 1, 1 << 30, (1 << 31) - 1, choice.getrandbits(31)]))
        ss.append(choice.randint(-31, 7))
    result = requantise(np.array(xs), np.array(ms), np.array(ss), zero_point=zero_point,
                        clamp=clamp, dtype=dtype)
    expected = [min(max(rounding_two_step(x, m, s) + zero_point, low), high)
                for x, m, s in zip(xs, ms, ss, strict=True)]
    assert result.dtype == dtype
    assert result.tolist() == expected


def test_results_are_int8_unless_another_type_is_asked_for():
    result = requantise(np.array([1000, -1000, 7]), np.array(1 << 30), np.array(1))
    assert result.dtype == np.int8
    assert result.tolist() == [127, -128, 7]


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
@pytest.mark.parametrize("zero_point", [-128, -1, 0, 1, 127])
def test_half_of_twice_a_value_is_the_value_saturated(dtype, zero_point):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = [value for value in [*EDGES, *(edge + step for edge in (low, high, -2**15, 2**15)
                                            for step in range(-130, 131))]
              if -2**31 <= value < 2**31]
    result = requantise(np.array(values), np.array(1 << 30), np.array(1), zero_point=zero_point,
                        clamp=(-3, 3), dtype=dtype)
    assert result.tolist() == [min(max(value + zero_point, low), high) for value in values]


@pytest.mark.parametrize("shift", range(8))
def test_left_shifts_saturate_at_what_is_exactly_beyond_the_type(shift):
    multiplier = (1 << 31) - 1
    values = np.array([-2**31, -2**31 + 1, 2**31 - 1,
                       *(sign * (2**(31 - shift) + step) for sign in (-1, 1)
                         for step in range(-2, 3) if 2**(31 - shift) + step < 2**31)])
    exact = [rounding_two_step(int(value), multiplier, shift) for value in values]
    assert min(exact) < -2**31 + 2 and max(exact) > 2**31 - 4
    for dtype in (np.int16, np.int32):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        result = requantise(values, np.array(multiplier), np.array(shift), dtype=dtype)
        assert result.tolist() == [min(max(value, low), high) for value in exact]


@pytest.mark.parametrize("k", [1, 1023, 1024, 1025, 140_000])
def test_products_are_exact_and_wrap_at_32_bits(k):
    a, b = np.full((1, k), -128, np.int8), np.full((k, 1), -128, np.int8)
    expected = (16384 * k + 2**31) % 2**32 - 2**31
    assert matmul_int8(a, b).item() == expected
