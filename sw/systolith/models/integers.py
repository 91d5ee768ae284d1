"""Operators on int8, and conversions; each takes the graph, its node and its inputs.

As TFLite's reference kernels do them (tensorflow/lite/kernels/internal/reference/integer_ops and
softmax.h); or, where a node's rounding is "even", as ONNX's Dequantize-, operator, QuantizeLinear,
with the exact sums of QLinearConv and QLinearMatMul.
"""

import math

import numpy as np
from systolith_hw.formats import RANGES

from ..model.arithmetic import requantise
from ..quantise import quantise_multiplier
from . import fixed, floats
from .graph import ACTIVATIONS, Graph, Node, Tensor
from .windows import EXACT_FLOAT32, convolve, spread_windows_of, windows_of

__all__ = ["add", "average_pool", "clip", "concat", "conv", "convert", "even", "linear", "max_pool",
           "maximum", "minimum", "mul", "pad", "requantised", "softmax", "sub",
           "transposed_conv", "unary"]

ADD_BITS = 20   # that addends are shifted left by
INT8 = (-128, 127)


def limits(activation: str, made: Tensor, rounding: str = "twice") -> tuple[int, int]:
    """Least and greatest int8 result of an activation."""
    low, high = ACTIVATIONS[activation]

    def of(real: float) -> int:
        steps = float(np.float32(real) / np.float32(made.scale))
        return made.zero_point + (round(steps) if rounding == "even" else fixed.rounded(steps))

    return (-128 if low is None else max(-128, of(low)),
            127 if high is None else min(127, of(high)))


