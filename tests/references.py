"""Products that others computed, as cases that run on any device.

A case is an object with ``name``, ``tolerance`` and ``run(device) -> (result, expected)``.
"""

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from systolith import Device, gemm, quantise_multiplier
from systolith.vector import compile_vector, operations
from systolith.vector.pooling import Pooling, compile_pooling

ROOT = Path(__file__).resolve().parents[1]

FULLY_CONNECTED = ("fully_connected_mve_1", "fully_connected_null_bias_0", "fully_connected_w_zp",
                   "fc_per_ch")
BATCH_MATMUL = tuple(f"batch_matmul_{number}_s8" for number in range(1, 6))
CMSIS_NN = FULLY_CONNECTED + BATCH_MATMUL
FULLY_CONNECTED_INT4 = tuple(f"fully_connected_int4_{number}" for number in (2, 3, 5))
CONVOLUTION_INT4 = (
    "basic_int4", "conv_1_x_n_1_int4", "conv_1_x_n_5_int4", "conv_2x2_dilation_5x5_input_int4",
    "conv_2x2_dilation_int4", "conv_3x2_dilation_int4", "conv_3x3_dilation_5x5_input_int4",
    "conv_dilation_golden_int4", "conv_out_activation_int4", "kernel1x1_int4_3",
    "kernel1x1_stride_x_int4", "kernel1x1_stride_x_y_1_int4", "kernel1x1_stride_x_y_2_int4",
    "kernel1x1_stride_x_y_int4")
DEPTHWISE_INT4 = ("depthwise_int4_4", *(f"depthwise_int4_generic_{number}" for number in (4, 5, 6)))
CMSIS_NN_INT4 = FULLY_CONNECTED_INT4 + CONVOLUTION_INT4 + DEPTHWISE_INT4
CMSIS_NN_VECTOR = (
    "add", "add_s16_spill", "mul", "mul_s16", "softmax", "maximum_broadcast_ch_int8",
    "maximum_broadcast_height_int8", "maximum_no_broadcast_int8", "minimum_broadcast_ch_int8",
    "minimum_broadcast_width_int8", "minimum_scalar_2_int8", "maxpooling", "maxpooling_2",
    "maxpooling_4", "maxpooling_5", "maxpool_int16", "maxpool_int16_1", "avgpooling_int16_3")

MATMUL_INTEGER = ("test_matmulinteger",)
QLINEAR_MATMUL = tuple(f"test_qlinearmatmul_{rank}_{dtype}_{scale}" for rank in ("2D", "3D")
                       for dtype in ("uint8", "int8") for scale in ("float16", "float32"))
ONNX = MATMUL_INTEGER + QLINEAR_MATMUL


@dataclass(frozen=True)
class Case:
    """A product with its expected result; ``tolerance`` is the largest difference."""
    name: str
    tolerance: int
    run: Callable[[Device], tuple[np.ndarray, np.ndarray]]


def models_path() -> Path:
    """Where models and vectors lie; need not exist."""
    return Path(os.environ.get("SYSTOLITH_MODELS", ROOT.parent / "shared" / "models"))


def stored(*parts: str) -> Path:
    """Path of a file among the models and data; skips the test where it is not there."""
    path = models_path().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.name} is not in {models_path().name}")
    return path


