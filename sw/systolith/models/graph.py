"""A model as a graph of operators on tensors: what front ends make and the compiler takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from .infer import shape_of

__all__ = ["ACTIVATIONS", "BITS", "EXTREMES", "MOST_DIMENSIONS", "MOST_OPERATORS", "OPERATORS",
           "PAIRS", "PRODUCTS", "ROUNDINGS", "Graph", "Node", "Operator", "Quantisation", "Tensor"]

# Bits of an element.
BITS = {"float32": 32, "float16": 16, "float64": 64, "bool": 8, "int4": 4, "ternary": 2,
        **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)}}
# Real limits of the activations that other operators end with.
ACTIVATIONS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None), "relu": (0.0, None), "relu6": (0.0, 6.0), "relu1": (-1.0, 1.0)}
# How integers come of exact results: as TFLite's kernels with 31-bit multipliers, whose products
# are rounded twice or once, halves as they have it; or as ONNX, the nearest of the real number,
# halves to even.
ROUNDINGS = ("twice", "once", "even")
# Operators of weights, which add up products.
PRODUCTS = ("conv", "transposed_conv", "linear")
# Operators of two tensors, element by element.
EXTREMES = ("maximum", "minimum")
PAIRS = ("add", "sub", "mul", *EXTREMES)
MOST_ELEMENTS = 1 << 31
MOST_DIMENSIONS = 8
MOST_OPERATORS = 100_000     # of a file


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What a kind of node takes: inputs at least and at most (None: any), and its attributes."""
    least: int
    most: int | None
    attributes: tuple[str, ...] = ()


_ENDS = ("activation", "rounding")
_WINDOW = ("stride", "pads", "activation")
# Images are (batch, height, width, channels). Attributes: ``stride`` and ``dilation`` (y, x),
# ``kernel`` (y, x), ``pads`` ((top, bottom), (left, right)), or one pair for each dimension of
# ``pad``; ``groups``; ``axis``, ``axes``, ``order`` count dimensions from 0; ``activation`` is one
# of ``ACTIVATIONS``, ``rounding`` of ``ROUNDINGS``.
OPERATORS: Mapping[str, Operator] = {
    # x, weights (outputs, height, width, inputs / groups), bias
    "conv": Operator(least=2, most=3, attributes=(*_WINDOW, "rounding", "dilation", "groups")),
    # The same operands. Each number of x, at ``stride`` times its place, adds the kernel times
    # itself; ``pads`` are rows and columns of that which are left out, or where they are below 0
    # added behind it.
    "transposed_conv": Operator(
        least=2, most=3, attributes=(*_WINDOW, "rounding", "dilation", "groups")),
    # x (..., K), weights (N, K), bias (N)
    "linear": Operator(least=2, most=3, attributes=_ENDS),
    "add": Operator(least=2, most=2, attributes=_ENDS),
    "sub": Operator(least=2, most=2, attributes=_ENDS),
    "mul": Operator(least=2, most=2, attributes=_ENDS),
    # The greater and the smaller; integers have the scale of both inputs.
    "maximum": Operator(least=2, most=2),
    "minimum": Operator(least=2, most=2),
    # Averages do not count what is padded.
    "average_pool": Operator(least=1, most=1, attributes=(*_WINDOW, "rounding", "kernel")),
    "max_pool": Operator(least=1, most=1, attributes=(*_WINDOW, "kernel")),
    # Along the last dimension, of ``beta`` times x.
    "softmax": Operator(least=1, most=1, attributes=("beta", "rounding")),
    "reshape": Operator(least=1, most=1, attributes=("shape",)),
    "transpose": Operator(least=1, most=1, attributes=("order",)),
    "concat": Operator(least=1, most=None, attributes=("axis", *_ENDS)),
    "pad": Operator(least=1, most=1, attributes=("pads",)),
    # A ``function`` of each element: relu, relu6, relu1, logistic, tanh.
    "unary": Operator(least=1, most=1, attributes=("function", "rounding")),
    # The nearest real number from ``low`` to ``high``; None is no limit.
    "clip": Operator(least=1, most=1, attributes=("low", "high", "rounding")),
    # To the output's type and quantisation.
    "convert": Operator(least=1, most=1, attributes=("rounding",)),
}


