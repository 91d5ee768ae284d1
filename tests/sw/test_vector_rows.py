"""Operations over rows against float64 and NumPy, on several cores and in shuffled orders."""

import numpy as np
import pytest
from configurations import core
from systolith import ModelDevice
from systolith.vector import Quantity, compile_vector, operations, run_real
from systolith.vector.errors import real_layer_norm, real_rms_norm, real_softmax
from systolith_hw.config import PRESETS
from vectors import CORES, run

SHAPES = [(1, 1), (3, 16), (37, 23), (2, 3, 40), (9, 129)]
ORDERS = (None, 1, 2)


def seeded(*key):
    print(f"seed {key}")
    return np.random.default_rng([ord(letter) for letter in "".join(map(str, key))])


def integers(rng, dtype, shape):
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)


def largest(result, real, quantity):
    limits = np.iinfo(quantity.dtype)
    wanted = np.clip(real / quantity.scale + quantity.zero_point, limits.min, limits.max)
    return np.abs(result - wanted).max()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype, out_dtype", [("int8", "int8"), ("int16", "int16"),
                                              ("int32", "int8")])
def test_softmax_is_within_a_unit_of_int8_and_eight_of_int16(dtype, out_dtype, config, shape):
    rng = seeded("softmax", dtype, shape)
    x = integers(rng, dtype, shape)
    scale = {"int8": 0.05, "int16": 0.0004, "int32": 1e-8}[dtype]
    operation = operations.softmax(scale=scale, dtype=dtype, out_dtype=out_dtype)
    exact = real_softmax(x * scale)
    for order in ORDERS:
        y, = run(operation, x, config=config, order=order)
        assert largest(y, exact, operation.outputs[0]) < (1 if out_dtype == "int8" else 8)


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("scale", [1 / 256, 0.04, 0.1, 2.0])
def test_softmax_leaves_out_what_is_masked(scale, config):
    rng = seeded("masked", scale)
    x = integers(rng, "int8", (2, 11, 37))
    mask = np.tril(np.ones((11, 37), np.int8))
    mask[4] = 0
    y, = run(operations.softmax(scale=scale, masked=True), x, mask, config=config, order=3)
    taken = np.arange(11) != 4
    exact = np.minimum(real_softmax(x[:, taken] * scale, mask[taken]) * 256 - 128, 127)
    assert np.abs(y[:, taken] - exact).max() < 1
    assert (y[:, 4] == -128).all()
    assert (y[:, mask == 0] == -128).all()


def test_one_mask_serves_all_rows():
    x = integers(seeded("one mask"), "int8", (40, 19))
    mask = np.arange(19) % 3 != 1
    y, = run(operations.softmax(scale=0.05, masked=True), x, mask.astype(np.int8),
             config=PRESETS["demo"])
    exact = real_softmax(x * 0.05, mask) * 256 - 128
    assert np.abs(y - np.minimum(exact, 127)).max() < 1


@pytest.mark.parametrize("shape", [(5, 2), (3, 16), (37, 23), (2, 3, 40)], ids=str)
@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype, zero_point, out_dtype", [
    ("int8", 0, "int8"), ("int8", -20, "int8"), ("int16", 0, "int16"), ("int16", 0, "int8")])
def test_norms_are_within_a_unit(dtype, zero_point, out_dtype, config, shape):
    rng = seeded("norm", dtype, zero_point, shape)
    source = Quantity(dtype=dtype, scale=0.05 if dtype == "int8" else 0.0003,
                      zero_point=zero_point)
    result = Quantity(dtype=out_dtype, scale=0.05 if out_dtype == "int8" else 2.0 ** -9,
                      zero_point=3 if out_dtype == "int8" else 0)
    x = source.integers(rng.normal(0.3, 1.2, shape))
    gamma, beta = rng.normal(1, 0.3, shape[-1]), rng.normal(0, 0.5, shape[-1])
    common = {"source": source, "result": result, "epsilon": 1e-5, "peak": 7.0}
    order = int(rng.integers(9))
    y, = run(operations.layer_norm(gamma=gamma, beta=beta, **common), x, config=config,
             order=order)
    assert largest(y, real_layer_norm(source.real(x), gamma, beta, 1e-5), result) < 1
    y, = run(operations.rms_norm(gamma=gamma, **common), x, config=config, order=order)
    assert largest(y, real_rms_norm(source.real(x), gamma, 1e-5), result) < 1


@pytest.mark.parametrize("dtype, scale, epsilon", [
    ("int8", 0.05, 0.5), ("int16", 1 / 4096, 1e-5), ("int16", 1 / 4096, 0.02)])
