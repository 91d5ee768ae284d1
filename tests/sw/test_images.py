"""Layers, images, devices and the helpers of quantisation."""

import numpy as np
import pytest
from configurations import CONFIGURATIONS
from rounding import rounding_two_step
from systolith import (
    Image,
    Linear,
    ModelDevice,
    activation_scale,
    compile_layers,
    gemm,
    open_device,
    quantise,
    quantise_multiplier,
    quantise_weights,
)
from systolith_hw.config import CoreConfig

DEMO = CoreConfig.preset("demo")


def digits_layers(seed=0, sizes=(64, 32, 10)):
    rng = np.random.default_rng(seed)
    layers = []
    for k, n in zip(sizes, sizes[1:], strict=False):
        layers.append(Linear(
            weights=rng.integers(-128, 128, (k, n), dtype=np.int8),
            bias=rng.integers(-4000, 4000, n), multiplier=rng.integers(1 << 30, 1 << 31, n),
            shift=rng.integers(-10, -8, n), input_zero_point=3, zero_point=-5, clamp=(-5, 127)))
    return layers


def expected(layers, x):
    for layer in layers:
        sums = (x.astype(int) - layer.input_zero_point) @ layer.weights.astype(int) + layer.bias
        x = np.array([[min(max(rounding_two_step(int(v), int(m), int(s)) + layer.zero_point,
                               layer.clamp[0]), layer.clamp[1])
                       for v, m, s in zip(row, layer.multiplier, layer.shift, strict=True)]
                      for row in sums]).astype(np.int8)
    return x


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("rows", [1, 9])
def test_layers_run_one_after_the_other_in_every_order(name, rows):
    layers = digits_layers()
    config = CONFIGURATIONS[name]
    image = compile_layers(layers, config=config, rows=rows)
    x = np.random.default_rng(rows).integers(-128, 128, (rows, 64), dtype=np.int8)
    for order in (None, 1, 2):
        with ModelDevice(config, order=order) as device:
            (y,) = image.run(device, x)
            assert np.array_equal(y, expected(layers, x))
            (y,) = image.run(device, x, install=False)
            assert np.array_equal(y, expected(layers, x))


def test_the_last_layer_may_give_sums():
    layers = digits_layers()[:1] + [Linear(weights=np.ones((32, 3), np.int8))]
    x = np.ones((4, 64), np.int8)
    with ModelDevice(DEMO) as device:
        (y,) = compile_layers(layers, config=DEMO, rows=4).run(device, x)
    assert y.dtype == np.int32
    assert np.array_equal(y, np.repeat(expected(layers[:1], x).sum(axis=1, keepdims=True,
                                                                   dtype=int), 3, axis=1))


@pytest.mark.parametrize("layers, rows, error, text", [
    ([], 1, ValueError, "layers must be at least one Linear, not []"),
    (digits_layers(), 0, ValueError, "rows must be from 1 to 2147483647, not 0"),
    (digits_layers(), 1.0, TypeError, "rows must be an integer, not 1.0"),
    (digits_layers()[::-1], 1, ValueError,
     "weights after 10 outputs must have as many rows, not 64"),
    ([Linear(weights=np.ones((2, 2), np.int8))] * 2, 1, ValueError,
     "multiplier of every layer but the last must be given, not None"),
])
def test_layers_that_do_not_fit_are_refused(layers, rows, error, text):
    with pytest.raises(error) as caught:
        compile_layers(layers, config=DEMO, rows=rows)
    assert str(caught.value) == text


def test_weights_of_a_layer_are_checked():
    with pytest.raises(TypeError) as caught:
        Linear(weights=np.ones((2, 2)))
    assert str(caught.value) == "weights must be of dtype int8, not 'float64'"
    with pytest.raises(ValueError) as caught:
        Linear(weights=np.ones(2, np.int8))
    assert str(caught.value) == "weights must have shape (K, N), not (2,)"


def test_an_image_survives_its_file(tmp_path):
    layers = digits_layers()
    image = compile_layers(layers, config=DEMO, rows=2)
    image.save(tmp_path / "digits.slith")
    loaded = Image.load(tmp_path / "digits.slith")
    assert loaded == image
    x = np.full((2, 64), 9, np.int8)
    with ModelDevice(DEMO) as device:
        assert np.array_equal(loaded.run(device, x)[0], expected(layers, x))