@dataclass(frozen=True, eq=False)
class Quantisation:
    """Real numbers are ``(element - zero_point) * scale``.

    Parameters
    ----------
    scale : float32 array, (n,)
        One, or one for each index along ``axis``.
    zero_point : int64 array, (n,)
    axis : int or None
    """
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None

    def in_order(self, order: Sequence[int]) -> "Quantisation":
        """That of a tensor whose dimensions are put in ``order``."""
        return self if self.axis is None else replace(self, axis=order.index(self.axis))

    def behind(self, count: int) -> "Quantisation":
        """That of a tensor which gets ``count`` dimensions before its own, or loses as many."""
        return self if self.axis is None else replace(self, axis=self.axis + count)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tensor:
    """What flows along an edge, or a constant.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : str
        One of ``BITS``.
    quantisation : Quantisation or None
    data : array or None
        Of a constant.
    """
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantisation: Quantisation | None = None
    data: np.ndarray | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of its elements, one after the other."""
        return -(-self.elements * BITS[self.dtype] // 8)

    @property
    def scale(self) -> float:
        """Scale of the whole tensor."""
        assert self.quantisation is not None
        return float(self.quantisation.scale[0])

    @property
    def zero_point(self) -> int:
        """Zero point of the whole tensor."""
        assert self.quantisation is not None
        return int(self.quantisation.zero_point[0])

    def __str__(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.shape))}]"
        if self.quantisation is not None:
            if len(self.quantisation.scale) == 1:
                return f"{text} scale {self.scale:.6g} zero {self.zero_point}"
            return f"{text} scales of axis {self.quantisation.axis}"
        return text


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operator.

    Parameters
    ----------
    name : str
        Says where in the model it is; unique.
    op : str
        One of ``OPERATORS``.
    inputs : tuple of str
        Names of tensors.
    output : str
        Name of a tensor.
    attributes : mapping
        As ``OPERATORS`` lists them.
    """
    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes[attribute]


@dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """Nodes in an order in which they can be done.

    Printed, it has a line for each input, node and output.

    Parameters
    ----------
    name : str
    tensors : mapping of str to Tensor
    nodes : sequence of Node
    inputs, outputs : sequence of str
        Tensors that come in and go out.

    Raises
    ------
    ValueError
        It is no graph of these operators; names the node.
    """
    name: str
    tensors: Mapping[str, Tensor]
    nodes: Sequence[Node]
    inputs: Sequence[str]
    outputs: Sequence[str]

    def __post_init__(self):
        for tensor in self.tensors.values():
            _check_tensor(tensor)
        known = {name for name, tensor in self.tensors.items() if tensor.data is not None}
        for name in self.inputs:
            if name not in self.tensors:
                raise ValueError(f"input {name!r} must be a tensor of the model")
            known.add(name)
        names: set[str] = set()
        for node in self.nodes:
            if node.name in names:
                raise ValueError(f"names of nodes must differ, not be {node.name!r} twice")
            names.add(node.name)
            _check_node(node, known, self.tensors)
            known.add(node.output)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"output {name!r} must be made by a node")

    def __str__(self) -> str:
        makers = {node.output: node.name for node in self.nodes}

        def called(name: str) -> str:
            tensor = self.tensors[name]
            return makers.get(name, name) if tensor.data is None else str(tensor)

        width = max((len(node.name) for node in self.nodes), default=0)
        lines = [f"input  {name}: {self.tensors[name]}" for name in self.inputs]
        for node in self.nodes:
            said = "".join(f" {name}={value}" for name, value in node.attributes.items()
                           if value not in ("none", "twice"))
            lines.append(f"{node.name:{width}} = {node.op}({', '.join(map(called, node.inputs))})"
                         f"{said} -> {self.tensors[node.output]}")
        return "\n".join([*lines, *(f"output {called(name)}" for name in self.outputs)])

    def of(self, node: Node, number: int) -> Tensor:
        """Input ``number`` of a node."""
        return self.tensors[node.inputs[number]]

    def output(self, node: Node) -> Tensor:
        """What a node makes."""
        return self.tensors[node.output]

    def macs(self, node: Node) -> int:
        """Multiplications that a node adds up, for one run of the model."""
        if node.op not in PRODUCTS:
            return 0
        weights = self.of(node, 1)
        if node.op == "transposed_conv":
            x = self.of(node, 0)
            return x.elements * (weights.elements // x.shape[3])
        return self.output(node).elements * (weights.elements // weights.shape[0])

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constants that nodes take."""
        used = {name for node in self.nodes for name in node.inputs}
        return sum(tensor.bytes for name, tensor in self.tensors.items()
                   if name in used and tensor.data is not None)


def _check_tensor(tensor: Tensor) -> None:
    name, shape = tensor.name, tensor.shape
    if tensor.dtype not in BITS:
        raise ValueError(f"tensor {name!r} must be of type {', '.join(BITS)}, "
                         f"not {tensor.dtype!r}")
    if len(shape) > MOST_DIMENSIONS or any(size < 1 for size in shape):
        raise ValueError(f"tensor {name!r} must have up to {MOST_DIMENSIONS} dimensions of a known "
                         f"size of at least 1, not {shape!r}")
    if prod(shape) >= MOST_ELEMENTS:
        raise ValueError(f"tensor {name!r} must have fewer than 2^31 elements, not {shape!r}")
    if tensor.data is not None:
        if tensor.data.shape != shape:
            raise ValueError(f"constant {name!r} must have the shape {shape!r}, "
                             f"not {tensor.data.shape!r}")
        if tensor.data.dtype.kind == "f" and not np.isfinite(tensor.data).all():
            raise ValueError(f"constant {name!r} must be finite numbers, not inf or NaN")
    q = tensor.quantisation
    if q is None:
        return
    if not (q.scale.shape == q.zero_point.shape and q.scale.ndim == 1 and len(q.scale)
            and np.isfinite(q.scale).all() and (q.scale > 0).all()):
        raise ValueError(f"scales of tensor {name!r} must be positive, each with a zero point")
    bits = BITS[tensor.dtype]
    least = 0 if tensor.dtype.startswith("u") else -(1 << bits - 1)
    if tensor.data is None and not (
            (least <= q.zero_point) & (q.zero_point < least + (1 << bits))).all():
        raise ValueError(f"zero points of tensor {name!r} must be numbers of its type, "
                         f"{tensor.dtype}")
    if len(q.scale) > 1 and not (q.axis is not None and 0 <= q.axis < len(shape)
                                 and shape[q.axis] == len(q.scale)):
        raise ValueError(f"scales of tensor {name!r} must be one, or one for each index along "
                         f"their dimension, not {len(q.scale)} of dimension {q.axis!r} of "
                         f"{shape!r}")


def _check_node(node: Node, known: set[str], tensors: Mapping[str, Tensor]) -> None:
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise ValueError(f"node {node.name!r} must be one of {', '.join(OPERATORS)}, "
                         f"not {node.op!r}")
    if not operator.least <= len(node.inputs) <= (operator.most or len(node.inputs)):
        raise ValueError(f"node {node.name!r} must have {operator.least} to {operator.most} "
                         f"inputs, not {len(node.inputs)}")
    if set(node.attributes) != set(operator.attributes):
        raise ValueError(f"node {node.name!r} must have the attributes {operator.attributes!r}, "
                         f"not {tuple(node.attributes)!r}")
    if node.attributes.get("rounding", "once") not in ROUNDINGS:
        raise ValueError(f"rounding of node {node.name!r} must be one of "
                         f"{', '.join(ROUNDINGS)}, not {node['rounding']!r}")
    for name in node.inputs:
        if name not in known:
            raise ValueError(f"node {node.name!r} must take what is made before it, "
                             f"not {name!r}")
    if node.output in known or node.output not in tensors:
        raise ValueError(f"node {node.name!r} must make a tensor of its own, not {node.output!r}")
    try:
        shape = shape_of(node.op, node.attributes, [tensors[name].shape for name in node.inputs])
    except ValueError as error:
        raise ValueError(f"node {node.name!r} ({node.op}): {error}") from None
    made = tensors[node.output]
    if made.shape != shape and not (node.op == "reshape"
                                    and made.elements == tensors[node.inputs[0]].elements):
        raise ValueError(f"node {node.name!r} ({node.op}) must make {shape!r}, not {made.shape!r}")
