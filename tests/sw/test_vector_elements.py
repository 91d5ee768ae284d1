"""Operations on elements: functions, sums, products, extremes, requantisation, rotation."""

import numpy as np
import pytest
from rounding import rounding_two_step
from systolith import quantise_multiplier
from systolith.vector import Quantity, operations
from systolith.vector.elements import FUNCTIONS, ROTARY_BITS
from systolith_hw.config import PRESETS
from vectors import CORES, run

BROADCASTS = [((128,), (128,)), ((5, 7, 11), (5, 7, 11)), ((2, 2, 4, 1), (2, 2, 4, 24)),
              ((2, 1, 2, 17), (2, 4, 2, 17)), ((1, 2, 4, 19), (1, 1, 1, 1)), ((3, 1), (1, 5)),
              ((4, 1, 6), (9, 1)), ((13,), (7, 13)), ((1, 1), (1, 1)), ((1, 5000), (3, 5000))]


def seeded(*key):
    print(f"seed {key}")
    return np.random.default_rng([ord(letter) for letter in "".join(map(str, key))])


def integers(rng, dtype, shape):
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)


def quantised(value, multiplier, shift):
    return np.array([rounding_two_step(int(x), multiplier, shift)
                     for x in value.reshape(-1)]).reshape(value.shape)


def multiplier_of(scale):
    multiplier, shift = quantise_multiplier(scale)
    return int(multiplier[0]), int(shift[0])


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_int8_functions_are_the_nearest_integer(name, config):
    source = Quantity(dtype="int8", scale=0.05, zero_point=9)
    result = Quantity(dtype="int8", scale=0.03, zero_point=-11)
    x = integers(seeded(name), "int8", (3, 700))
    y, = run(operations.activation(name, source=source, result=result), x, config=config, order=1)
    exact = np.clip(FUNCTIONS[name](source.real(x)) / result.scale - 11, -128, 127)
    assert np.abs(y - exact).max() < 0.5 + 1e-9


@pytest.mark.parametrize("segments, bound", [(64, 6), (256, 1.5)])
def test_int16_functions_come_nearer_with_more_segments(segments, bound):
    source = Quantity(dtype="int16", scale=4 / 32768)
    result = Quantity(dtype="int16", scale=4 / 32768)
    x = np.arange(-32768, 32768).astype(np.int16)
    operation = operations.activation("silu", source=source, result=result, segments=segments)
    y, = run(operation, x, config=PRESETS["demo"])
    exact = np.clip(FUNCTIONS["silu"](source.real(x)) / result.scale, -32768, 32767)
    assert np.abs(y - exact).max() < bound


def test_a_core_without_multiplier_has_int8_functions():
    x = np.arange(-128, 128).astype(np.int8)
    quantity = Quantity(dtype="int8", scale=0.05)
    y, = run(operations.activation("gelu", source=quantity, result=quantity), x,
             config=PRESETS["ecp5_25f"])
    assert np.array_equal(y, quantity.integers(FUNCTIONS["gelu"](quantity.real(x))))


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("left, right", BROADCASTS, ids=str)
def test_extremes_broadcast_as_numpy_does(left, right, config):
    rng = seeded(left, right)
    for dtype in ("int8", "int16"):
        a, b = integers(rng, dtype, left), integers(rng, dtype, right)
        order = int(rng.integers(9))
        y, = run(operations.maximum(dtype=dtype), a, b, config=config, order=order)
        assert np.array_equal(y, np.maximum(a, b))
        y, = run(operations.minimum(dtype=dtype), b, a, config=config, order=order)
        assert np.array_equal(y, np.minimum(a, b))


def tflite_add(a, b, *, left_shift, offsets, multipliers, out_multiplier, zero_point, clamp):
    total = sum(quantised((x.astype(np.int64) + offset) << left_shift, *multiplier)
                for x, offset, multiplier in zip((a, b), offsets, multipliers, strict=True))
    return np.clip(quantised(total, *out_multiplier) + zero_point, *clamp)


@pytest.mark.parametrize("config", [*CORES.values(), PRESETS["ecp5_25f"]],
                         ids=[*CORES, "no multiplier"])
