"""Operators of a graph on the core."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.formats import RANGES

from ..cycles import Bus
from ..models.graph import PAIRS, Graph, Node
from ..models.integers import limits
from ..quantise import quantise_multiplier
from ..vector.pooling import Pooling
from .arrange import Arranging
from .bands import Banded, Spread, Window, append_in_bands
from .convolution import Convolution, Gather, Gathered, emit_convolution
from .depthwise import emit_depthwise
from .exact import rounded_even, rounded_once
from .lives import NO_PADS, Unsupported, map_shape
from .maps import FeatureMap, NoRoom, Shape, View
from .pointwise import Windows, averages, emit_pooling, emit_softmax
from .shares import KINDS, RECORDS, shares_of
from .transposed import phases_of

__all__ = ["SUMS", "Operators"]

SUMS = ("add", "sub")


class Operators(Arranging):
    """Appends the commands of one node after the other.

    Parameters
    ----------
    graph, config, bus, stay, spread
        As ``Places`` has them.
    exact : bool
        Whether only operators are taken whose results are the graph's in every byte; otherwise also
        those within one unit.

    Members
    -------
    done : set of str
        Nodes that were appended with the one before.
    fused : bool
        Whether the next node's commands may be appended with those of the current one.
    """
    def __init__(self, graph: Graph, config: CoreConfig, *, exact: bool, bus: Bus, stay: bool,
                 spread: float):
        super().__init__(graph, config, bus=bus, stay=stay, spread=spread)
        self.exact = exact
        self.done: set[str] = set()
        self.fused = True

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
        for self.fused in (True, False):
            try:
                handler(node)
                break
            except NoRoom:
                self.restore(state)
        else:
            banded = self._banded(node)
            if banded is None:
                handler(node)
            else:
                append_in_bands(self, self._sources(node), node.output, banded)
        self.give_back()

    def _sources(self, node: Node) -> list[View]:
        """Inputs in system memory, of which bands are taken."""
        names = [name for name in node.inputs if self.graph.tensors[name].data is None]
        if node.op not in PAIRS:
            return [self.to_memory(name) for name in names]
        shape = map_shape(self.graph.output(node).shape)
        names = names if self.alone(node) else list(node.inputs)
        return [self.to_memory(name).spread(shape) for name in names]

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
        dtype = tensor.dtype
        if self.format_of(dtype) not in self.config.array.weights:
            raise Unsupported(f"weights must be {' or '.join(self.config.array.weights)} for this "
                              f"core, not {dtype}")
        if zero.zero_point.any():
            weights = _centred(weights, zero.zero_point)
            window |= {"dilation": (window.get("dilation", (1, 1))[0], 0)}
            dtype = "int8"
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
                           weight_format=self.format_of(dtype), **window)

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
        if x.name in self.cells:
            emit_depthwise(self.emitter, conv, self.foldings[x.name], self.cells[x.name],
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
            if after.op not in SUMS:
                windows = Windows(self.emitter, self._pooling(after), target,
                                  self.new_map(after.output))

                def then(image: int, plane: int, rows: range) -> None:
                    if rows.stop == target.shape[1]:
                        windows.add(range(image, image + 1), range(plane, plane + 1))
                emit_convolution(self.emitter, conv, source, target, then=then)
                self.done.add(after.name)
                return
            self.kept |= {self.root(name) for name in after.inputs}
            whole = self.sum_of(after, [self.map_of(name) for name in after.inputs])
            emit_convolution(self.emitter, conv, source, target, then=whole.add,
                             strips_first=True)
            self.end_sum(whole)
            self.done.add(after.name)
            return
        source = self.input_of(x.name, conv.pads)
        gathered = replace(gathered, base=self.take("gathered", gathered.rows))
        gather = Gather(self.emitter, source, gathered, stride=conv.stride[1], bus=self.bus)
        emit_convolution(self.emitter, conv, gathered, **self._target(node), gather=gather,
                         strips_first=True)
        self.space.give("gathered")

    def _target(self, node: Node) -> dict[str, Any]:
        """Where a convolution writes, and what comes before it does."""
        if node.output not in self.foldings:
            return {"target": self.new_map(node.output)}
        target, fill = self.new_cells(node.output)
        return {"target": target, "before": fill}

    def _transposed_conv(self, node: Node) -> None:
        x = node.inputs[0]
        if self.graph.of(node, 1).data is None:
            raise Unsupported("weights must be constant, not computed")
        source = self.map_of(x)
        self.fill_border(x)
        self._emit_phases(node, source, self.new_map(node.output), (0, 0))

    def _emit_phases(self, node: Node, source: FeatureMap, target: FeatureMap,
                     missing: tuple[int, int]) -> None:
        """Append the convolutions that a transposed one is, of a source of which some rows and
        columns are missing."""
        for phase in phases_of(self.graph, node):
            part = phase.part(target, node["stride"])
            if part is not None:
                emit_convolution(self.emitter, self._product(
                    node, phase.weights, groups=node["groups"],
                    pads=((missing[0] - phase.low[0], 0), (missing[1] - phase.low[1], 0))),
                    source, part)

    def _linear(self, node: Node) -> None:
        weights = self.graph.of(node, 1).data
        assert weights is not None
        x = node.inputs[0]
        source = self.maps.get(self.root(x))
        shape = map_shape(self.graph.of(node, 0).shape)
        zero = self.graph.of(node, 1).quantisation
        if source is not None and source.shape != shape and source.shape[0] == 1 == prod(
                shape[:3]) and zero is not None and not zero.zero_point.any():
            # The whole image is one row of the matrix.
            _, height, width, depth = source.shape
            conv = self._product(node, weights.reshape(len(weights), height, width, depth))
        else:
            conv = self._rows_of_products(node)
            source = self.map_of(x)
        emit_convolution(self.emitter, conv, source, self.new_map(node.output))

    def _rows_of_products(self, node: Node) -> Convolution:
        """A linear operator whose rows are pixels."""
        weights = self.graph.of(node, 1).data
        assert weights is not None
        return self._product(node, weights[:, None, None, :])

    def _add(self, node: Node) -> None:
        self._of_pair(node)

    def _mul(self, node: Node) -> None:
        self._of_pair(node)

    def _sub(self, node: Node) -> None:
        self._of_pair(node)

    def _maximum(self, node: Node) -> None:
        self._of_pair(node)

    def _minimum(self, node: Node) -> None:
        self._of_pair(node)

    def _of_pair(self, node: Node) -> None:
        if self.alone(node):
            self._whole(node)
            return
        shape = map_shape(self.graph.output(node).shape)
        operands = [self.spread(name, shape) for name in node.inputs]
        self._pairs[node.op](node, operands, self.in_place(node))

    @property
    def _pairs(self) -> dict[str, Callable[[Node, list[FeatureMap], FeatureMap | None], None]]:
        """What appends operators of two maps."""
        return {"add": self.append_sum, "sub": self.append_sum, "mul": self.append_product,
                "maximum": self.append_extreme, "minimum": self.append_extreme}

    def _after(self, node: Node) -> Node | None:
        """The sum or pooling that takes a node's result next, and can follow it piece by piece."""
        number = self.numbers[node.name] + 1
        after = self.graph.nodes[number] if number < len(self.graph.nodes) else None
        if not self.fused or after is None or len(self.consumers(node.output)) > 1 or (
                node.output in self.graph.outputs or node.output not in after.inputs):
            return None
        if after.op in ("average_pool", "max_pool"):
            try:
                self._pooling(after)
            except Unsupported:
                return None
            return after
        if after.op not in SUMS:
            return None
        names = list(after.inputs)
        if names.count(node.output) != 1:
            return None
        other = names[1 - names.index(node.output)]
        # Not where pieces of the sum would replace what the node still reads.
        shapes = {self.graph.tensors[name].shape for name in names}
        ready = len(shapes) == 1 and self.root(other) in self.maps and (
            self.heirs.get(after.output) != self.root(node.inputs[0]))
        return after if ready else None

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
        sources = [self.map_of(name) for name in node.inputs
                   if self.graph.tensors[name].data is None]
        banded.emit(sources, self.new_map(node.output),
                    (banded.down.before, banded.across.before))

    def _softmax(self, node: Node) -> None:
        x, exact, rooms = self.graph.of(node, 0), None, []
        scale, step = x.scale * node["beta"], max(1, self.config.vector.rows // RECORDS)
        source, target = self.map_of(x.name), self.new_map(node.output)
        if self.exact:
            if node["rounding"] != "twice":
                raise Unsupported("must be compiled as close, not as exact: the core's powers of e "
                                  "are within one unit of the graph's")
            exact = shares_of(scale, x.shape[-1])
            step, rooms = self._rooms(len(KINDS), 4 * source.planes,
                                      min(step, source.shape[2]))
        emit_softmax(self.emitter, source, target, scale=scale, step=step, exact=exact,
                     rooms=rooms)
        self._give_rooms(len(rooms))

    # In bands.

    def _banded(self, node: Node) -> Banded | None:
        """How an operator is done in bands of rows, where it can be."""
        if node.op in ("average_pool", "max_pool"):
            return self._pool(node)
        if node.op in ("conv", "linear"):
            return self._conv_in_bands(node)
        if node.op == "transposed_conv":
            return self._transposed_in_bands(node)
        emit = {"unary": self.append_table, "clip": self.append_table,
                "convert": self.append_scaled, **self._pairs}.get(node.op)
        if node.op in PAIRS and self.alone(node):
            emit = self.append_table
        return None if emit is None else Banded(
            emit=lambda maps, target, missing: emit(node, maps, target))

    def _pool(self, node: Node) -> Banded:
        pooling = self._pooling(node)

        def emit(maps: list[FeatureMap], target: FeatureMap, missing: tuple[int, int]) -> None:
            emit_pooling(self.emitter, replace(
                pooling, padding=missing, outputs=target.shape[1:3]), maps[0], target)
        down, across = (Window(size=size, stride=step, before=before) for size, step, before in zip(
            node["kernel"], node["stride"], pooling.padding, strict=True))
        return Banded(down=down, across=across, emit=emit)

    def _pooling(self, node: Node) -> Pooling:
        """The windows of a pooling on the whole map."""
        (top, _), (left, _) = node["pads"]
        x, made = self.graph.of(node, 0), self.graph.output(node)
        pooling = Pooling(
            average=node.op == "average_pool", window=node["kernel"], stride=node["stride"],
            padding=(top, left), outputs=map_shape(made.shape)[1:3],
            clamp=limits(node["activation"], made))
        if self.exact and pooling.average:
            if node["rounding"] == "even" and (x.scale, x.zero_point) != (
                    made.scale, made.zero_point):
                raise Unsupported(f"averages must have the scale of what they are of, not {made}")
            _check_averages(pooling, map_shape(x.shape),
                            x.zero_point if node["rounding"] == "even" else None)
        return pooling

    def _transposed_in_bands(self, node: Node) -> Banded:
        phases = list(phases_of(self.graph, node))
        windows = []
        for axis in range(2):
            low = min(phase.low[axis] for phase in phases)
            high = max(phase.low[axis] + phase.weights.shape[1 + axis] for phase in phases)
            windows.append(Spread(size=high - low, stride=node["stride"][axis], before=-low))
        down, across = windows
        return Banded(
            down=down, across=across, fill=self.graph.of(node, 0).zero_point, steps=node["stride"],
            emit=lambda maps, target, missing: self._emit_phases(node, maps[0], target, (
                missing[0] - down.before, missing[1] - across.before)))

    def _conv_in_bands(self, node: Node) -> Banded:
        conv = (self._rows_of_products(node) if node.op == "linear" else self._convolution(node))
        down, across = (Window(size=size, stride=step, dilation=apart, before=before)
                        for size, step, apart, (before, _) in zip(
                            conv.weights.shape[1:3], conv.stride, conv.dilation, conv.pads,
                            strict=True))

        def emit(maps: list[FeatureMap], target: FeatureMap, missing: tuple[int, int]) -> None:
            emit_convolution(self.emitter, replace(conv, pads=maps[0].border), maps[0], target)
        return Banded(down=down, across=across, emit=emit, fill=self.graph.of(node, 0).zero_point)



def _centred(weights: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """Weights less their zero points as columns of a kernel of one, which all meet the same pixel:
    numbers of 9 bits as sums of such of 8."""
    if weights.shape[2] != 1:
        raise Unsupported("zero points of weights must be 0 for kernels of several columns")
    whole = weights.astype(np.int16) - zero_point.reshape(-1, 1, 1, 1).astype(np.int16)
    parts = [whole.clip(*RANGES["int8"])]
    while (whole := whole - parts[-1]).any():
        parts.append(whole.clip(*RANGES["int8"]))
    return np.concatenate(parts, 2).astype(np.int8)


def _check_averages(pooling: Pooling, shape: Shape, even: int | None) -> None:
    """Raise ``Unsupported`` where an average could be rounded otherwise than halves away from 0,
    or seen from the zero point ``even`` to even."""
    counts = {height * width for _, height in pooling.spans(0, shape[1])
              for _, width in pooling.spans(1, shape[2])}
    for count in counts:
        sums = np.arange(-128 * count, 127 * count + 1)
        wanted = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
        if even is not None:
            wanted = np.rint(sums / count - even) + even
        if not np.array_equal(averages(sums, count), wanted):
            raise Unsupported(f"averages of {count} numbers must be rounded as the core does, "
                              f"whose multiplier is not exact")