def _check(node: Node, *tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.dtype != "int8" or tensor.quantisation is None or tensor.quantisation.axis:
            raise ValueError(f"node {node.name!r}: {tensor.name!r} must be int8 with one scale, "
                             f"not {tensor}")


def _sums(graph: Graph, node: Node, sums: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """int8 results of exact sums of products, whose last dimension is that of the outputs."""
    x, weights, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
    q = weights.quantisation
    assert q is not None
    whole = sums.astype(np.int64) if bias is None else sums.astype(np.int64) + bias
    if node["rounding"] == "even":
        scale = np.float32(x.scale) * q.scale / np.float32(made.scale)
        found = np.rint(whole.astype(np.int32) * scale.astype(np.float64)) + made.zero_point
        return np.clip(found, *limits(node["activation"], made, "even")).astype(np.int8)
    if node.op == "linear" and len(q.scale) == 1:   # that kernel multiplies as float32
        scale = np.float64(np.float32(x.scale) * q.scale) / made.scale
    else:
        scale = x.scale * q.scale.astype(np.float64) / made.scale
    multiplier, shift = quantise_multiplier(scale)
    clamp = limits(node["activation"], made)
    if node["rounding"] == "once":
        found = fixed.scaled_once(whole, multiplier, shift) + made.zero_point
        return np.clip(found, *clamp).astype(np.int8)
    return requantise(whole.astype(np.int32), multiplier, shift, zero_point=made.zero_point,
                      clamp=clamp)


def _weights(graph: Graph, node: Node, weights: np.ndarray) -> np.ndarray:
    tensor = graph.of(node, 1)
    if tensor.dtype not in RANGES or tensor.quantisation is None:
        raise ValueError(f"node {node.name!r}: weights must be {', '.join(RANGES)} with scales, "
                         f"not {tensor}")
    zero = tensor.quantisation.zero_point
    return weights.astype(np.int16) - zero.reshape(-1, *[1] * (weights.ndim - 1)).astype(np.int16)


def _exact(weights: np.ndarray) -> type[np.floating]:
    """What holds sums of its products with int8 numbers less their zero point."""
    most = np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(1).max() * 255
    return np.float32 if most <= EXACT_FLOAT32 else np.float64


def even(graph: Graph, node: Node, *found):
    """The int8 nearest to what the operator makes of the real numbers, halves to even."""
    tensors = [graph.of(node, number) for number in range(len(found))]
    _check(node, graph.output(node))
    for tensor in tensors:
        if tensor.quantisation is None:
            raise ValueError(f"node {node.name!r}: {tensor.name!r} must have a scale, not {tensor}")
    real = map(floats.real, found, tensors)
    return floats.quantised(getattr(floats, node.op)(graph, node, *real), graph.output(node),
                            "even")


def conv(graph: Graph, node: Node, x, weights, bias=None):
    """Sums of products under a window, and a bias."""
    tensor = graph.of(node, 0)
    _check(node, tensor, graph.output(node))
    weights = _weights(graph, node, weights)
    centred = x.astype(np.int16) - np.int16(tensor.zero_point)
    windows = windows_of(centred, weights.shape[1:3], node["stride"], node["dilation"],
                         node["pads"], 0)
    return _sums(graph, node, convolve(windows, weights, node["groups"], _exact(weights)), bias)


def transposed_conv(graph: Graph, node: Node, x, weights, bias=None):
    """Sums of what each number adds under its kernel, and a bias."""
    tensor = graph.of(node, 0)
    _check(node, tensor, graph.output(node))
    weights = _weights(graph, node, weights)[:, ::-1, ::-1]
    centred = x.astype(np.int16) - np.int16(tensor.zero_point)
    windows = spread_windows_of(centred, weights.shape[1:3], node["stride"], node["dilation"],
                                node["pads"])
    return _sums(graph, node, convolve(windows, weights, node["groups"], _exact(weights)), bias)


def linear(graph: Graph, node: Node, x, weights, bias=None):
    """Products with a matrix of weights, and a bias."""
    tensor = graph.of(node, 0)
    _check(node, tensor, graph.output(node))
    weights = _weights(graph, node, weights)
    kind = _exact(weights)
    centred = x.astype(kind) - kind(tensor.zero_point)
    return _sums(graph, node, centred @ weights.T.astype(kind), bias)


def _addend(x: np.ndarray, tensor: Tensor, twice: float) -> np.ndarray:
    multiplier, shift = quantise_multiplier(tensor.scale / twice)
    shifted = (x.astype(np.int64) - tensor.zero_point) << ADD_BITS
    return requantise(shifted, multiplier, shift, dtype=np.int32).astype(np.int64)


def _sum(graph: Graph, node: Node, a, b, sign: int):
    first, second, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
    _check(node, first, second, made)
    twice = 2.0 * max(first.scale, second.scale)
    whole = _addend(a, first, twice) + sign * _addend(b, second, twice)
    multiplier, shift = quantise_multiplier(twice / ((1 << ADD_BITS) * made.scale))
    return requantise(whole, multiplier, shift, zero_point=made.zero_point,
                      clamp=limits(node["activation"], made))


def add(graph: Graph, node: Node, a, b):
    """Sums, with broadcasting."""
    return _sum(graph, node, a, b, 1)


def sub(graph: Graph, node: Node, a, b):
    """Differences, with broadcasting."""
    return _sum(graph, node, a, b, -1)


def mul(graph: Graph, node: Node, a, b):
    """Products, with broadcasting."""
    first, second, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
    _check(node, first, second, made)
    product = ((a.astype(np.int32) - first.zero_point)
               * (b.astype(np.int32) - second.zero_point))
    scale = (np.float32(first.scale) * np.float32(second.scale)) / np.float32(made.scale)
    multiplier, shift = quantise_multiplier(float(scale))
    return requantise(product, multiplier, shift, zero_point=made.zero_point,
                      clamp=limits(node["activation"], made))


def _extreme(graph: Graph, node: Node, a, b):
    first, second, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
    _check(node, first, second, made)
    if len({(tensor.scale, tensor.zero_point) for tensor in (first, second, made)}) > 1:
        raise ValueError(f"node {node.name!r}: inputs must have the scale and zero point of the "
                         f"output, {made}, not those of {first} and {second}")
    return getattr(np, node.op)(a, b)


def maximum(graph: Graph, node: Node, a, b):
    """The greater, with broadcasting."""
    return _extreme(graph, node, a, b)


def minimum(graph: Graph, node: Node, a, b):
    """The smaller, with broadcasting."""
    return _extreme(graph, node, a, b)


def average_pool(graph: Graph, node: Node, x):
    """Means under a window, of what is not padded, halves away from 0."""
    made = graph.output(node)
    _check(node, graph.of(node, 0), made)
    arguments = (node["kernel"], node["stride"], (1, 1), node["pads"], 0)
    count = windows_of(np.ones((1, *x.shape[1:3], 1), np.int32), *arguments).sum((4, 5))
    total = windows_of(x.astype(np.int32), *arguments).sum((4, 5))
    means = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return np.clip(means, *limits(node["activation"], made)).astype(np.int8)


def max_pool(graph: Graph, node: Node, x):
    """Greatest under a window."""
    made = graph.output(node)
    _check(node, graph.of(node, 0), made)
    found = windows_of(x, node["kernel"], node["stride"], (1, 1), node["pads"], -128).max((4, 5))
    return np.clip(found, *limits(node["activation"], made)).astype(np.int8)


def softmax(graph: Graph, node: Node, x):
    """Shares of powers of e, along the last dimension, in steps of 1/256."""
    tensor, made = graph.of(node, 0), graph.output(node)
    _check(node, tensor, made)
    if (made.scale, made.zero_point) != (1 / 256, -128):
        raise ValueError(f"node {node.name!r}: softmax must have the scale 1/256 and the zero "
                         f"point -128, not {made}")
    return fixed.softmax(x, node["beta"] * tensor.scale)


def requantised(x: np.ndarray, source: Tensor, made: Tensor) -> np.ndarray:
    """The same real numbers with another scale and zero point."""
    if (source.scale, source.zero_point) == (made.scale, made.zero_point):
        return x.astype(made.dtype)
    multiplier, shift = quantise_multiplier(source.scale / made.scale)
    found = requantise(x.astype(np.int32) - source.zero_point, multiplier, shift, dtype=np.int32)
    bounds = np.iinfo(made.dtype)
    return np.clip(found.astype(np.int64) + made.zero_point, bounds.min, bounds.max).astype(
        made.dtype)


def convert(graph: Graph, node: Node, x):
    """The real numbers of a tensor, and the other way round."""
    source, made = graph.of(node, 0), graph.output(node)
    if source.quantisation is not None and made.quantisation is not None and (
            node["rounding"] != "even" or source.scale == made.scale):
        return requantised(x, source, made)
    value = floats.real(x, source)
    if made.quantisation is None:
        return value.astype(made.dtype)
    return floats.quantised(value, made, node["rounding"])


def concat(graph: Graph, node: Node, *parts):
    """Inputs one behind the other, each with the scale of the output."""
    made = graph.output(node)
    tensors = [graph.of(node, number) for number in range(len(parts))]
    _check(node, *tensors, made)
    same = [requantised(part, tensor, made) for part, tensor in zip(parts, tensors, strict=True)]
    return np.clip(np.concatenate(same, node["axis"]), *limits(node["activation"], made))


def pad(graph: Graph, node: Node, x):
    """The number that stands for 0 around it."""
    return np.pad(x, node["pads"], constant_values=graph.output(node).zero_point)


def clip(graph: Graph, node: Node, x):
    """At least ``low`` and at most ``high``."""
    return even(graph, node, x)


def unary(graph: Graph, node: Node, x):
    """A function of each element, by table where it is no clamp."""
    tensor, made = graph.of(node, 0), graph.output(node)
    _check(node, tensor, made)
    function = node["function"]
    if function in ACTIVATIONS:
        return np.clip(requantised(x, tensor, made), *limits(function, made))
    real = np.float32(tensor.scale) * (np.arange(-128, 128) - tensor.zero_point).astype(np.float32)
    value = {"logistic": lambda v: 1 / (1 + math.exp(-v)), "tanh": math.tanh}[function]
    table = np.array([fixed.rounded(value(v) / made.scale) + made.zero_point for v in real])
    return np.clip(table, *INT8).astype(np.int8)[x.astype(np.int16) + 128]