def test_the_same_layers_give_the_same_file():
    first, second = (compile_layers(digits_layers(), config=DEMO, rows=2) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


def test_damaged_files_are_refused(tmp_path):
    raw = compile_layers(digits_layers(), config=DEMO, rows=2).to_bytes()
    for change, text in [
        (raw[:-1], "length of image x must be"),
        (raw[:40] + b"?" + raw[41:], "checksum of image x"),
        (raw[:8] + b"\x01" + raw[9:], "version of image x must be 4, not 1"),
        (b"\x7fELF" + raw[4:], "image must start with the header of a .slith file, not "),
        (b"", "image must start with the header of a .slith file, not b'' as x does"),
    ]:
        with pytest.raises(ValueError) as caught:
            Image.from_bytes(change, name="x")
        assert str(caught.value).startswith(text)


def test_another_configuration_is_refused():
    image = compile_layers(digits_layers(), config=DEMO, rows=2)
    other = CoreConfig.preset("bench16")
    with ModelDevice(other) as device, pytest.raises(ValueError) as caught:
        image.run(device, np.zeros((2, 64), np.int8))
    assert str(caught.value) == (
        f"fingerprint of the image must be {other.fingerprint:#018x}, that of configuration "
        f"bench16, not {DEMO.fingerprint:#018x}")


def test_inputs_are_checked():
    image = compile_layers(digits_layers(), config=DEMO, rows=2)
    with ModelDevice(DEMO) as device:
        for inputs, error, text in [
            ((), ValueError, "inputs must be 1 arrays, not 0"),
            ((np.zeros((2, 63), np.int8),), ValueError, "x must have shape (2, 64), not (2, 63)"),
            ((np.zeros((2, 64)),), TypeError, "x must be of dtype int8, not 'float64'"),
        ]:
            with pytest.raises(error) as caught:
                image.run(device, *inputs)
            assert str(caught.value) == text


def test_devices_check_what_they_are_asked():
    for options, error, text in [
        ({"memory_bytes": 4097}, ValueError,
         "memory_bytes must be a multiple of 4096 up to 4294967296, not 4097"),
        ({"memory_bytes": 4096.0}, TypeError, "memory_bytes must be an integer, not 4096.0"),
    ]:
        with pytest.raises(error) as caught:
            ModelDevice(DEMO, **options)
        assert str(caught.value) == text
    with pytest.raises(TypeError) as caught:
        ModelDevice("demo")  # type: ignore[arg-type]
    assert str(caught.value) == "config must be a CoreConfig, not 'demo'"
    with ModelDevice(DEMO, memory_bytes=4096) as device:
        for call, text in [
            (lambda: device.write(4090, bytes(7)),
             "address must leave 7 bytes inside the window of 4096 bytes, not 4090"),
            (lambda: device.read(-1, 1),
             "address must leave 1 bytes inside the window of 4096 bytes, not -1"),
            (lambda: device.run(32, 1), "program_address must be a multiple of 64, not 32"),
            (lambda: device.run(0, -1), "commands must be from 0 to 1048575, not -1"),
            (lambda: device.run(0, 0, params={0: 1}),
             "params must name registers from 1 to 15, not 0"),
        ]:
            with pytest.raises(ValueError) as caught:
                call()
            assert str(caught.value) == text


def test_devices_are_opened_by_name(monkeypatch):
    with open_device("model", DEMO, memory_bytes=8192) as device:
        assert isinstance(device, ModelDevice) and device.memory_bytes == 8192
    with pytest.raises(ValueError) as caught:
        open_device("cloud", DEMO)
    assert str(caught.value) == "device must be one of model, rtl, board:PORT, not 'cloud'"
    monkeypatch.setitem(__import__("sys").modules, "systolith_sim.device", None)
    with pytest.raises(ImportError) as caught:
        open_device("rtl", DEMO)
    assert str(caught.value) == (
        "device rtl must have its packages installed: pip install systolith[sim]")


def test_multipliers_are_tflites():
    values = [0, 1.0, 0.5, 0.75, 1 / 3, 1e-12, 2.0**-32, 100.0, 0.9999999999]
    multiplier, shift = quantise_multiplier(np.array(values))
    assert multiplier.dtype == np.int32 and shift.dtype == np.int8
    assert multiplier.tolist() == [0, 1 << 30, 1 << 30, 1610612736, 1431655765, 0, 1 << 30,
                                   1677721600, 1 << 30]
    assert shift.tolist() == [0, 1, 0, 0, -1, 0, -31, 7, 1]
    for bad in (-1.0, 128.0, float("nan"), float("inf")):
        with pytest.raises(ValueError) as caught:
            quantise_multiplier(bad)
        assert str(caught.value) == f"scale must be from 0 to below 128, not {bad!r}"


def test_weights_and_activations_are_quantised():
    weights = np.array([[1.0, 0.0], [-2.0, 0.0]])
    quantised, scale = quantise_weights(weights)
    assert quantised.tolist() == [[64, 0], [-127, 0]]
    assert np.allclose(scale, [2 / 127, 1])
    scale, zero = activation_scale(-1.0, 3.0)
    assert (round(scale * 255, 9), zero) == (4.0, -64)
    assert activation_scale(0, 0) == (1.0, 0)
    assert quantise(np.array([-1.0, 0.0, 3.0, 9.0]), scale, zero).tolist() == [-128, -64, 127, 127]
    with pytest.raises(ValueError) as caught:
        activation_scale(2.0, 1.0)
    assert str(caught.value) == "low must be a finite number up to high=1.0, not 2.0"


def test_a_product_is_close_to_floating_point():
    rng = np.random.default_rng(0)
    weights, scale = quantise_weights(rng.normal(0, 0.1, (50, 7)))
    x = rng.integers(-128, 128, (6, 50), dtype=np.int8)
    multiplier, shift = quantise_multiplier(scale / 4)
    with ModelDevice(DEMO) as device:
        y = gemm(x, weights, device=device, multiplier=multiplier, shift=shift)
    real = np.clip((x.astype(int) @ weights.astype(int)) * (scale / 4), -128, 127)
    assert np.abs(y - real).max() <= 0.5 + 1e-6
