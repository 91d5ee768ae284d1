"""Fewer nodes: constants go into weights and biases, activations to the operator before them."""

import dataclasses
from collections import Counter

import numpy as np
from systolith_hw.formats import RANGES

from . import floats
from .builder import Builder
from .graph import ACTIVATIONS, PRODUCTS, Graph, Node, Quantisation, Tensor

__all__ = ["fuse"]

_ENDING = (*PRODUCTS, "add", "sub", "mul", "average_pool", "max_pool", "concat")


def fuse(graph: Graph) -> Graph:
    """The same model of real numbers.

    A product with, or a sum and, a constant for each channel goes into the ``conv`` or ``linear``
    before it; relu, relu6 and relu1 into the operator before them; where nothing else takes what
    that makes.
    """
    build = Builder.of(graph)
    uses = Counter([name for node in graph.nodes for name in node.inputs])
    uses.update(graph.outputs)
    made = {name: name for name in build.tensors}
    makers: dict[str, int] = {}     # of names of the old graph, the new node where it may change
    for node in graph.nodes:
        inputs = tuple(made[name] for name in node.inputs)
        before = [(build.nodes[makers[name]], name, other) for name, other in zip(
            node.inputs, reversed(node.inputs), strict=True)
            if name in makers and uses[name] == 1]
        for last, name, other in before:
            changed = _joined(build, node, last, graph.tensors[other], name == node.inputs[0])
            if changed is not None:
                number = makers[name]
                build.nodes[number] = changed
                made[node.output] = changed.output
                makers[node.output] = number
                break
        else:
            made[node.output] = build.add(node.name, node.op, inputs, node.attributes,
                                          graph.output(node))
            if graph.output(node).dtype == "float32":
                makers[node.output] = len(build.nodes) - 1
    return build.graph({name: made[name] for name in graph.outputs})


def _joined(build: Builder, node: Node, last: Node, other: Tensor, first: bool) -> Node | None:
    """``last`` with what ``node`` does to it; None where that cannot be."""
    if last.op not in _ENDING or last["activation"] != "none":
        return None
    if node.op == "unary" and node["function"] in ACTIVATIONS:
        return dataclasses.replace(
            last, attributes={**last.attributes, "activation": node["function"]})
    shape = build[last.output].shape
    if (last.op not in PRODUCTS or node.op not in ("add", "sub", "mul")
            or len(node.inputs) != 2 or other.data is None or node["activation"] != "none"
            or len(other.shape) > len(shape) or not _along_last(other.shape, shape[-1])
            or node.op == "sub" and not first):
        return None
    constant = _real(other).astype(np.float64)
    return (_scaled(build, last, constant.reshape(-1)) if node.op == "mul"
            else _moved(build, last, constant.reshape(-1) * (-1 if node.op == "sub" else 1)))


def _along_last(shape: tuple[int, ...], channels: int) -> bool:
    """Whether a constant of ``shape`` has a number for each channel, or one for all."""
    return all(size == 1 for size in shape[:-1]) and shape[-1:] in ((), (1,), (channels,))


def _real(tensor: Tensor) -> np.ndarray:
    assert tensor.data is not None
    return floats.real(tensor.data, tensor)


def _scaled(build: Builder, last: Node, factor: np.ndarray) -> Node | None:
    """A convolution or linear operator times ``factor``."""
    weights, *biases = (build[name] for name in last.inputs[1:])
    if weights.data is None or any(one.data is None or one.quantisation for one in biases):
        return None
    spread = np.broadcast_to(factor, weights.shape[0])
    each = spread.reshape(-1, *[1] * (len(weights.shape) - 1))
    if weights.quantisation is None:
        names = [build.constant(weights.name, (weights.data * each).astype(np.float32))]
    else:
        scaled = _scaled_integers(build, weights, spread, each)
        if scaled is None:
            return None
        names = [scaled]
    names += [build.constant(bias.name, (_real(bias) * spread).astype(np.float32))
              for bias in biases]
    return dataclasses.replace(last, inputs=(last.inputs[0], *names))


def _scaled_integers(build: Builder, weights: Tensor, spread: np.ndarray,
                     each: np.ndarray) -> str | None:
    """Integers times ``spread``, which goes into their scales, and its signs into the integers."""
    q = weights.quantisation
    assert q is not None and weights.data is not None
    if weights.dtype not in RANGES or q.axis not in (None, 0) or q.zero_point.any():
        return None
    signed = weights.data.astype(np.int16) * np.sign(each).astype(np.int16)
    scale = q.scale * np.where(spread == 0, 1, np.abs(spread))
    if signed.max() > RANGES[weights.dtype][1] or not (scale > 0).all():
        return None
    return build.constant(weights.name, signed.astype(np.int8), dtype=weights.dtype,
                          quantisation=Quantisation(scale.astype(np.float32),
                                                    np.zeros(len(scale), np.int64), 0))


def _moved(build: Builder, last: Node, addend: np.ndarray) -> Node | None:
    """A convolution or linear operator plus ``addend``."""
    outputs = build[last.inputs[1]].shape[0]
    addend = np.broadcast_to(addend, outputs)
    if len(last.inputs) > 2:
        bias = build[last.inputs[2]]
        if bias.data is None:
            return None
        addend = _real(bias) + addend
    name = build.constant(f"{last.name}.bias", addend.astype(np.float32))
    return dataclasses.replace(last, inputs=(*last.inputs[:2], name))
