"""Blocks of a transformer on the model: against float64, in shuffled orders, of odd sizes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from configurations import core
from systolith import ModelDevice
from systolith.blocks import Attention, Perceptron, compile_attention, compile_perceptron
from systolith.blocks.stages import Stages
from systolith.layers import Linear
from systolith.layout import pack_panels
from systolith_hw.config import PRESETS

# (preset, tokens, width, head or hidden)
ATTENTIONS = [("bench16", 64, 256, 64), ("bench16", 37, 96, 24), ("ecp5_85f", 64, 256, 64),
              ("demo", 37, 96, 24), ("demo", 1, 16, 8), ("demo", 9, 24, 3), ("bench16", 17, 40, 64)]
PERCEPTRONS = [("bench16", 64, 256, 1024), ("bench16", 37, 96, 250), ("demo", 1, 16, 40),
               ("ecp5_85f", 64, 256, 1024), ("demo", 9, 24, 100)]
ORDERS = (1, 2, 3)
BOUND = {"int8": 0.018, "int16": 0.015}    # of the relative error
MEMORY_BYTES = 1 << 21


def inputs(tokens, width, seed=0):
    print(f"seed {seed}")
    return np.random.default_rng(seed).normal(0, 1, (tokens, width))


def error(result, real):
    """Relative RMS error."""
    return np.sqrt(((result - real) ** 2).mean() / (real ** 2).mean())


def run(block, preset, *arrays, order=None):
    with ModelDevice(PRESETS[preset], memory_bytes=MEMORY_BYTES, order=order) as device:
        return block.run(device, *arrays)


def causal(tokens):
    return np.tril(np.ones((tokens, tokens), np.int8))


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "causal"])
@pytest.mark.parametrize("preset, tokens, width, head", ATTENTIONS)
def test_attention_is_near_float64_in_every_order(preset, tokens, width, head, masked, dtype):
    x, layer = inputs(tokens, width), Attention.random(width, head, seed=tokens)
    masks = (causal(tokens),) * masked
    block = compile_attention(layer, x, config=PRESETS[preset], dtype=dtype,
                              mask=masks[0] if masked else None)
    y = run(block, preset, x, *masks)
    assert error(y, layer.steps(x, *masks)["y"]) < BOUND[dtype]
    for order in ORDERS:
        assert np.array_equal(run(block, preset, x, *masks, order=order), y)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("preset, tokens, width, hidden", PERCEPTRONS)
def test_perceptron_is_near_float64_in_every_order(preset, tokens, width, hidden, dtype):
    x, layer = inputs(tokens, width), Perceptron.random(width, hidden, seed=tokens)
    block = compile_perceptron(layer, x, config=PRESETS[preset], dtype=dtype)
    y = run(block, preset, x)
    assert error(y, layer.steps(x)["y"]) < BOUND[dtype]
    for order in ORDERS:
        assert np.array_equal(run(block, preset, x, order=order), y)


def test_other_inputs_than_those_of_the_calibration_are_near_float64_too():
    layer = Attention.random(96, 24, seed=7)
    block = compile_attention(layer, inputs(37, 96, 8), config=PRESETS["demo"])
    x = inputs(37, 96, 9)
    assert error(run(block, "demo", x), layer.steps(x)["y"]) < 0.02


def test_tokens_that_come_later_do_not_change_those_before():
    x, layer = inputs(21, 48), Attention.random(48, 20, seed=4)
    block = compile_attention(layer, x, config=PRESETS["demo"], mask=causal(21))
    y = run(block, "demo", x, causal(21))
    x[13:] = -x[13:]
    changed = run(block, "demo", x, causal(21))
    assert np.array_equal(changed[:13], y[:13])
    assert (changed[13:] != y[13:]).any(axis=1).all()


def test_one_program_takes_any_mask():
    x, layer = inputs(19, 48), Attention.random(48, 16, seed=5)
    block = compile_attention(layer, x, config=PRESETS["bench16"], mask=np.eye(19))
    rng = np.random.default_rng(3)
    for density in (0.5, 0.9):
        mask = (rng.random((19, 19)) < density) | np.eye(19, dtype=bool)
        y = run(block, "bench16", x, mask)
        assert error(y, layer.steps(x, mask)["y"]) < 0.02


def test_a_token_that_attends_to_none_gets_the_output_bias_alone():
    x, layer = inputs(10, 32), Attention.random(32, 16, seed=6)
    mask = causal(10)
    mask[4] = 0
    block = compile_attention(layer, x, config=PRESETS["demo"], mask=causal(10), dtype="int16")
    y = run(block, "demo", x, mask)
    assert np.abs(y[4] - x[4] - layer.output_bias).max() < 0.03


@pytest.mark.parametrize("preset, rows, k, n, turned", [
    ("demo", 37, 20, 40, 24), ("bench16", 64, 48, 96, 32), ("ecp5_85f", 21, 30, 24, 24),
    ("demo", 5, 9, 11, 8), ("bench16", 200, 300, 64, 16)])
def test_results_become_weights(preset, rows, k, n, turned):
    config, rng = PRESETS[preset], np.random.default_rng(rows)
    layer = Linear(weights=rng.integers(-128, 128, (k, n), np.int8), multiplier=1 << 30, shift=-8)
    x = rng.integers(-128, 128, (rows, k), np.int8)
    stages = Stages(config)
    given, target = stages.tensor("x", rows, k), stages.tensor("y", rows, n)
    address = stages.product(layer, given, target, turned=turned)
    image = stages.image((given,), (target,))
    sums = np.clip(np.floor((x.astype(np.int64) @ layer.weights) / 512 + 0.5), -128, 127)
    for order in (None, *ORDERS):
        with ModelDevice(config, memory_bytes=MEMORY_BYTES, order=order) as device:
            y, = image.run(device, x)
            weights = device.read(address, rows * turned).tobytes()
        assert np.abs(y[:, turned:] - sums[:, turned:]).max(initial=0) <= 1
        keys = np.frombuffer(weights, np.int8)
        expected = pack_panels(sums[:, :turned].T.astype(np.int8), config=config)
        assert np.abs(keys - np.frombuffer(expected, np.int8).astype(int)).max() <= 1


@pytest.mark.parametrize("config, tokens, text", [
    (PRESETS["demo"], 300, ("memory.act_rows must be at least 1094 for attention over 300 "
                            "tokens with a head of 8, not 1024")),
    (PRESETS["tiny"], 8, "vector.rows must be at least 2 for layer_norm, not 0"),
    (PRESETS["ecp5_25f"], 8, "vector.multiply must be true for products and squares, not False"),
    (core(3, 4, 2), 8, ("array must have 4 rows or more, a power of two, and columns in whole lane "
                        "groups for attention, not 3 x 4")),
], ids=["tokens", "records", "products", "array"])
def test_what_does_not_fit_is_refused(config, tokens, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        compile_attention(Attention.random(32, 8, seed=1), inputs(tokens, 32), config=config)


def test_shapes_are_refused():
    layer, other = Attention.random(16, 8, seed=1), Attention.random(24, 8, seed=1)
    with pytest.raises(ValueError, match=re.escape("x must have shape (tokens, 16), not (3, 8)")):
        compile_attention(layer, np.zeros((3, 8)), config=PRESETS["demo"])
    with pytest.raises(ValueError, match=re.escape("mask must have shape (3, 3), not (2, 3)")):
        compile_attention(layer, np.ones((3, 16)), config=PRESETS["demo"], mask=np.ones((2, 3)))
    fields = {name: getattr(layer, name) for name in Attention.SHAPES}
    with pytest.raises(ValueError, match=re.escape("key must have shape (width, head), "
                                                   "not (24, 8)")):
        Attention(**{**fields, "key": other.key})


def test_the_example_runs():
    example = Path(__file__).parents[2] / "examples" / "attention.py"
    result = subprocess.run([sys.executable, example, "--preset", "demo", "--tokens", "21",
                             "--width", "48", "--head", "16", "--causal"], check=True,
                            capture_output=True, text=True)
    assert re.search(r"^attention +\d+ +- +- +1\.\d\d%", result.stdout, re.M), result.stdout
