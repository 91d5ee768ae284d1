"""The core's products against other people's results."""

import os

import numpy as np
import pytest
import references
from systolith import open_device
from systolith_hw.config import PRESETS

DEVICES = ("model",)
HAVE_VECTORS = (references.models_path() / "cmsis_nn").is_dir()


def check(case, device, preset):
    with open_device(device, PRESETS[preset]) as opened:
        result, expected = case.run(opened)
    assert result.dtype == expected.dtype
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= case.tolerance


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("preset", ["demo", "tiny", "ecp5_25f"])
@pytest.mark.parametrize("name", references.CMSIS_NN)
def test_equals_cmsis_nn(name, preset, device):
    try:
        case = references.cmsis_nn(name)
    except FileNotFoundError:
        if os.environ.get("CI") == "true" and HAVE_VECTORS:
            raise
        pytest.skip(f"CMSIS-NN vectors are not in {references.models_path().name}")
    check(case, device, preset)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", references.ONNX)
def test_equals_onnx_node_tests(name, device):
    pytest.importorskip("onnx")
    check(references.onnx_case(name), device, "demo")
