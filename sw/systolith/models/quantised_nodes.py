"""Nodes of real numbers as nodes on int8, one by one, with calibration data beside them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from systolith_hw.formats import RANGES

from ..quantise import activation_scale
from . import floats
from .builder import Builder
from .calibrate import Range
from .evaluate import BATCH_ELEMENTS, evaluate
from .graph import ACTIVATIONS, EXTREMES, PAIRS, PRODUCTS, Graph, Node, Quantisation, Tensor
from .graph import OPERATORS as ATTRIBUTES
from .integers import ADD_BITS
from .weights import LEAST_SCALE, MOST_PRODUCTS, Moments, factors, grouped, rounded

__all__ = ["LAYERS", "OPERATORS", "Quantiser", "quantisations"]

LAYERS = PRODUCTS
SHARED = ("reshape", "transpose", "pad", "max_pool", "average_pool", "clip")
ALIKE = ("concat", *EXTREMES)   # whose inputs have the output's scale
OPERATORS = (*LAYERS, *SHARED, *PAIRS, "concat", "unary", "softmax")
# Scale and zero point of what has a range of its own.
FIXED = {"softmax": (1 / 256, -128), "logistic": (1 / 256, -128), "tanh": (1 / 128, 0)}
MOST_STEPS = 64         # of a result that a step of the sums may be; multipliers are below 128
MOST_BIAS = 1 << 30     # in steps of the sums, to which products are added
FINE = 256              # steps of a bias in one of the result, where all weights are 0


def quantisations(graph: Graph, found: Mapping[str, Range]) -> dict[str, Quantisation]:
    """Scale and zero point that each tensor of a float model should have; those that share their
    scale get the same.

    Parameters
    ----------
    graph : Graph
    found : mapping of str to pair of float
        Ranges of its tensors.
    """
    first = {name: name for name in graph.tensors}

    def root(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    uses = Counter([name for node in graph.nodes for name in node.inputs])
    uses.update(graph.outputs)
    fixed: dict[str, tuple[float, int]] = {}
    clipped: set[str] = set()   # what only a clip takes need not reach beyond it
    for node in graph.nodes:
        kind = node["function"] if node.op == "unary" else node.op
        if kind in FIXED:
            fixed[node.output] = FIXED[kind]
        elif node.op in SHARED:
            first[node.output] = root(node.inputs[0])
            if node.op == "clip" and uses[node.inputs[0]] == 1:
                clipped.add(node.inputs[0])
        elif node.op in ALIKE:  # what has a range of its own is converted
            for name in node.inputs:
                if root(name) not in fixed:
                    first[root(name)] = root(node.output)
    spans: dict[str, Range] = {}
    for name, (low, high) in found.items():
        span = spans.get(root(name), (0.0, 0.0))
        if name not in clipped:
            spans[root(name)] = min(low, span[0]), max(high, span[1])
    chosen = {name: _quantisation(*fixed.get(name, _scale(*span))) for name, span in spans.items()}
    return {name: chosen[root(name)] for name in found}


def _scale(low: float, high: float) -> tuple[float, int]:
    return activation_scale(low, high) if high - low > 256 * LEAST_SCALE else (1.0, 0)


def _quantisation(scale: float, zero: int) -> Quantisation:
    return Quantisation(np.array([scale], np.float32), np.array([zero], np.int64))


def _coarser(q: Quantisation, least: float) -> Quantisation:
    """With a scale of at least ``least``, from the same real number on."""
    share = float(q.scale[0]) / least if least else 1.0
    if share >= 1:
        return q
    return _quantisation(least, round((128 + int(q.zero_point[0])) * share) - 128)


def _run(tensors: Mapping[str, Tensor], node: Node,
         values: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a node makes of the values of its inputs."""
    taken = {name: tensors[name] for name in (*node.inputs, node.output)}
    inputs = list(dict.fromkeys(name for name in node.inputs if taken[name].data is None))
    graph = Graph(name=node.name, tensors=taken, nodes=[node], inputs=inputs,
                  outputs=[node.output])
    return evaluate(graph, {name: values[name] for name in inputs})[node.output]


