"""Weights of 8, 4 and 2 bits on the bit-exact model: packing, products, what is refused."""

import random

import numpy as np
import pytest
from configurations import random_core
from systolith import ModelDevice, gemm, plan_gemm
from systolith.errors import CoreError
from systolith.layout import Packing
from systolith.model.weights import Weights
from systolith_hw.config import CoreConfig
from systolith_hw.formats import RANGES

ARRAYS = {
    "int8 cells": {"weights": ("int8", "int4", "ternary")},
    "int4 beside int8": {"weights": ("int4", "int8")},
    "pairs": {"weights": ("int8", "int4", "ternary"), "pairs": True},
    "pairs of ternary": {"weights": ("int8", "ternary"), "pairs": True},
    "int4 cells": {"weights": ("int8", "int4", "ternary"), "cell": "int4"},
    "int4 alone": {"weights": ("int4",), "cell": "int4"},
    "ternary cells": {"weights": ("int8", "int4", "ternary"), "cell": "ternary"},
    "ternary alone": {"weights": ("ternary",), "cell": "ternary"},
}


def weights_of(rng, name, shape):
    low, high = RANGES[name]
    return rng.choice([low, high, *rng.integers(low, high + 1, 30)], shape).astype(np.int8)


def core_with(seed, array):
    """A random core whose array multiplies as ``array`` says."""
    while True:
        try:
            return random_core(seed).updated({"array": array})
        except ValueError:
            seed += 1000


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("array", ARRAYS)
def test_products_with_any_weights_on_random_cores(array, seed):
    config = core_with(seed, ARRAYS[array])
    choice, rng = random.Random(seed), np.random.default_rng([len(array), seed])
    for name in config.array.weights:
        m, n, k = choice.randint(1, 50), choice.randint(1, 60), choice.randint(1, 200)
        while m * -(-n // config.array.cols) * -(-k // config.array.rows) > 4000:
            m, n, k = -(-m // 2), -(-n // 2), -(-k // 2)
        a = rng.integers(-128, 128, (m, k)).astype(np.int8)
        b = weights_of(rng, name, (k, n))
        bias = rng.integers(-5000, 5000, n)
        for order in (None, seed):
            with ModelDevice(config, order=order) as device:
                result = gemm(a, b, bias, device=device, weight_format=name)
            assert np.array_equal(result, a.astype(int) @ b + bias), name


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("rows, cols", [(1, 1), (3, 5), (4, 3), (5, 8)])
def test_what_is_packed_is_what_the_core_takes(array, rows, cols):
    config = CoreConfig.from_dict({"array": {"rows": rows, "cols": cols, **ARRAYS[array]},
                                   "vector": {"lanes": 1}})
    rng = np.random.default_rng([rows, cols])
    for name in config.array.weights:
        packing, model = Packing(config, name), Weights(config, name)
        assert (packing.parts, packing.cols, packing.digits) == (
            model.parts, model.columns, model.digits)
        for k in (rows, rows + 1, 2 * rows + rows // 2):
            matrix = weights_of(rng, name, (k, packing.cols))
            data = np.frombuffer(packing.pack(matrix, rows), np.uint8)
            scratch = np.zeros((packing.rows(k, rows), config.wgt_row_bytes), np.uint8)
            scratch[:, :packing.row_bytes(packing.cols)] = data.reshape(len(scratch), -1)
            unpacked, per_tile = model.values(scratch).sum(axis=2), packing.rows(rows, rows)
            for row in range(k):
                place = row // rows * per_tile * packing.parts + row % rows
                assert np.array_equal(unpacked.reshape(-1, packing.cols)[place], matrix[row])


def test_the_low_nibble_is_the_first_weight():
    config = CoreConfig.from_dict({"array": {"rows": 2, "cols": 4, "weights": ("int8", "int4")},
                                   "vector": {"lanes": 1}})
    rows = np.array([[1, -2, 3, -4], [5, -6, 7, -8]], np.int8)
    assert Packing(config, "int4").pack(rows, 2) == bytes([0xe1, 0xc3, 0xa5, 0x87])


def test_a_pair_is_a_byte():
    config = CoreConfig.from_dict({"array": {"rows": 1, "cols": 2, "weights": ("int8", "int4"),
                                             "pairs": True}, "vector": {"lanes": 1}})
    assert Packing(config, "int4").pack(np.array([[1, 2, 3, 4]], np.int8), 1) == bytes([0x31, 0x42])


@pytest.mark.parametrize("name, share", [("int4", 2), ("ternary", 4)])
def test_narrow_weights_take_their_share_of_the_bus(name, share):
    config = CoreConfig.preset("bench16").updated({"array": {"weights": ("int8", name)}})
    a = np.ones((1, 512), np.int8)
    b = weights_of(np.random.default_rng(0), name, (512, 512))
    words = {}
    for weight_format in ("int8", name):
        with ModelDevice(config) as device:
            gemm(a, b, device=device, weight_format=weight_format)
            words[weight_format] = device.counters()["load_words"]
    weight_words, activation_words = 512 * 512 // 16, 512 // 16
    rest = {"int8": words["int8"] - weight_words, name: words[name] - weight_words // share}
    assert all(count in (activation_words, 2 * activation_words, 3 * activation_words)
               for count in rest.values())


@pytest.mark.parametrize("name, values, text", [
    ("int4", [[8]], "int4 weights must be from -8 to 7, not 8"),
    ("ternary", [[1, -2]], "ternary weights must be from -1 to 1, not -2"),
    ("int2", [[1]], "weight_format must be one of int8, int4, ternary, not 'int2'"),
    ("int4", [[1]], "weight_format must be one of array.weights=int8,ternary, not 'int4'"),
])
def test_weights_that_do_not_fit_are_named(name, values, text):
    config = CoreConfig.preset("demo").updated({"array": {"weights": ("int8", "ternary")}})
    with pytest.raises(ValueError) as caught:
        plan_gemm(np.array(values, np.int8), config=config, rows=1, weight_format=name)
    assert str(caught.value) == text


def test_zero_points_of_narrow_weights_are_refused():
    config = CoreConfig.preset("demo").updated({"array": {"weights": ("int8", "int4")}})
    with pytest.raises(ValueError) as caught:
        plan_gemm(np.ones((2, 2), np.int8), config=config, rows=1, weight_format="int4",
                  b_zero_point=1)
    assert str(caught.value) == "weight_zero_point of int4 weights must be 0, not 1"


def test_an_image_does_not_run_on_a_core_with_other_formats():
    config = CoreConfig.preset("demo").updated({"array": {"weights": ("int8", "int4")}})
    image = plan_gemm(np.ones((2, 2), np.int8), config=config, rows=1, weight_format="int4")
    with ModelDevice(CoreConfig.preset("demo")) as device, pytest.raises((ValueError, CoreError)):
        image.run(device, np.ones((1, 2), np.int8))


PAIRS = ("array.weights must be int8 and a narrower format, and array.cell int8, where "
         "array.pairs is true, not ")


@pytest.mark.parametrize("array, text", [
    ({"weights": ()}, "array.weights must be different formats, at least one, not ()"),
    ({"weights": ("int4", "int4")},
     "array.weights must be different formats, at least one, not ('int4', 'int4')"),
    ({"weights": ("int2",)}, "array.weights must be one of int8, int4, ternary, not 'int2'"),
    ({"cell": "int2"}, "array.cell must be one of int8, int4, ternary, not 'int2'"),
    ({"pairs": True}, PAIRS + "('int8',) and 'int8'"),
    ({"pairs": True, "cell": "int4", "weights": ("int8", "int4")},
     PAIRS + "('int8', 'int4') and 'int4'"),
    ({"soft_cols": 9}, "array.soft_cols must be from 0 to 8, not 9"),
    ({"soft_cols": 1}, ("array.strategy must be ecp5 and array.pairs false where array.soft_cols "
                        "is not 0, not 'generic' and False")),
])
def test_arrays_that_cannot_be_are_refused(array, text):
    with pytest.raises(ValueError) as caught:
        CoreConfig.from_dict({"array": array})
    assert str(caught.value) == text


def test_wide_weights_need_a_loop_for_their_digits():
    with pytest.raises(ValueError) as caught:
        CoreConfig.from_dict({"array": {"cell": "ternary"}, "control": {"execute_loops": 4}})
    assert str(caught.value) == ("control.execute_loops must be at least 5 for weights wider than "
                                 "array.cell='ternary', not 4")
