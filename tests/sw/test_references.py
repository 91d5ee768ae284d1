"""The core's products against other people's results."""

import os

import numpy as np
import pytest
import references
from systolith import open_device
from systolith_hw.config import PRESETS
from vectors import CORES

DEVICES = ("model",)
HAVE_VECTORS = (references.models_path() / "cmsis_nn").is_dir()


def check(case, device, config, **options):
    with open_device(device, config, **options) as opened:
        result, expected = case.run(opened)
    assert result.dtype == expected.dtype
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= case.tolerance


def cmsis_nn(name):
    try:
        return references.cmsis_nn(name)
    except FileNotFoundError:
        if os.environ.get("CI") == "true" and HAVE_VECTORS:
            raise
        pytest.skip(f"CMSIS-NN vectors are not in {references.models_path().name}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("preset", ["demo", "tiny", "ecp5_25f"])
@pytest.mark.parametrize("name", references.CMSIS_NN)
def test_equals_cmsis_nn(name, preset, device):
    check(cmsis_nn(name), device, PRESETS[preset])


INT4_ARRAYS = {
    "a weight in each cell": {"weights": ("int8", "int4")},
    "pairs": {"weights": ("int8", "int4"), "pairs": True},
    "int4 cells": {"weights": ("int4",), "cell": "int4"},
    "digit by digit": {"weights": ("int4",), "cell": "ternary"},
}


@pytest.mark.parametrize("array", INT4_ARRAYS)
@pytest.mark.parametrize("name", references.CMSIS_NN_INT4)
def test_products_of_int4_weights_equal_cmsis_nn(name, array):
    check(cmsis_nn(name), "model", PRESETS["demo"].updated({"array": INT4_ARRAYS[array]}))


@pytest.mark.parametrize("order", [None, 1, 2])
@pytest.mark.parametrize("config", CORES.values(), ids=CORES)
@pytest.mark.parametrize("name", references.CMSIS_NN_VECTOR)
def test_vector_operations_equal_cmsis_nn(name, config, order):
    check(cmsis_nn(name), "model", config, order=order)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", references.ONNX)
def test_equals_onnx_node_tests(name, device):
    pytest.importorskip("onnx")
    check(references.onnx_case(name), device, PRESETS["demo"])
