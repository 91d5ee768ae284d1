"""Channels of zero weights, which are the same number everywhere, left out of a graph."""

from dataclasses import replace

import numpy as np
from systolith_hw.formats import RANGES

from ..models.evaluate import computed
from ..models.graph import Graph, Node, Quantisation, Tensor

__all__ = ["without_zero_channels"]

# Operators whose channels are made of their source's one by one.
EACH = ("unary", "clip", "convert", "max_pool", "average_pool")


def without_zero_channels(graph: Graph) -> Graph:
    """The same graph without what channels of zero weights would be computed for.

    They go where only convolutions, linear operators and what works on each channel take them, and
    what they would add is in the biases of those.
    """
    return _Pass(graph).graph()


class _Pass:
    """One graph; of tensors, ``values`` of channels that are constant, and which ``go``."""
    def __init__(self, graph: Graph):
        self.old = graph
        self.tensors = dict(graph.tensors)
        self.values: dict[str, np.ndarray] = {}
        self.go: dict[str, np.ndarray] = {}

    def graph(self) -> Graph:
        for node in self.old.nodes:
            self._find(node)
        if not any(gone.any() for gone in self.go.values()):
            return self.old
        self._settle()
        try:
            nodes = [self._rewritten(node) for node in self.old.nodes]
        except OverflowError:
            return self.old
        return replace(self.old, tensors=self.tensors, nodes=nodes)

    def none(self, name: str) -> np.ndarray:
        return np.zeros(self.old.tensors[name].shape[-1:], bool)

    def gone(self, name: str) -> np.ndarray:
        return self.go.get(name, self.none(name))

    def _find(self, node: Node) -> None:
        """Channels of a node's result that are constant."""
        made, x = self.old.output(node), self.old.of(node, 0)
        if made.dtype != "int8" or made.quantisation is None or x.quantisation is None:
            return
        if self._is_layer(node):
            weights = self._whole(node)
            go = ~weights.reshape(len(weights), -1).any(1)
            values = np.zeros(x.shape[-1], np.int8) + np.int8(x.zero_point)
        elif (node.op in EACH or self._is_depthwise(node)) and node.inputs[0] in self.go:
            go, values = self.go[node.inputs[0]], self.values[node.inputs[0]]
        else:
            return
        if np.any(go):
            try:
                self.values[made.name] = self._constants(node, values)
            except ValueError:      # no operator of the core, which will be said later
                return
            self.go[made.name] = np.asarray(go)

    def _constants(self, node: Node, values: np.ndarray) -> np.ndarray:
        """What a node makes of an image whose channels are the same everywhere."""
        kernel = node.attributes.get("kernel", (1, 1))
        if node.op == "conv":
            kernel = [(size - 1) * step + 1 for size, step in zip(
                self.old.of(node, 1).shape[1:3], node["dilation"], strict=True)]
        shape = (1, *kernel, len(values)) if node.op != "linear" else (1, len(values))
        alone = node
        if "pads" in node.attributes:
            alone = replace(node, attributes={**node.attributes, "pads": ((0, 0), (0, 0))})
        rest = [self.old.tensors[name].data for name in node.inputs[1:]]
        found = computed(self.old, alone, np.broadcast_to(values, shape), *[
            data for data in rest if data is not None])
        return found.reshape(-1)

    def _is_layer(self, node: Node) -> bool:
        """Whether each output is made of all inputs, by constant weights."""
        return (node.op == "linear" or node.op == "conv" and node["groups"] == 1) and (
            self._has_weights(node))

    def _is_depthwise(self, node: Node) -> bool:
        return node.op == "conv" and node["groups"] == self.old.of(node, 1).shape[0] == (
            self.old.of(node, 0).shape[3]) > 1 and self._has_weights(node)

    def _has_weights(self, node: Node) -> bool:
        weights = self.old.of(node, 1)
        return weights.dtype in RANGES and weights.quantisation is not None and all(
            self.old.tensors[name].data is not None for name in node.inputs[1:])

    def _whole(self, node: Node) -> np.ndarray:
        """Weights less their zero points."""
        tensor = self.old.of(node, 1)
        assert tensor.data is not None and tensor.quantisation is not None
        zero = tensor.quantisation.zero_point.reshape(-1, *[1] * (tensor.data.ndim - 1))
        return tensor.data.astype(np.int64) - zero

    def _settle(self) -> None:
        """Keep what some node needs, or what would be the last channel."""
        for name in self.old.outputs:
            self.go.pop(name, None)
        for name, go in self.go.items():
            if go.all():
                self.go[name] = np.arange(len(go)) > 0
        while True:
            before = {name: go.copy() for name, go in self.go.items()}
            for node in self.old.nodes:
                for name in set(node.inputs) & set(self.go):
                    self.go[name] = self.go[name] & self._lets(node, name)
                source = node.inputs[0]
                if node.output in self.go and (node.op in EACH or self._is_depthwise(node)):
                    self.go[node.output] = self.go[node.output] & self.gone(source)
            if all(np.array_equal(before[name], self.go[name]) for name in self.go):
                return

    def _lets(self, node: Node, name: str) -> np.ndarray:
        """Which channels of an input a node can do without."""
        x, none = self.old.tensors[name], self.none(name)
        if name != node.inputs[0] or name in node.inputs[1:]:
            return none
        if node.op in EACH:
            return self.gone(node.output)
        layer = self._is_layer(node)
        if not layer and not self._is_depthwise(node):
            return none
        # Where there is padding only what the padding is.
        padded = any(map(any, node.attributes.get("pads", ())))
        lets = (self.values[name] == x.zero_point) | (not padded)
        return lets if layer else lets & self.gone(node.output)

    def _rewritten(self, node: Node) -> Node:
        source, made = node.inputs[0], node.output
        keep, left = ~self.gone(made), ~self.gone(source)
        if not keep.all():
            tensor = self.old.tensors[made]
            self.tensors[made] = replace(tensor, shape=(*tensor.shape[:-1], int(keep.sum())))
        if (keep.all() and left.all()) or node.op in EACH:
            return node
        x, weights = self.old.of(node, 0), self.old.of(node, 1)
        assert weights.data is not None
        layer = self._is_layer(node)
        bias = np.zeros(len(keep), np.int64)
        if len(node.inputs) > 2:
            data = self.old.of(node, 2).data
            assert data is not None
            bias = bias + data
        data = weights.data
        if layer and not left.all():
            off = self.values[source].astype(np.int64) - x.zero_point
            whole = self._whole(node)
            bias = bias + (whole * np.where(left, 0, off)).reshape(len(whole), -1).sum(1)
            data = data[..., left]
            if np.abs(bias).max() >= 1 << 31:
                raise OverflowError("biases must be of int32")
        q = weights.quantisation
        assert q is not None
        scale, zero = ((q.scale[keep], q.zero_point[keep]) if len(q.scale) > 1
                       else (q.scale, q.zero_point))
        own = Quantisation(scale, zero, q.axis)
        names = [f"{node.name} weights left", f"{node.name} biases left"]
        data = np.ascontiguousarray(data[keep])
        self.tensors[names[0]] = replace(weights, name=names[0], shape=data.shape, data=data,
                                         quantisation=own)
        self.tensors[names[1]] = Tensor(
            name=names[1], shape=(len(data),), dtype="int32", data=bias[keep].astype(np.int32),
            quantisation=Quantisation(np.float32(x.scale) * scale, np.zeros_like(zero), q.axis))
        attributes = dict(node.attributes)
        if not layer:
            attributes["groups"] = int(left.sum())
        return replace(node, inputs=(source, *names), attributes=attributes)