def cmsis_nn(name: str) -> Case:
    """The CMSIS-NN case called ``name``; must be equal bit for bit, a softmax within a unit.

    Raises
    ------
    FileNotFoundError
        The vectors are not there.
    """
    with np.load(models_path() / "cmsis_nn" / f"{name}.npz") as data:
        arrays = {key: data[key] for key in data.files}
    config = json.loads(str(arrays.pop("config")))
    config["average"] = name.startswith("avg")
    if name in FULLY_CONNECTED:
        return Case(name, 0, _fully_connected(config, arrays))
    if name in FULLY_CONNECTED_INT4:
        shape = config["OUT_CH"], config["ACCUMULATION_DEPTH"]
        arrays |= {"weights": _nibbles(arrays["input_weights"], *shape),
                   "bias": arrays["input_bias"]}
        return Case(name, 0, _fully_connected(config, arrays, weight_format="int4"))
    if name in CONVOLUTION_INT4 + DEPTHWISE_INT4:
        return Case(name, 0, _convolution_int4(config, arrays))
    if name in BATCH_MATMUL:
        return Case(name, 0, _batch_matmul(config, arrays))
    build = next(build for prefix, build in (
        ("add", _addition), ("mul", _product), ("softmax", _softmax), ("max", _pooling),
        ("avg", _pooling)) if name.startswith(prefix)) if "LAYER_TYPE" not in config else _extreme
    return Case(name, int(build is _softmax), build(config, arrays))


def _vector(operation: operations.Operation, inputs: list[np.ndarray],
            expected: np.ndarray) -> Callable:
    def run(device: Device) -> tuple[np.ndarray, np.ndarray]:
        image = compile_vector(operation, *(x.shape for x in inputs), config=device.config)
        return image.run(device, *inputs)[0], expected
    return run


