"""Turning images less: transposes move down through what works on each element, and cancel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .builder import Builder
from .graph import PAIRS, Graph, Node, Tensor

__all__ = ["channels_last"]

Order = tuple[int, ...]
_EACH = ("unary", "clip", "convert")


@dataclass(frozen=True)
class _Turned:
    """What a tensor is: ``base`` with its dimensions in ``order``, then reshaped to ``shape``."""
    base: str
    order: Order
    shape: tuple[int, ...] | None = None


def channels_last(graph: Graph) -> Graph:
    """The same model with as few transposes as move down, cancel, or go into constants.

    A transpose that leaves the elements where they are becomes a reshape. One that a flattened
    image is read with goes into the weights of the linear operators that take it.
    """
    return _Pass(graph).graph()


class _Pass:
    """One graph; ``turned`` says what the tensors are that are not made."""

    def __init__(self, graph: Graph):
        self.old = graph
        self.build = Builder.of(graph)
        self.turned: dict[str, _Turned] = {}
        self.made: dict[str, str] = {name: name for name in self.build.tensors}
        self.done: dict[_Turned, str] = {}

    def graph(self) -> Graph:
        for node in self.old.nodes:
            step: Callable[[Node], None] = getattr(self, f"_{node.op}", self.plain)
            if node.op in _EACH:
                step = self.each
            elif node.op in PAIRS:
                step = self.pair
            step(node)
        return self.build.graph({name: self.need(name) for name in self.old.outputs})

    def add(self, node: Node, inputs: list[str], **changes: Any) -> str:
        """A node as the old one on other inputs."""
        like = self.old.output(node)
        return self.build.add(node.name, node.op, inputs, {**node.attributes, **changes}, like)

    def need(self, name: str) -> str:
        """Tensor of a name of the old graph, made now where it is not yet."""
        turned = self.turned.get(name)
        if turned is None:
            return self.made[name]
        if turned not in self.done:
            found = self.turn(turned.base, turned.order)
            if turned.shape is not None:
                found = self.build.add(f"{turned.base}.flat", "reshape", [found],
                                       {"shape": turned.shape}, self.build[found])
            self.done[turned] = found
        return self.done[turned]

    def turn(self, base: str, order: Order) -> str:
        """A tensor with its dimensions in another order."""
        tensor = self.build[base]
        if order == tuple(range(len(order))):
            return base
        turned = _Turned(base, order)
        if turned not in self.done:
            like = _reordered(tensor, order)
            if tensor.data is not None:
                made = self.build.constant(base, np.ascontiguousarray(tensor.data.transpose(order)),
                                           dtype=tensor.dtype, quantisation=like.quantisation)
            elif _stays(tensor.shape, order):
                made = self.build.add(f"{base}.turned", "reshape", [base],
                                      {"shape": tuple(tensor.shape[axis] for axis in order)}, like)
            else:
                made = self.build.add(f"{base}.turned", "transpose", [base], {"order": order}, like)
            self.done[turned] = made
        return self.done[turned]

    def put(self, name: str, base: str, order: Order, shape: tuple[int, ...] | None = None) -> None:
        """Tensor ``name`` of the old graph is ``base``, turned."""
        if shape is None and order == tuple(range(len(order))):
            self.made[name] = base
        else:
            self.turned[name] = _Turned(base, order, shape)

    def images(self, name: str) -> _Turned | None:
        """How a tensor is turned, where it is and is not reshaped since."""
        turned = self.turned.get(name)
        return None if turned is None or turned.shape is not None else turned

    # Operators.

    def plain(self, node: Node) -> None:
        self.made[node.output] = self.add(node, [self.need(name) for name in node.inputs])

    def _transpose(self, node: Node) -> None:
        turned, order = self.images(node.inputs[0]), node["order"]
        if turned is None:
            self.put(node.output, self.need(node.inputs[0]), order)
        else:
            self.put(node.output, turned.base, tuple(turned.order[axis] for axis in order))

    def each(self, node: Node) -> None:
        turned = self.turned.get(node.inputs[0])
        q = self.old.output(node).quantisation
        if turned is None or (q is not None and q.axis is not None):
            self.plain(node)
        else:
            self.put(node.output, self.add(node, [turned.base]), turned.order, turned.shape)

    def pair(self, node: Node) -> None:
        rank = len(self.old.output(node).shape)
        found = [turned for name in node.inputs if (turned := self.images(name))
                 and len(turned.order) == rank]
        if not found:
            return self.plain(node)
        order = found[0].order
        inputs = [self.beside(name, order) for name in node.inputs]
        self.put(node.output, self.add(node, inputs), order)

    def beside(self, name: str, order: Order) -> str:
        """What becomes tensor ``name`` of the old graph in ``order``."""
        turned = self.images(name)
        if turned is not None and turned.order == order:
            return turned.base
        tensor = self.old.tensors[name]
        found = self.need(name)
        if len(tensor.shape) < len(order) and tensor.elements > 1:
            shape = (1,) * (len(order) - len(tensor.shape)) + tensor.shape
            q = tensor.quantisation
            if tensor.data is not None:
                found = self.build.constant(name, tensor.data.reshape(shape), dtype=tensor.dtype,
                                            quantisation=q and q.behind(
                                                len(order) - len(tensor.shape)))
            else:
                found = self.build.add(f"{name}.wide", "reshape", [found], {"shape": shape}, tensor)
        if len(self.build[found].shape) < len(order):
            return found
        return self.turn(found, tuple(map(order.index, range(len(order)))))

    def _concat(self, node: Node) -> None:
        found = [turned for name in node.inputs if (turned := self.images(name))]
        if not found:
            return self.plain(node)
        order = found[0].order
        inputs = [self.beside(name, order) for name in node.inputs]
        self.put(node.output, self.add(node, inputs, axis=order[node["axis"]]), order)

    def _pad(self, node: Node) -> None:
        turned = self.images(node.inputs[0])
        if turned is None:
            return self.plain(node)
        pads = tuple(node["pads"][turned.order.index(axis)] for axis in range(len(turned.order)))
        self.put(node.output, self.add(node, [turned.base], pads=pads), turned.order)

    def _softmax(self, node: Node) -> None:
        turned = self.images(node.inputs[0])
        if turned is None or turned.order[-1] != len(turned.order) - 1:
            return self.plain(node)
        self.put(node.output, self.add(node, [turned.base]), turned.order)

    def _reshape(self, node: Node) -> None:
        name, shape = node.inputs[0], node["shape"]
        turned = self.images(name)
        if turned is None:
            source = self.turned.get(name)
            if source is not None and source.shape == shape:
                self.turned[node.output] = source
            else:
                self.plain(node)
            return
        size = self.build[turned.base].shape
        if _stays(size, turned.order):
            self.made[node.output] = self.add(node, [turned.base])
        elif len(shape) == 2 and turned.order[0] == 0 and shape[0] == size[0]:
            self.put(node.output, turned.base, turned.order, shape)
        else:
            self.plain(node)

    def _linear(self, node: Node) -> None:
        turned = self.turned.get(node.inputs[0])
        weights = self.old.tensors[node.inputs[1]]
        if turned is None or turned.shape is None or weights.data is None:
            return self.plain(node)
        size = self.build[turned.base].shape
        columns = np.arange(weights.shape[1]).reshape([size[axis] for axis in turned.order[1:]])
        inner = tuple(turned.order.index(axis) - 1 for axis in range(1, len(size)))
        columns = columns.transpose(inner).reshape(-1)
        moved = self.build.constant(weights.name, weights.data[:, columns], dtype=weights.dtype,
                                    quantisation=weights.quantisation)
        flat = _Turned(turned.base, tuple(range(len(size))), turned.shape)
        if flat not in self.done:
            self.done[flat] = self.build.add(f"{turned.base}.flat", "reshape", [turned.base],
                                             {"shape": turned.shape}, self.build[turned.base])
        bias = map(self.need, node.inputs[2:])
        self.made[node.output] = self.add(node, [self.done[flat], moved, *bias])


def _stays(shape: tuple[int, ...], order: Order) -> bool:
    """Whether a transpose leaves the elements where they are."""
    moved = [axis for axis in order if shape[axis] > 1]
    return moved == sorted(moved)


def _reordered(tensor: Tensor, order: Order) -> Tensor:
    """Type and quantisation of a tensor with its dimensions in another order."""
    q = tensor.quantisation
    return Tensor(name="like", shape=(), dtype=tensor.dtype, quantisation=q and q.in_order(order))
