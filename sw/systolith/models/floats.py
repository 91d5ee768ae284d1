"""Operators on float32; each takes the graph, its node and its inputs."""

import numpy as np
from systolith_hw.formats import RANGES

from .graph import ACTIVATIONS, Graph, Node, Tensor
from .windows import convolve, spread_windows_of, windows_of

__all__ = ["add", "average_pool", "clip", "concat", "conv", "linear", "max_pool", "maximum",
           "minimum", "mul", "pad", "quantised", "real", "softmax", "sub", "transposed_conv",
           "unary"]

STORED = {**dict.fromkeys(RANGES, "int8"),
          **{name: name for name in ("uint8", "int16", "uint16", "int32")}}
LIMITS = {name: RANGES.get(name) or (np.iinfo(name).min, np.iinfo(name).max) for name in STORED}

FUNCTIONS = {"logistic": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}


def _ends(node: Node, values: np.ndarray) -> np.ndarray:
    low, high = ACTIVATIONS[node["activation"]]
    return values if low is None else np.clip(values, low, high)


def conv(graph: Graph, node: Node, x, weights, bias=0.0):
    """Sums of products under a window, and a bias."""
    windows = windows_of(x, weights.shape[1:3], node["stride"], node["dilation"], node["pads"], 0)
    return _ends(node, convolve(windows, weights, node["groups"], np.float32) + bias)


def transposed_conv(graph: Graph, node: Node, x, weights, bias=0.0):
    """Sums of what each number adds under its kernel, and a bias."""
    windows = spread_windows_of(x, weights.shape[1:3], node["stride"], node["dilation"],
                                node["pads"])
    return _ends(node, convolve(windows, weights[:, ::-1, ::-1], node["groups"], np.float32) + bias)


def linear(graph: Graph, node: Node, x, weights, bias=0.0):
    """Products with a matrix of weights, and a bias."""
    return _ends(node, x @ weights.T + bias)


def add(graph: Graph, node: Node, a, b):
    """Sums, with broadcasting."""
    return _ends(node, a + b)


def sub(graph: Graph, node: Node, a, b):
    """Differences, with broadcasting."""
    return _ends(node, a - b)


def mul(graph: Graph, node: Node, a, b):
    """Products, with broadcasting."""
    return _ends(node, a * b)


def maximum(graph: Graph, node: Node, a, b):
    """The greater, with broadcasting."""
    return np.maximum(a, b)


def minimum(graph: Graph, node: Node, a, b):
    """The smaller, with broadcasting."""
    return np.minimum(a, b)


def average_pool(graph: Graph, node: Node, x):
    """Means under a window, of what is not padded."""
    arguments = (node["kernel"], node["stride"], (1, 1), node["pads"], 0)
    count = windows_of(np.ones((1, *x.shape[1:3], 1), x.dtype), *arguments).sum((4, 5))
    return _ends(node, windows_of(x, *arguments).sum((4, 5)) / count)


def max_pool(graph: Graph, node: Node, x):
    """Greatest under a window."""
    return _ends(node, windows_of(x, node["kernel"], node["stride"], (1, 1), node["pads"],
                                  -np.inf).max((4, 5)))


def softmax(graph: Graph, node: Node, x):
    """Shares of powers of e, along the last dimension."""
    powers = np.exp(node["beta"] * (x - x.max(-1, keepdims=True)))
    return (powers / powers.sum(-1, keepdims=True)).astype(x.dtype)


def concat(graph: Graph, node: Node, *parts):
    """Inputs one behind the other."""
    return _ends(node, np.concatenate(parts, node["axis"]))


def pad(graph: Graph, node: Node, x):
    """Zeros around it."""
    return np.pad(x, node["pads"])


def unary(graph: Graph, node: Node, x):
    """A function of each element."""
    function = node["function"]
    if function in ACTIVATIONS:
        return np.clip(x, *ACTIVATIONS[function])
    return FUNCTIONS[function](x).astype(x.dtype)


def clip(graph: Graph, node: Node, x):
    """At least ``low`` and at most ``high``."""
    return np.clip(x, node["low"], node["high"])


def quantised(value: np.ndarray, made: Tensor, rounding: str) -> np.ndarray:
    """The nearest elements of a quantised tensor; halves to even, or else away from 0."""
    q = made.quantisation
    assert q is not None
    shape = _along(q.axis, value.ndim)
    scaled = value / q.scale.reshape(shape)
    whole = (np.rint(scaled) if rounding == "even"
             else np.trunc(scaled + np.copysign(np.float32(0.5), scaled)))
    least, most = LIMITS[made.dtype]
    return np.clip(whole + q.zero_point.reshape(shape), least, most).astype(STORED[made.dtype])


def _along(axis: int | None, rank: int) -> list[int]:
    """Shape with which numbers of each index along ``axis`` meet an array."""
    return [-1 if axis == dimension else 1 for dimension in range(rank)]


def real(x: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Numbers that the elements of a tensor stand for; float32 of a quantised one."""
    q = tensor.quantisation
    if q is None:
        return x
    shape = _along(q.axis, x.ndim)
    return ((x.astype(np.int64) - q.zero_point.reshape(shape)).astype(np.float32)
            * q.scale.reshape(shape))