@pytest.mark.parametrize("scales", [(0.05, 0.05, 0.1), (0.031, 0.077, 0.09), (0.3, 0.002, 0.2)])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_exact_addition_is_that_of_tflite(dtype, scales, config):
    rng = seeded("add", scales, dtype)
    left_shift = 20 if dtype == "int8" else 15
    twice = 2 * max(scales[:2])
    multipliers = tuple(multiplier_of(scale / twice) for scale in scales[:2])
    out = multiplier_of(twice / ((1 << left_shift) * scales[2]))
    offsets, zero_point = ((5, -100), -3) if dtype == "int8" else ((0, 0), 0)
    clamp = (-101, 90) if dtype == "int8" else (-2000, 30000)
    a, b = integers(rng, dtype, (3, 5, 7)), integers(rng, dtype, (5, 1))
    operation = operations.exact_addition(
        left_shift=left_shift, offsets=offsets, multipliers=multipliers, out_multiplier=out,
        out_zero_point=zero_point, dtype=dtype, clamp=clamp)
    y, = run(operation, a, b, config=config, order=4)
    wide = np.broadcast_arrays(a, b)
    assert np.array_equal(y, tflite_add(*wide, left_shift=left_shift, offsets=offsets,
                                        multipliers=multipliers, out_multiplier=out,
                                        zero_point=zero_point, clamp=clamp))


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype, offsets, zero_point, clamp", [
    ("int8", (128, -7), -20, (-100, 100)), ("int16", (0, 0), 0, (-3000, 32767))])
def test_products_are_those_of_tflite(dtype, offsets, zero_point, clamp, config):
    rng = seeded("mul", dtype)
    scale = multiplier_of(0.0039 if dtype == "int8" else 3.1e-5)
    a, b = integers(rng, dtype, (31, 9)), integers(rng, dtype, (9,))
    y, = run(operations.product(multiplier=scale, offsets=offsets, out_zero_point=zero_point,
                                dtype=dtype, clamp=clamp), a, b, config=config, order=5)
    product = (a.astype(np.int64) + offsets[0]) * (b.astype(np.int64) + offsets[1])
    assert np.array_equal(y, np.clip(quantised(product, *scale) + zero_point, *clamp))


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("scales", [(0.05, 0.013, 0.06), (0.01, 0.9, 0.9), (0.002, 0.5, 0.5)])
def test_addition_in_one_pass_is_within_a_unit(scales, config):
    a, b, result = (Quantity(dtype="int8", scale=scale, zero_point=zero)
                    for scale, zero in zip(scales, (4, -7, 1), strict=True))
    rng = seeded("one pass", scales)
    x, y = (integers(rng, "int8", (4, 99)) for _ in range(2))
    z, = run(operations.addition(a=a, b=b, result=result), x, y, config=config, order=1)
    exact = np.clip((a.real(x) + b.real(y)) / result.scale + 1, -128, 127)
    assert np.abs(z - exact).max() < 1


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_pairs_are_rotated(dtype, config):
    rng = seeded("rotary", dtype)
    quantity = Quantity(dtype=dtype, scale=0.01, zero_point=-3 if dtype == "int8" else 0)
    angle = Quantity(dtype="int16", scale=2.0 ** -ROTARY_BITS)
    radians = rng.uniform(-4, 4, (10, 15))
    cosines, sines = angle.integers(np.cos(radians)), angle.integers(np.sin(radians))
    a, b = (integers(rng, dtype, (2, 10, 15)) for _ in range(2))
    low, high = run(operations.rotary(quantity=quantity), a, b, cosines, sines, config=config,
                    order=6)
    x, y, c, s = quantity.real(a), quantity.real(b), angle.real(cosines), angle.real(sines)
    for result, real in ((low, x * c - y * s), (high, y * c + x * s)):
        limits = np.iinfo(dtype)
        wanted = np.clip(real / quantity.scale + quantity.zero_point, limits.min, limits.max)
        assert np.abs(result - wanted).max() < 0.52


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype, out_dtype, ratio", [
    ("int8", "int16", 61.7), ("int8", "int32", 20000.0), ("int16", "int8", 0.003),
    ("int32", "int16", 1.3e-5), ("int32", "int8", 5e-8), ("int16", "int16", 0.9)])
def test_requantisation_rounds_to_the_nearest(dtype, out_dtype, ratio, config):
    source = Quantity(dtype=dtype, scale=ratio, zero_point=-17)
    result = Quantity(dtype=out_dtype, scale=1.0, zero_point=5)
    x = integers(seeded(dtype, out_dtype), dtype, (333,))
    y, = run(operations.requantisation(source=source, result=result), x, config=config, order=7)
    limits = np.iinfo(out_dtype)
    assert np.abs(y - np.clip(source.real(x) + 5, limits.min, limits.max)).max() < 0.51


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
def test_columns_have_scales_of_their_own(config):
    rng = seeded("columns")
    scales = 2.0 ** rng.uniform(-24, -17, 21)
    x = rng.integers(-1 << 24, 1 << 24, (37, 21)).astype(np.int32)
    operation = operations.requantisation(source=Quantity(dtype="int32"), scales=scales,
                                          result=Quantity(dtype="int8"))
    y, = run(operation, x, config=config, order=8)
    assert np.abs(y - np.clip(x * scales, -128, 127)).max() < 0.51