class Quantiser:
    """One model, with a weight format for each layer.

    Parameters
    ----------
    graph : Graph
        Of real numbers.
    scales : mapping of str to Quantisation
        That its tensors should have.
    formats : mapping of str to str
        Of the weights of each convolution and linear operator, by its name.
    bias_correction : bool
    tried : sequence of str
        Formats of which ``variants`` has each layer's weights and bias, by its name.
    """

    def __init__(self, graph: Graph, scales: Mapping[str, Quantisation],
                 formats: Mapping[str, str], bias_correction: bool, tried: Sequence[str] = ()):
        self.old = graph
        self.scales = scales
        self.formats = formats
        self.bias_correction = bias_correction
        self.tried = tried
        self.variants: dict[tuple[str, str], list[Tensor]] = {}
        self.build = Builder(graph.name, [graph.tensors[name] for name in graph.inputs],
                             graph.outputs)
        self.made: dict[str, str] = {}      # of names of the old graph, their int8
        self.real: dict[str, np.ndarray] = {}   # values of the old graph's tensors
        self.whole: dict[str, np.ndarray] = {}  # and of the new one's

    def graph(self, data: Mapping[str, np.ndarray]) -> Graph:
        """The model on int8, by what it makes of ``data``."""
        last = {name: number for number, node in enumerate(self.old.nodes) for name in node.inputs}
        for name in self.old.inputs:
            self.real[name] = self.whole[name] = data[name]
            self.made[name] = self.add(f"{name}.int8", "convert", [name], {}, self.scales[name])
        for number, node in enumerate(self.old.nodes):
            inputs = [self.operand(name) for name in
                      (node.inputs[:1] if node.op in LAYERS else node.inputs)]
            make = self.layer if node.op in LAYERS else self.plain
            self.made[node.output] = make(node, inputs)
            self.real[node.output] = _run(self.old.tensors, node, self.real)
            for name in set(node.inputs) - set(self.old.outputs):
                if last[name] == number:    # nobody takes it any more
                    self.real.pop(name, None)
                    self.whole.pop(self.made.get(name, name), None)
        return self.build.graph({name: self.add(f"{name}.real", "convert", [self.made[name]], {})
                                 for name in self.old.outputs})

    def add(self, name: str, op: str, inputs: Sequence[str], attributes: Mapping[str, Any],
            q: Quantisation | None = None) -> str:
        """Name of what a new node makes, with its values; real numbers where ``q`` is left out."""
        like = None if q is None else Tensor(name=name, shape=(), dtype="int8", quantisation=q)
        rounding = {"rounding": "twice"} if "rounding" in ATTRIBUTES[op].attributes else {}
        made = self.build.add(name, op, inputs, {**attributes, **rounding}, like)
        self.whole[made] = _run(self.build.tensors, self.build.nodes[-1], self.whole)
        return made

    def operand(self, name: str) -> str:
        """The int8 tensor of a name of the old graph; a constant's is made here."""
        if name not in self.made:
            tensor, q = self.old.tensors[name], self.scales[name]
            assert tensor.data is not None
            like = Tensor(name=name, shape=tensor.shape, dtype="int8", quantisation=q)
            found = floats.quantised(floats.real(tensor.data, tensor), like, "twice")
            self.made[name] = self.build.constant(name, found, quantisation=q)
        return self.made[name]

    def plain(self, node: Node, inputs: list[str]) -> str:
        """An operator without weights, on int8 tensors."""
        first, scales = self.build[inputs[0]], [self.build[name].scale for name in inputs]
        if node.op in SHARED:
            return self.add(node.name, node.op, inputs, node.attributes, first.quantisation)
        step = 0.0      # of the integers that become the results, or more
        if node.op in ("add", "sub"):
            step = 2 * max(scales) / (1 << ADD_BITS)
        elif node.op == "mul":
            step = prod(scales)
        elif node.op in ALIKE or node.attributes.get("function") in ACTIVATIONS:
            step = max(scales)
        q = _coarser(self.scales[node.output], step / MOST_STEPS)
        if node.op in ALIKE:
            inputs = [name if _same(self.build[name], q) else
                      self.add(f"{name}.{node.name}", "convert", [name], {}, q) for name in inputs]
        return self.add(node.name, node.op, inputs, node.attributes, q)

    def layer(self, node: Node, inputs: list[str]) -> str:
        """A convolution or linear operator, on an int8 tensor."""
        x = self.build[inputs[0]]
        weights, *biases = [floats.real(tensor.data, tensor).astype(np.float64)
                            for tensor in map(self.old.tensors.__getitem__, node.inputs[1:])
                            if tensor.data is not None]
        bias = biases[0] if biases else np.zeros(len(weights))
        apart = grouped(weights, node.attributes.get("groups", 1))
        formats = dict.fromkeys((self.formats[node.name], *self.tried))
        products = (len(apart) * apart.shape[2] ** 2 <= MOST_PRODUCTS
                    and set(formats) != {"int8"})
        moments = (self.moments(node, x, weights.shape[1:3], apart, products)
                   if products or self.bias_correction else None)
        found = {one: self.rounded(apart, bias, one, x.scale, moments) for one in formats}
        q = _coarser(self.scales[node.output], max(
            float((scale * whole.any(1)).max()) for whole, scale, _ in found.values()
            ) * x.scale / MOST_STEPS)
        names: list[str] = []
        for dtype, (whole, scale, bias) in found.items():
            scale = np.where(whole.any(1), scale, q.scale[0] / (FINE * x.scale))
            made = _constants(dtype, whole.reshape(weights.shape), scale, bias, x.scale)
            if not names:
                names = [self.build.constant(f"{node.name}.{part}", data, dtype=kind,
                                             quantisation=own) for part, kind, data, own in made]
            self.variants[node.name, dtype] = [
                Tensor(name=name, shape=data.shape, dtype=kind, data=data, quantisation=own)
                for name, (_, kind, data, own) in zip(names, made, strict=True)]
        return self.add(node.name, node.op, [*inputs, *names], node.attributes, q)

    def moments(self, node: Node, x: Tensor, kernel: tuple[int, ...], apart: np.ndarray,
                products: bool) -> Moments:
        """Of what the weights of a layer are multiplied by."""
        made = Moments(len(apart), apart.shape[2], products)
        real, whole = self.real[node.inputs[0]], self.whole[x.name]
        sums = self.old.output(node).elements // (apart.shape[0] * apart.shape[1])
        size = x.shape[0]
        step = size * max(BATCH_ELEMENTS // (sums * apart.shape[0] * apart.shape[2]), 1)
        for first in range(0, len(real), step):
            made.add(*(factors(node, part[first:first + step], kernel)
                       for part in (real, floats.real(whole, x))))
        return made

    def rounded(self, weights: np.ndarray, bias: np.ndarray, dtype: str, step: float,
                moments: Moments | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integers (outputs, inputs), a scale for each output, and real biases.

        Parameters
        ----------
        weights : float array, (groups, outputs, inputs)
        bias : float array
        dtype : str
        step : float
            Scale of what the weights are multiplied by.
        moments : Moments or None
        """
        forms = (moments.forms(self.bias_correction)
                 if moments is not None and moments.products else None)
        whole, scale = rounded(weights, dtype, forms)
        least = np.abs(bias).reshape(scale.shape) / (step * MOST_BIAS)
        if (scale < least).any():   # so that the bias can be added
            scale = np.maximum(scale, least)
            high = RANGES[dtype][1]
            whole = np.clip(np.rint(weights / scale[..., None]), -high, high).astype(np.int8)
        if self.bias_correction and moments is not None:
            real, made = moments.means()
            bias = bias + (np.einsum("grn,gn->gr", weights, real) - scale * np.einsum(
                "grn,gn->gr", whole, made)).reshape(-1)
        return whole.reshape(len(bias), -1), scale.reshape(-1), bias


def _same(tensor: Tensor, q: Quantisation) -> bool:
    return (tensor.scale, tensor.zero_point) == (q.scale[0], q.zero_point[0])


def _constants(dtype: str, whole: np.ndarray, scale: np.ndarray, bias: np.ndarray,
               step: float) -> list[tuple[str, str, np.ndarray, Quantisation]]:
    """Weights and int32 biases of a layer whose input has the scale ``step``."""
    zero = np.zeros(len(scale), np.int64)
    own = Quantisation(scale.astype(np.float32), zero, 0)
    steps = Quantisation(np.maximum(np.float32(step) * own.scale, LEAST_SCALE), zero, 0)
    sums = np.clip(np.rint(bias / steps.scale), -MOST_BIAS, MOST_BIAS).astype(np.int32)
    return [("weights", dtype, whole, own), ("bias", "int32", sums, steps)]