def test_epsilon_counts_where_it_is_large(dtype, scale, epsilon):
    rng = seeded("epsilon", dtype)
    source = Quantity(dtype=dtype, scale=scale)
    result = Quantity(dtype="int8", scale=0.02)
    x = source.integers(rng.normal(0, 0.3, (8, 64)))
    gamma, beta = np.ones(64), np.zeros(64)
    y, = run(operations.layer_norm(gamma=gamma, beta=beta, source=source, result=result,
                                   epsilon=epsilon), x, config=PRESETS["demo"])
    assert largest(y, real_layer_norm(source.real(x), gamma, beta, epsilon), result) < 1
    y, = run(operations.rms_norm(gamma=gamma, source=source, result=result, epsilon=epsilon), x,
             config=PRESETS["demo"])
    assert largest(y, real_rms_norm(source.real(x), gamma, epsilon), result) < 1


def test_a_limit_of_means_makes_variances_exact():
    rng = seeded("mean limit")
    source, result = Quantity(dtype="int16", scale=1e-3), Quantity(dtype="int8", scale=0.03)
    x = source.integers(rng.normal(0.4, 0.02, (20, 64)))
    gamma, beta = np.ones(64), np.zeros(64)
    exact = real_layer_norm(source.real(x), gamma, beta, 1e-9)
    worst = []
    for limit in (None, 0.5):
        y, = run(operations.layer_norm(gamma=gamma, beta=beta, source=source, result=result,
                                       epsilon=1e-9, mean_limit=limit), x, config=PRESETS["demo"])
        worst.append(largest(y, exact, result))
    assert worst[0] > 5 and worst[1] < 1


def test_a_constant_row_is_normalised_to_beta():
    x = np.full((3, 32), 77, np.int8)
    result = Quantity(dtype="int8", scale=0.05)
    y, = run(operations.layer_norm(gamma=np.ones(32), beta=np.full(32, 0.5),
                                   source=Quantity(dtype="int8", scale=0.1), result=result), x,
             config=PRESETS["demo"])
    assert (y == 10).all()


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_arg_max_is_the_first_of_the_largest(dtype, config):
    x = integers(seeded("arg max", dtype), dtype, (29, 21))
    x[2] = 3
    x[3, 5:9] = np.iinfo(dtype).max
    y, = run(operations.arg_max(dtype=dtype), x, config=config, order=1)
    assert np.array_equal(y[:, 0], x.argmax(axis=-1))


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_top_k_sorts_with_the_first_of_equals_first(dtype, config):
    x = seeded("top k", dtype).integers(-9, 9, (13, 17)).astype(dtype)
    x[1] = np.iinfo(dtype).max
    values, positions = run(operations.top_k(6, cols=17, dtype=dtype), x, config=config, order=2)
    order = np.argsort(-x.astype(np.int64), axis=-1, kind="stable")[:, :6]
    assert np.array_equal(positions, order)
    assert np.array_equal(values, np.take_along_axis(x, order, axis=-1))


@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_rows_are_quantised_by_their_peak(dtype, config):
    x = integers(seeded("quantise", dtype), dtype, (21, 37))
    x[3] = 0
    x[4] = np.arange(37) % 3 - 1
    x[5] = np.iinfo(dtype).min
    q, peaks = run(operations.quantise_rows(dtype=dtype), x, config=config, order=2)
    real = np.abs(x.astype(np.int64)).max(axis=-1, keepdims=True)
    assert np.array_equal(peaks, np.minimum(real, 2**31 - 1))
    assert np.abs(q - x * 127.0 / np.maximum(real, 1)).max() < 0.52


@pytest.mark.parametrize("order", range(12))
def test_no_result_is_overwritten_before_it_is_stored(order):
    """Operations that write results in several passes, in many short chunks."""
    config = core(8, 8, 4, {"act_rows": 64, "act_banks": 2})
    x = seeded("stored", order).integers(-9, 9, (150, 4)).astype(np.int8)
    values, positions = run(operations.top_k(2, cols=4), x, config=config, order=order)
    wanted = np.argsort(-x.astype(int), axis=-1, kind="stable")[:, :2]
    assert np.array_equal(positions, wanted)
    assert np.array_equal(values, np.take_along_axis(x, wanted, axis=-1))
    q, peaks = run(operations.quantise_rows(dtype="int8"), x, config=config, order=order)
    assert np.array_equal(peaks, np.abs(x).max(axis=-1, keepdims=True))
    assert np.abs(q - x * 127.0 / np.maximum(peaks, 1)).max() < 0.52


def test_real_numbers_go_in_and_come_out():
    rng = seeded("real")
    operation = operations.softmax(scale=0.1, dtype="int16")
    x = rng.normal(0, 2, (4, 10))
    image = compile_vector(operation, x.shape, config=PRESETS["demo"])
    with ModelDevice(PRESETS["demo"]) as device:
        y, = run_real(image, operation, device, x)
    assert np.abs(y - real_softmax(np.rint(x / 0.1) * 0.1)).max() < 1 / 256
