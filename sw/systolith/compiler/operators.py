"""Operators of a graph on the core."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.formats import RANGES

from ..models import integers
from ..models.graph import Graph, Node
from ..models.integers import ADD_BITS, limits
from ..quantise import quantise_multiplier
from ..vector.pooling import Pooling
from ..vector.tables import byte_table
from .bands import Banded, Window, append_in_bands
from .convolution import Convolution, Gather, Gathered, emit_convolution
from .depthwise import emit_depthwise
from .exact import rounded_even, rounded_once
from .maps import FeatureMap, NoRoom
from .places import NO_PADS, Places, Shape, Unsupported, map_shape
from .pointwise import (
    Sum,
    Windows,
    averages,
    emit_pooling,
    emit_scaled,
    emit_softmax,
    emit_table,
    piece_rows,
)
from .sums import TwoPasses, every_pair, two_passes

__all__ = ["Operators"]


class Operators(Places):
    """Appends the commands of one node after the other.

    Parameters
    ----------
    graph : Graph
    config : CoreConfig
    exact : bool
        Whether only operators are taken whose results are the graph's in every byte; otherwise also
        those within one unit.
    spread : float
        As ``Places`` has it.

    Members
    -------
    done : set of str
        Nodes that were appended with the one before.
    alone : bool
        Whether the node's commands are appended without those of the next.
    fast : dict of str to TwoPasses or None
        Of sums, by node.
    """
    def __init__(self, graph: Graph, config: CoreConfig, *, exact: bool, spread: float = 0):
        super().__init__(graph, config, spread=spread)
        self.exact = exact
        self.done: set[str] = set()
        self.alone = False
        self.fast: dict[str, TwoPasses | None] = {}

    def append(self, node: Node) -> None:
        """Append the commands of a node.

        Raises
        ------
        NoRoom, Unsupported
        """
        if node.name in self.done:
            return
        self.current = node
        self.kept = {self.root(name) for name in node.inputs}
        for name in (*node.inputs, node.output):
            tensor = self.graph.tensors[name]
            if tensor.data is None and (tensor.dtype != "int8" or tensor.quantisation is None):
                raise Unsupported(f"tensors must be int8 with a scale, as a quantised model has "
                                  f"them, not {tensor}")
        handler = self._handler(node)
        state = self.state()
        for self.alone in (False, True):
            try:
                handler(node)
                return
            except NoRoom:
                self.restore(state)
        banded = self._banded(node)
        if banded is None:
            handler(node)
            return
        sources = [name for name in node.inputs if self.graph.tensors[name].data is None]
        append_in_bands(self, sources, node.output, banded)

    def _handler(self, node: Node) -> Callable[[Node], None]:
        handler = getattr(self, f"_{node.op}", None)
        if handler is None:
            raise Unsupported(f"must be an operator of the core, not {node.op}")
        return handler

    def _scaled(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """Multiplier and shift of every output of a product."""
        x, weights, made = self.graph.of(node, 0), self.graph.of(node, 1), self.graph.output(node)
        assert weights.quantisation is not None
        scales = weights.quantisation.scale
        if node.op == "linear" and len(scales) == 1:
            scale = np.float64(np.float32(x.scale) * scales) / made.scale
        else:
            scale = x.scale * scales.astype(np.float64) / made.scale
        scale = np.broadcast_to(scale, weights.shape[0])
        return quantise_multiplier(scale)

    def _product(self, node: Node, weights: np.ndarray, **window) -> Convolution:
        """A product as a convolution with weights (outputs, height, width, inputs)."""
        graph = self.graph
        x, tensor, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
        zero = tensor.quantisation
        if tensor.data is None or zero is None or tensor.dtype not in RANGES:
            raise Unsupported(f"weights must be constant integers, not {tensor}")
        if zero.zero_point.any():
            raise Unsupported("zero points of weights must be 0")
        multiplier, shift = self._scaled(node)
        bias = np.zeros(len(weights), np.int64)
        if len(node.inputs) > 2:
            data = graph.of(node, 2).data
            assert data is not None
            bias = bias + data
        whole = weights.reshape(len(weights), -1).astype(np.int64)
        bias = bias - x.zero_point * whole.sum(1)
        reach = 128 * np.abs(whole).sum(1) + np.abs(bias)
        if reach.max() >= 1 << 31:
            raise Unsupported(f"sums must stay within 31 bits, not reach {int(reach.max())}")
        clamp = limits(node["activation"], made, node["rounding"])
        known = {"bias": bias, "whole": whole,
                 "clamp": (clamp[0] - made.zero_point, clamp[1] - made.zero_point)}
        if node["rounding"] == "once" and self.exact:
            multiplier, shift = rounded_once(multiplier, shift, **known)
        elif node["rounding"] == "even" and self.exact:
            scale = np.float32(x.scale) * zero.scale / np.float32(made.scale)
            multiplier, shift = rounded_even(np.broadcast_to(
                scale.astype(np.float64), len(weights)), **known)
        return Convolution(weights=weights, bias=bias, multiplier=multiplier, shift=shift,
                           zero_point=made.zero_point, clamp=clamp,
                           weight_format=self.format_of(tensor.dtype), **window)

    def _convolution(self, node: Node) -> Convolution:
        weights = self.graph.of(node, 1).data
        if weights is None:
            raise Unsupported("weights must be constant, not computed")
        return self._product(node, weights, stride=node["stride"], dilation=node["dilation"],
                             pads=node["pads"], groups=node["groups"])

    def _conv(self, node: Node) -> None:
        x, conv = self.graph.of(node, 0), self._convolution(node)
        made = map_shape(self.graph.output(node).shape)
        gathered = None
        if x.name in self.graph.inputs and x.name not in self.inputs and (
                len(self.consumers(x.name)) == 1 and made[0] == 1):
            gathered = Gathered.of(conv, made[1], made[2], self.channels.width)
        if x.name in self.foldings:
            source = self.cells_of(x.name)
            emit_depthwise(self.emitter, conv, self.foldings[x.name], source,
                           self.new_map(node.output))
            return
        if gathered is None:
            source = self.map_of(x.name)
            if conv.pads != NO_PADS:
                self.fill_border(x.name)
            after = self._after(node)
            if after is None:
                emit_convolution(self.emitter, conv, source, **self._target(node))
                return
            target = self.new_map(node.output)
            if after.op != "add":
                windows = Windows(self.emitter, self._pooling(after), target,
                                  self.new_map(after.output))

                def then(image: int, plane: int, rows: range) -> None:
                    if rows.stop == target.shape[1]:
                        windows.add(range(image, image + 1), range(plane, plane + 1))
                emit_convolution(self.emitter, conv, source, target, then=then)
                self.done.add(after.name)
                return
            self.kept |= {self.root(name) for name in after.inputs}
            whole = self._sum(after, [self.map_of(name) for name in after.inputs])
            emit_convolution(self.emitter, conv, source, target, then=whole.add)
            self._end_sum(whole)
            self.done.add(after.name)
            return
        source = self.input_of(x.name, conv.pads)
        gathered = replace(gathered, base=self.take("gathered", gathered.rows))
        emit_convolution(self.emitter, conv, gathered, **self._target(node), gather=Gather(
            self.emitter, source, gathered, conv.stride[1]))
        self.space.give("gathered")

    def _target(self, node: Node) -> dict[str, Any]:
        """Where a convolution writes, and what comes before it does."""
        if node.output not in self.foldings:
            return {"target": self.new_map(node.output)}
        target, fill = self.new_cells(node.output)
        return {"target": target, "before": fill}

    def _linear(self, node: Node) -> None:
        weights = self.graph.of(node, 1).data
        assert weights is not None
        x = node.inputs[0]
        found = self.maps.get(self.root(x))
        source = found if isinstance(found, FeatureMap) else None
        shape = map_shape(self.graph.of(node, 0).shape)
        if source is not None and source.shape != shape and source.shape[0] == 1 == prod(shape[:3]):
            # The whole image is one row of the matrix.
            _, height, width, depth = source.shape
            conv = self._product(node, weights.reshape(len(weights), height, width, depth))
        else:
            conv = self._product(node, weights[:, None, None, :])
            source = self.map_of(x)
        emit_convolution(self.emitter, conv, source, self.new_map(node.output))

    def _reshape(self, node: Node) -> None:
        self.aliases[node.output] = self.root(node.inputs[0])

    def _add(self, node: Node) -> None:
        self._emit_sum(node, [self.map_of(name) for name in node.inputs])

    def _sum(self, node: Node, operands: list[FeatureMap],
             target: FeatureMap | None = None) -> Sum:
        """What appends a sum, with its temporaries, and where it has none its map."""
        graph = self.graph
        a, b, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
        if not a.shape == b.shape == made.shape:
            raise Unsupported(f"operands must have one shape, not {a.shape} and {b.shape}")
        if node["rounding"] != "twice":
            raise Unsupported(f"results must be rounded twice, not {node['rounding']!r}")
        clamp = limits(node["activation"], made)
        if node.name not in self.fast:      # once, and not for every band
            self.fast[node.name] = two_passes(
                integers.add(graph, node, *every_pair()), scales=(a.scale, b.scale),
                zero_points=(a.zero_point, b.zero_point), out_scale=made.scale,
                out_zero_point=made.zero_point, clamp=clamp) if (
                    self.config.vector.multiply) else None
        fast = self.fast[node.name]
        target = target or self._in_place(node) or self.new_map(node.output)
        step, rooms = self._rooms(4 if fast is None else 2, 4 * target.shape[2],
                                  piece_rows(self.emitter, target))
        twice = 2.0 * max(a.scale, b.scale)
        scales = [_pair(value) for value in (a.scale / twice, b.scale / twice, twice / (
            (1 << ADD_BITS) * made.scale))]
        return Sum(self.emitter, operands, rooms, step, target, fast=fast, left_shift=ADD_BITS,
                   offsets=(-a.zero_point, -b.zero_point), multipliers=(scales[0], scales[1]),
                   out_multiplier=scales[2], out_zero_point=made.zero_point, clamp=clamp)

    def _end_sum(self, whole: Sum) -> None:
        whole.flush()
        self._give_rooms(len(whole.rooms))

    def _in_place(self, node: Node) -> FeatureMap | None:
        """The map of the operand in whose place a sum is written."""
        heir = self.heirs.get(node.output)
        if heir is None or heir not in self.maps:
            return None
        self.kept.add(node.output)
        found = self.map_of(heir)
        self.maps[node.output] = self.maps.pop(heir)
        self.space.hand_over(heir, node.output)
        return found

    def _after(self, node: Node) -> Node | None:
        """The sum or pooling that takes a node's result next, and can follow it piece by piece."""
        if self.alone:
            return None
        number = self.numbers[node.name] + 1
        after = self.graph.nodes[number] if number < len(self.graph.nodes) else None
        if after is None or len(self.consumers(node.output)) > 1 or (
                node.output in self.graph.outputs or node.output not in after.inputs):
            return None
        if after.op in ("average_pool", "max_pool"):
            try:
                self._pooling(after)
            except Unsupported:
                return None
            return after
        if after.op != "add":
            return None
        names = list(after.inputs)
        if names.count(node.output) != 1:
            return None
        other = names[1 - names.index(node.output)]
        # Not where pieces of the sum would replace what the node still reads.
        ready = self.root(other) in self.maps and (
            self.heirs.get(after.output) != self.root(node.inputs[0]))
        return after if ready else None

    def _rooms(self, count: int, rows: int, step: int) -> tuple[int, list[int]]:
        """Temporaries of ``rows`` for each row of pixels, for as many as fit; and those."""
        while True:
            taken = []
            try:
                for number in range(count):
                    take = self.take if step == 1 else self.space.take
                    taken.append(take(f"room {number}", rows * step))
                return step, taken
            except NoRoom:
                self._give_rooms(len(taken))
                if step == 1:
                    raise
                step = -(-step // 2)

    def _give_rooms(self, count: int) -> None:
        for number in range(count):
            self.space.give(f"room {number}")

    def _average_pool(self, node: Node) -> None:
        self._whole(node)

    def _max_pool(self, node: Node) -> None:
        self._whole(node)

    def _unary(self, node: Node) -> None:
        self._whole(node)

    def _clip(self, node: Node) -> None:
        self._whole(node)

    def _convert(self, node: Node) -> None:
        self._whole(node)

    def _whole(self, node: Node) -> None:
        """Append an operator on whole maps."""
        banded = self._banded(node)
        assert banded is not None
        sources = [self.map_of(name) for name in node.inputs]
        banded.emit(sources, self.new_map(node.output), banded.window.top)

    def _softmax(self, node: Node) -> None:
        if self.exact:
            raise Unsupported("must be compiled as close, not as exact: the core's powers of e are "
                              "within one unit of the graph's")
        x = self.graph.of(node, 0)
        emit_softmax(self.emitter, self.map_of(x.name), self.new_map(node.output),
                     scale=x.scale * node["beta"])

    # In bands.

    def _banded(self, node: Node) -> Banded | None:
        """How an operator is done in bands of rows, where it can be."""
        if node.op in ("average_pool", "max_pool"):
            return self._pool(node)
        if node.op == "conv":
            return self._conv_in_bands(node)
        emit = {"unary": self._emit_table, "clip": self._emit_table, "convert": self._emit_scaled,
                "add": self._emit_sum}.get(node.op)
        return None if emit is None else Banded(
            window=Window(), emit=lambda maps, target, above: emit(node, maps, target))

    def _pool(self, node: Node) -> Banded:
        pooling = self._pooling(node)
        top, left = pooling.padding

        def emit(maps: list[FeatureMap], target: FeatureMap, above: int) -> None:
            emit_pooling(self.emitter, replace(
                pooling, padding=(above, left), outputs=target.shape[1:3]), maps[0], target)
        return Banded(window=Window(size=node["kernel"][0], stride=node["stride"][0], top=top),
                      emit=emit)

    def _pooling(self, node: Node) -> Pooling:
        """The windows of a pooling on the whole map."""
        (top, _), (left, _) = node["pads"]
        made = self.graph.output(node)
        pooling = Pooling(
            average=node.op == "average_pool", window=node["kernel"], stride=node["stride"],
            padding=(top, left), outputs=map_shape(made.shape)[1:3],
            clamp=limits(node["activation"], made))
        if self.exact and pooling.average:
            _check_averages(pooling, map_shape(self.graph.of(node, 0).shape))
        return pooling

    def _conv_in_bands(self, node: Node) -> Banded:
        conv = self._convolution(node)
        (top, _), beside = conv.pads

        def emit(maps: list[FeatureMap], target: FeatureMap, above: int) -> None:
            emit_convolution(self.emitter, replace(conv, pads=(maps[0].border[0], beside)),
                             maps[0], target)
        return Banded(
            window=Window(size=conv.weights.shape[1], stride=conv.stride[0],
                          dilation=conv.dilation[0], top=top, beside=beside),
            emit=emit, fill=self.graph.of(node, 0).zero_point)

    def _emit_table(self, node: Node, maps: list[FeatureMap], target: FeatureMap) -> None:
        rank = len(self.graph.output(node).shape)
        every = np.arange(-128, 128, dtype=np.int8).reshape(-1, *[1] * (rank - 1))
        values = getattr(integers, node.op)(self.graph, node, every).reshape(-1).astype(np.float64)
        emit_table(self.emitter, maps[0], target, byte_table(lambda _: values))

    def _emit_scaled(self, node: Node, maps: list[FeatureMap], target: FeatureMap) -> None:
        x, made = self.graph.of(node, 0), self.graph.output(node)
        emit_scaled(self.emitter, maps[0], target, scale=_pair(x.scale / made.scale),
                    zero_point=x.zero_point, out_zero_point=made.zero_point)

    def _emit_sum(self, node: Node, maps: list[FeatureMap],
                  target: FeatureMap | None = None) -> None:
        whole = self._sum(node, maps, target)
        images, height, _, _ = whole.target.shape
        for image, plane in product(range(images), range(whole.target.planes)):
            whole.add(image, plane, range(height))
        self._end_sum(whole)


def _check_averages(pooling: Pooling, shape: Shape) -> None:
    """Raise ``Unsupported`` where an average could be rounded otherwise than halves away from 0."""
    counts = {height * width for _, height in pooling.spans(0, shape[1])
              for _, width in pooling.spans(1, shape[2])}
    for count in counts:
        sums = np.arange(-128 * count, 127 * count + 1)
        wanted = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
        if not np.array_equal(averages(sums, count), wanted):
            raise Unsupported(f"averages of {count} numbers must be rounded as the core does, "
                              f"whose multiplier is not exact")


def _pair(scale: float) -> tuple[int, int]:
    multiplier, shift = quantise_multiplier(scale)
    return int(multiplier[0]), int(shift[0])
