"""Operators of real numbers between conversions from integers and to integers, as integer ones."""

import numpy as np
from systolith_hw.formats import RANGES

from . import floats
from .builder import Builder
from .graph import EXTREMES, PAIRS, PRODUCTS, Graph, Node, Quantisation, Tensor

__all__ = ["integers_between"]

_MOVED = ("reshape", "transpose", "pad", "max_pool")
_COMPUTED = (*PRODUCTS, *PAIRS, "average_pool", "softmax", "concat", "unary",
             "clip")
BIAS_LIMIT = (1 << 31) - 1


def integers_between(graph: Graph) -> Graph:
    """The same model; an operator whose operands come of int8 and whose result becomes int8 is
    one on int8.

    Biases of those become int32 in steps of the sums, as that of the file where it has such ones.
    """
    return _Pass(graph).graph()


class _Pass:
    """One graph."""

    def __init__(self, graph: Graph):
        self.old = graph
        self.build = Builder.of(graph)
        self.made = {name: name for name in self.build.tensors}
        self.whole: dict[str, str] = {}     # of real numbers of the old graph, their int8
        self.takers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.takers.setdefault(name, []).append(node)

    def graph(self) -> Graph:
        for node in self.old.nodes:
            if node.op == "convert":
                self.convert(node)
            elif not (self.moved(node) or self.computed(node)):
                self.add(node, [self.need(name) for name in node.inputs], self.old.output(node))
        return self.build.graph({name: self.need(name) for name in self.old.outputs})

    def add(self, node: Node, inputs: list[str], like: Tensor) -> str:
        self.made[node.output] = self.build.add(node.name, node.op, inputs, node.attributes, like)
        return self.made[node.output]

    def need(self, name: str) -> str:
        """Tensor of a name of the old graph, made now where it is not yet."""
        if name not in self.made:
            whole = self.whole[name]
            self.made[name] = self.build.add(f"{whole}.real", "convert", [whole], {})
        return self.made[name]

    def convert(self, node: Node) -> None:
        source, made = self.old.of(node, 0), self.old.output(node)
        if made.quantisation is None and _plain(source) and source.data is None:
            self.whole[node.output] = self.made[source.name]
            return
        whole = self.whole.get(source.name)
        if whole is None or not _plain(made):
            self.add(node, [self.need(source.name)], made)
        elif _same(self.build[whole], made):
            self.made[node.output] = whole
        else:
            self.add(node, [whole], made)

    def moved(self, node: Node) -> bool:
        """Whether it is an operator that leaves numbers as they are, on int8."""
        whole = self.whole.get(node.inputs[0])
        if whole is None or not _moves(node):
            return False
        self.whole[node.output] = self.build.add(node.name, node.op, [whole], node.attributes,
                                                 self.build[whole])
        return True

    def computed(self, node: Node) -> bool:
        """Whether it is an operator that is computed on int8, and ends as such."""
        end = self.end(node) if node.op in _COMPUTED else None
        operands = [self.whole.get(name, name) for name in node.inputs]
        if end is None or not all(
                name in self.whole or self.old.tensors[name].data is not None
                for name in node.inputs):
            return False
        if not (self.products(operands) if node.op in PRODUCTS
                else all(_plain(self.build[name]) for name in operands)):
            return False
        if node.op in EXTREMES:     # of numbers that mean the same
            operands = [self.like(name, end) for name in operands]
        self.whole[node.output] = self.build.add(node.name, node.op, operands, node.attributes,
                                                 end)
        return True

    def like(self, name: str, made: Tensor) -> str:
        """An int8 tensor with the scale of another one."""
        tensor = self.build[name]
        if _same(tensor, made):
            return name
        if tensor.data is None:
            return self.build.add(f"{name}.like", "convert", [name], {}, made)
        return self.build.constant(name, floats.quantised(
            floats.real(tensor.data, tensor), made, "even"), quantisation=made.quantisation)

    def end(self, node: Node) -> Tensor | None:
        """The int8 tensor that what a node makes becomes; nothing else is made of it."""
        while node.output not in self.old.outputs and len(
                takers := self.takers.get(node.output, [])) == 1:
            node = takers[0]
            if node.op == "convert":
                made = self.old.output(node)
                return made if _plain(made) else None
            if not _moves(node):
                return None
        return None

    def products(self, operands: list[str]) -> bool:
        """Whether operands are int8, integer weights and a bias, which becomes int32."""
        x, weights = self.build[operands[0]], self.build[operands[1]]
        q = weights.quantisation
        if not _plain(x) or weights.data is None or q is None or q.axis not in (None, 0) or (
                weights.dtype not in RANGES):
            return False
        if len(operands) > 2:
            bias = self.build[operands[2]]
            steps = Quantisation(np.float32(x.scale) * q.scale, np.zeros_like(q.zero_point), q.axis)
            if bias.data is None:
                return False
            if bias.dtype == "int32":
                if bias.quantisation is None or _same_scales(bias.quantisation, steps):
                    return True
            real = floats.real(bias.data, bias).astype(np.float64)
            whole = np.rint(real / steps.scale)
            if np.abs(whole).max() > BIAS_LIMIT:
                return False
            operands[2] = self.build.constant(bias.name, whole.astype(np.int32), quantisation=steps)
        return True


def _moves(node: Node) -> bool:
    """Whether a node leaves numbers as they are."""
    return node.op in _MOVED and node.attributes.get("activation", "none") == "none"


def _plain(tensor: Tensor) -> bool:
    """Whether it is int8 with one scale."""
    q = tensor.quantisation
    return tensor.dtype == "int8" and q is not None and q.axis is None


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.scale, a.zero_point) == (b.scale, b.zero_point)


def _same_scales(a: Quantisation, b: Quantisation) -> bool:
    return (np.allclose(np.broadcast_to(a.scale, b.scale.shape)
                        if a.scale.size == 1 else a.scale, b.scale, rtol=1e-6, atol=0)
            and not a.zero_point.any())