def _pair(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[list, dict]:
    """Inputs, and what the constructors of sums and products share."""
    inputs = [arrays["input1"], arrays["input2"]]
    return inputs, {
        "offsets": (config["INPUT1_OFFSET"], config["INPUT2_OFFSET"]),
        "out_zero_point": config["OUTPUT_OFFSET"], "dtype": inputs[0].dtype.name,
        "clamp": (config["OUT_ACTIVATION_MIN"], config["OUT_ACTIVATION_MAX"])}


def _addition(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    inputs, common = _pair(config, arrays)
    operation = operations.exact_addition(
        left_shift=config["LEFT_SHIFT"],
        multipliers=((config["INPUT1_MULT"], config["INPUT1_SHIFT"]),
                     (config["INPUT2_MULT"], config["INPUT2_SHIFT"])),
        out_multiplier=(config["OUTPUT_MULT"], config["OUTPUT_SHIFT"]), **common)
    return _vector(operation, inputs, arrays["output_ref"])


def _product(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    inputs, common = _pair(config, arrays)
    operation = operations.product(
        multiplier=(config["OUTPUT_MULT"], config["OUTPUT_SHIFT"]), **common)
    return _vector(operation, inputs, arrays["output_ref"])


def _softmax(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    shape = config["NUM_ROWS"], config["ROW_SIZE"]
    # The multiplier is that of numbers with 26 bits of fraction.
    scale = config["INPUT_MULT"] * 2.0 ** (config["INPUT_LEFT_SHIFT"] - 31 - 26)
    return _vector(operations.softmax(scale=scale), [arrays["input"].reshape(shape)],
                   arrays["output_ref"].reshape(shape))


def _extreme(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    inputs = [arrays[f"input_tensor_{side}"].reshape(
        [config[f"{axis}_{side}"] for axis in ("BATCH", "HEIGHT", "WIDTH", "CHANNEL")])
        for side in (1, 2)]
    build = {"maximum": operations.maximum, "minimum": operations.minimum}[config["LAYER_TYPE"]]
    expected = arrays["output"].reshape(np.broadcast_shapes(*(x.shape for x in inputs)))
    return _vector(build(dtype=inputs[0].dtype.name), inputs, expected)


def _pooling(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    x, expected = arrays["input_tensor"], arrays["output"]
    shape = [config[key] for key in ("BATCH_SIZE", "INPUT_H", "INPUT_W", "INPUT_C")]
    outputs = config["OUTPUT_H"], config["OUTPUT_W"]
    pooling = Pooling(
        average=config["average"], window=(config["FILTER_H"], config["FILTER_W"]),
        stride=(config["STRIDE_H"], config["STRIDE_W"]), outputs=outputs,
        padding=(config["PADDING_H"], config["PADDING_W"]), dtype=x.dtype.name,
        clamp=(config["ACTIVATION_MIN"], config["ACTIVATION_MAX"]))

    def run(device: Device) -> tuple[np.ndarray, np.ndarray]:
        image = compile_pooling(pooling, shape, config=device.config)
        return (image.run(device, x.reshape(shape))[0],
                expected.reshape(shape[0], *outputs, shape[3]))
    return run


def _fully_connected(config: dict[str, Any], arrays: dict[str, np.ndarray],
                     weight_format: str = "int8") -> Callable:
    depth, channels = config["ACCUMULATION_DEPTH"], config["OUT_CH"]
    expected = arrays.get("output_ref", arrays.get("output"))
    bias = arrays.get("biases", arrays.get("bias"))
    multiplier = arrays.get("output_multiplier", config.get("OUTPUT_MULTIPLIER"))
    shift = arrays.get("output_shift", config.get("OUTPUT_SHIFT"))

    def run(device: Device) -> tuple[np.ndarray, np.ndarray]:
        result = gemm(
            arrays["input"].reshape(-1, depth), arrays["weights"].reshape(channels, depth).T,
            bias, device=device, multiplier=multiplier, shift=shift,
            a_zero_point=-config["INPUT_OFFSET"], b_zero_point=-config.get("FILTER_OFFSET", 0),
            zero_point=config["OUTPUT_OFFSET"],
            clamp=(config["OUT_ACTIVATION_MIN"], config["OUT_ACTIVATION_MAX"]),
            weight_format=weight_format)
        return result, expected.reshape(-1, channels)
    return run


def _nibbles(packed: np.ndarray, *shape: int) -> np.ndarray:
    """int4 numbers, the low nibble of a byte first."""
    codes = np.stack([packed & 15, packed >> 4 & 15], axis=-1).reshape(-1)
    values = np.where(codes > 7, codes - 16, codes).astype(np.int8)
    return values[:np.prod(shape)].reshape(shape)


def _convolution_int4(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    """As one product: every window of the input is a row of activations."""
    size = {key: config[key] for key in (
        "IN_CH", "OUT_CH", "INPUT_H", "INPUT_W", "FILTER_Y", "FILTER_X", "OUTPUT_H", "OUTPUT_W")}
    channels, taps = size["IN_CH"], (size["FILTER_Y"], size["FILTER_X"])
    if "weights" in arrays:     # depthwise: a matrix with zeros for all other channels
        taps_weights = _nibbles(arrays["weights"], *taps, size["OUT_CH"])
        weights = np.zeros((*taps, channels, size["OUT_CH"]), np.int8)
        for channel in range(size["OUT_CH"]):
            weights[:, :, channel // config["CH_MULT"], channel] = taps_weights[:, :, channel]
    else:
        weights = _nibbles(arrays["input_weights"], size["OUT_CH"], *taps, channels).transpose(
            1, 2, 3, 0)
    zero = -config["INPUT_OFFSET"]
    x = arrays["input"].reshape(-1, size["INPUT_H"], size["INPUT_W"], channels)
    windows = np.full((len(x), size["OUTPUT_H"], size["OUTPUT_W"], *taps, channels), zero, np.int8)
    for place in np.ndindex(windows.shape[1:5]):
        y = place[0] * config["STRIDE_Y"] + place[2] * config["DILATION_Y"] - config["PAD_Y"]
        column = place[1] * config["STRIDE_X"] + place[3] * config["DILATION_X"] - config["PAD_X"]
        if 0 <= y < size["INPUT_H"] and 0 <= column < size["INPUT_W"]:
            windows[:, *place] = x[:, y, column]
    bias = arrays.get("biases", arrays.get("input_bias"))
    multiplier, shift = (arrays.get(f"output_{name}", arrays.get(f"output_{short}"))
                         for name, short in (("multiplier", "mult"), ("shift", "shift")))
    expected = arrays.get("output_ref", arrays.get("output")).reshape(-1, size["OUT_CH"])

    def run(device: Device) -> tuple[np.ndarray, np.ndarray]:
        result = gemm(
            windows.reshape(len(expected), -1), weights.reshape(-1, size["OUT_CH"]), bias,
            device=device, multiplier=multiplier, shift=shift, a_zero_point=zero,
            zero_point=config["OUTPUT_OFFSET"], weight_format="int4",
            clamp=(config["OUT_ACTIVATION_MIN"], config["OUT_ACTIVATION_MAX"]))
        return result, expected
    return run


def _batch_matmul(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable:
    sides = []
    for side, adjoint in (("LHS", "ADJ_X"), ("RHS", "ADJ_Y")):
        shape = [config[f"{side}_{axis}"] for axis in ("BATCH", "HEIGHT", "ROWS", "COLS")]
        operand = arrays[f"{side.lower()}_input_tensor"].reshape(shape)
        sides.append(operand.swapaxes(2, 3) if config[adjoint] else operand)
    shape = [config[f"OUTPUT_{axis}"] for axis in ("BATCH", "HEIGHT", "ROWS", "COLS")]
    lhs, rhs = (np.broadcast_to(side, (*shape[:2], *side.shape[2:])) for side in sides)

    def run(device: Device) -> tuple[np.ndarray, np.ndarray]:
        result = np.empty(shape, np.int8)
        for batch in np.ndindex(*shape[:2]):
            result[batch] = gemm(
                lhs[batch], rhs[batch], device=device, multiplier=config["OUTPUT_MULTIPLIER"],
                shift=config["OUTPUT_SHIFT"], a_zero_point=-config["LHS_OFFSET"],
                b_zero_point=-config["RHS_OFFSET"], zero_point=config["OUTPUT_OFFSET"],
                clamp=(config["ACTIVATION_MIN"], config["ACTIVATION_MAX"]))
        return result, arrays["output"].reshape(shape)
    return run


def onnx_case(name: str) -> Case:
    """The ONNX node test called ``name``, computed by the core's own products.

    MatMulInteger must be equal. QLinearMatMul rounds once, half to even, in floating point and the
    core twice in integers, so that one step of difference is allowed; these cases have none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_node_model_tests
        case = next(case for case in load_node_model_tests() if case.name == name)
    inputs, (expected,) = case.data_sets[0]
    run = _matmul_integer if name in MATMUL_INTEGER else _qlinear_matmul
    return Case(name, 0, lambda device: (run(device, *inputs), expected))


def _matmul_integer(device: Device, a: np.ndarray, b: np.ndarray, a_zero: np.ndarray,
                    b_zero: np.ndarray) -> np.ndarray:
    return gemm(a, b, device=device, a_zero_point=a_zero.item(), b_zero_point=b_zero.item())


def _qlinear_matmul(device: Device, a: np.ndarray, a_scale: np.ndarray, a_zero: np.ndarray,
                    b: np.ndarray, b_scale: np.ndarray, b_zero: np.ndarray, y_scale: np.ndarray,
                    y_zero: np.ndarray) -> np.ndarray:
    scale = float(a_scale.item()) * float(b_scale.item()) / float(y_scale.item())
    multiplier, shift = quantise_multiplier(scale)
    offset = 128 if y_zero.dtype == np.uint8 else 0   # int8 results, shifted back afterwards
    batches = a.shape[:-2]
    result = np.empty((*batches, a.shape[-2], b.shape[-1]), y_zero.dtype)
    for batch in np.ndindex(*batches):
        y = gemm(a[batch], b[batch], device=device, multiplier=multiplier, shift=shift,
                 a_zero_point=a_zero.item(), b_zero_point=b_zero.item(),
                 zero_point=y_zero.item() - offset)
        result[batch] = (y.astype(np.int16) + offset).astype(y_zero.dtype)
    return result
