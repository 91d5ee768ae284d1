"""The requantiser against TFLite's two steps in Python integers."""

import random

import numpy as np
import pytest
from rounding import rounding_two_step
from systolith.model import requantise
from systolith.model.arithmetic import matmul_int8

EDGES = [-2**31, -2**31 + 1, -2**30, -3, -2, -1, 0, 1, 2, 3, 2**30 - 1, 2**30, 2**31 - 1]


@pytest.mark.parametrize("zero_point, clamp", [(0, (-128, 127)), (-128, (-128, 127)),
                                               (5, (-10, 20)), (127, (0, 127))])
def test_equals_the_two_steps(zero_point, clamp):
    choice = random.Random(zero_point)
    xs, ms, ss = [], [], []
    for _ in range(6000):
        bits = choice.randint(1, 32)
        xs.append(choice.choice([choice.choice(EDGES), choice.getrandbits(bits) - (1 << bits - 1)]))
        ms.append(choice.choice([0, 1, 1 << 30, (1 << 31) - 1, choice.getrandbits(31)]))
        ss.append(choice.randint(-31, 7))
    result = requantise(np.array(xs), np.array(ms), np.array(ss), zero_point=zero_point,
                        clamp=clamp)
    expected = [min(max(rounding_two_step(x, m, s) + zero_point, clamp[0]), clamp[1])
                for x, m, s in zip(xs, ms, ss, strict=True)]
    assert result.dtype == np.int8
    assert result.tolist() == expected


@pytest.mark.parametrize("k", [1, 1023, 1024, 1025, 140_000])
def test_products_are_exact_and_wrap_at_32_bits(k):
    a, b = np.full((1, k), -128, np.int8), np.full((k, 1), -128, np.int8)
    expected = (16384 * k + 2**31) % 2**32 - 2**31
    assert matmul_int8(a, b).item() == expected
