"""Pooling against an interpreter of TFLite's integer algorithm."""

import numpy as np
import pytest
from systolith import ModelDevice
from systolith.vector.pooling import Pooling, compile_pooling
from systolith_hw.config import PRESETS
from vectors import CORES, check_waits

CASES = [  # batch, height, width, channels; window; stride; padding; outputs
    ((2, 12, 22, 8), (5, 6), (5, 9), (1, 1), (3, 3)),
    ((1, 9, 9, 3), (3, 3), (1, 1), (1, 1), (9, 9)),
    ((3, 7, 5, 17), (2, 3), (2, 1), (0, 1), (3, 5)),
    ((1, 1, 12, 5), (1, 3), (2, 1), (0, 1), (1, 12)),
    ((1, 20, 1, 2), (3, 1), (3, 1), (0, 0), (7, 1)),
    ((2, 8, 8, 32), (8, 8), (1, 1), (0, 0), (1, 1)),
    ((1, 40, 40, 70), (2, 2), (2, 2), (0, 0), (20, 20)),
    ((1, 4, 4, 1), (1, 1), (1, 1), (0, 0), (4, 4)),
    ((1, 2, 3, 700), (2, 2), (1, 1), (0, 0), (1, 2)),
]


def pooled(x, pooling):
    batch, height, width, channels = x.shape
    result = np.zeros((batch, *pooling.outputs, channels), np.int64)
    for i, j in np.ndindex(*pooling.outputs):
        top = i * pooling.stride[0] - pooling.padding[0]
        left = j * pooling.stride[1] - pooling.padding[1]
        part = x[:, max(0, top):top + pooling.window[0],
                 max(0, left):left + pooling.window[1]].astype(np.int64)
        if pooling.average:
            total, count = part.sum(axis=(1, 2)), part.shape[1] * part.shape[2]
            half = np.where(total > 0, count // 2, -(count // 2))
            result[:, i, j] = np.trunc((total + half) / count)
        else:
            result[:, i, j] = part.max(axis=(1, 2))
    limits = np.iinfo(x.dtype)
    return np.clip(result, *(pooling.clamp or (limits.min, limits.max)))


def run(pooling, x, config, order=None):
    image = compile_pooling(pooling, x.shape, config=config)
    check_waits(image, config)
    with ModelDevice(config, order=order) as device:
        return image.run(device, x)[0]


@pytest.mark.parametrize("config", [*CORES.values(), PRESETS["ecp5_25f"]],
                         ids=[*CORES, "no multiplier"])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("average", [False, True], ids=["maximum", "average"])
@pytest.mark.parametrize("shape, window, stride, padding, outputs", CASES, ids=str)
def test_pooling_equals_tflite(shape, window, stride, padding, outputs, average, dtype, config):
    print(f"seed {shape}")
    rng = np.random.default_rng(shape)
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)
    pooling = Pooling(average=average, window=window, stride=stride, padding=padding,
                      outputs=outputs, dtype=dtype,
                      clamp=(-100, 90) if shape[3] % 2 else None)
    assert np.array_equal(run(pooling, x, config, order=int(rng.integers(9))), pooled(x, pooling))


@pytest.mark.parametrize("count", range(1, 65))
def test_averages_round_half_away_from_zero(count):
    """Every sum of a window that is near a tie, and all small ones."""
    sums = np.arange(-3 * count, 3 * count + 1)
    x = np.zeros((1, 1, count, len(sums)), np.int8)
    x[0, 0] = (sums // count) + (np.arange(count)[:, None] < sums % count)
    assert np.array_equal(x.sum(axis=2)[0, 0], sums)
    pooling = Pooling.whole(1, count, average=True)
    y = run(pooling, x, PRESETS["bench16"])
    half = np.sign(sums) * (count // 2)
    assert np.array_equal(y[0, 0, 0], np.trunc((sums + half) / count))


def test_a_whole_array_of_a_thousand_elements_is_averaged():
    x = np.random.default_rng(1).integers(-128, 128, (1, 40, 30, 4)).astype(np.int8)
    pooling = Pooling.whole(40, 30, average=True)
    assert np.array_equal(run(pooling, x, PRESETS["bench16"]), pooled(x, pooling))


def test_a_window_too_large_to_be_exact_is_refused():
    with pytest.raises(ValueError, match="window must have at most 256 elements of int16, not 289"):
        Pooling.whole(17, 17, average=True, dtype="int16")


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="memory.act_rows must hold two windows of 4 channels"):
        compile_pooling(Pooling.whole(200, 200, average=True), (1, 200, 200, 3),
                        config=PRESETS["demo"])
    with pytest.raises(ValueError, match="outputs must have windows inside the array"):
        compile_pooling(Pooling(average=False, window=(2, 2), outputs=(9, 1)), (1, 4, 4, 1),
                        config=PRESETS["demo"])
    with pytest.raises(ValueError, match="shape must be batch, height, width and channels"):
        compile_pooling(Pooling.whole(4, 4, average=True), (4, 4, 1), config=PRESETS["demo"])
    with pytest.raises(ValueError, match="dtype must be int8 or int16, not 'int32'"):
        Pooling.whole(4, 4, average=True, dtype="int32")
    with pytest.raises(ValueError, match="stride must be two sizes from 1"):
        Pooling(average=True, window=(2, 2), stride=(0, 1), outputs=(1, 1))
