"""The Verilog's products against other people's results, bit for bit."""

import os

import pytest
import references
from cores import rtl

HAVE_VECTORS = (references.models_path() / "cmsis_nn").is_dir()


def check(case, name):
    with rtl(name, memory_bytes=1 << 20, latency=9, jitter=20, backpressure=0.1) as device:
        result, expected = case.run(device)
    assert result.dtype == expected.dtype
    assert case.tolerance == 0
    assert (result == expected).all()


def cmsis_nn(name):
    try:
        return references.cmsis_nn(name)
    except FileNotFoundError:
        if os.environ.get("CI") == "true" and HAVE_VECTORS:
            raise
        pytest.skip(f"CMSIS-NN vectors are not in {references.models_path().name}")


@pytest.mark.parametrize("core", ["demo", "3x5", pytest.param("5x3", marks=pytest.mark.full)])
@pytest.mark.parametrize("name", references.CMSIS_NN)
def test_equals_cmsis_nn(name, core):
    check(cmsis_nn(name), core)


@pytest.mark.parametrize("core", ["3x5", *(pytest.param(name, marks=pytest.mark.full)
                                           for name in ("1x16", "64x1", "1x64"))])
@pytest.mark.parametrize("name", references.CMSIS_NN_INT4)
def test_products_of_int4_weights_equal_cmsis_nn(name, core):
    check(cmsis_nn(name), core)


@pytest.mark.parametrize("name", references.ONNX)
def test_equals_onnx_node_tests(name):
    pytest.importorskip("onnx")
    check(references.onnx_case(name), "demo")
