"""Operators that move elements: concatenation, padding, transposition.

What can is written where it belongs as it is made (``lives.py``); what begins with a plane of
channels is copied there by the vector unit; everything else goes through system memory.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..models.graph import Node
from ..vector.tables import byte_table
from .elementwise import Elementwise
from .lives import change_of, map_shape, parts_of
from .maps import Border, FeatureMap, NoRoom, Shape, View
from .places import Change
from .pointwise import emit_copy, emit_table

__all__ = ["Arranging"]


class Arranging(Elementwise):
    """Appends operators that move elements."""

    def _reshape(self, node: Node) -> None:
        self.aliases[node.output] = self.root(node.inputs[0])

    def _transpose(self, node: Node) -> None:
        ahead = 4 - len(node["order"])
        order = [*range(ahead), *(axis + ahead for axis in node["order"])]
        shape = map_shape(self.graph.of(node, 0).shape)
        view = self.to_memory(node.inputs[0], keep=True)
        self.aside[node.output] = View(
            address=view.address, shape=_four([shape[axis] for axis in order]),
            strides=_four([view.strides[axis] for axis in order]))

    def _concat(self, node: Node) -> None:
        parts = parts_of(self.graph, node)
        changes = [self._change(change_of(self.graph, node, number))
                   for number in range(len(parts))]
        if self.config.vector.elementwise and all(
                self.channels.aligned(first[3]) for _, first in parts):
            def gather() -> None:
                whole = self.maps.get(node.output) or self.new_map(node.output)
                there = self.parts(node.output)
                for (name, first), change in zip(parts, changes, strict=True):
                    if name not in there:
                        shape = map_shape(self.graph.tensors[name].shape)
                        self._bring(name, whole.part(first, shape), change)
            if self._fits(gather):
                return
        for name in self.parts(node.output):
            self.to_memory(name)
        if node.output in self.maps:
            self.forget_map(node.output)
        self._in_memory([(name, first, change) for (name, first), change in zip(
            parts, changes, strict=True)], self.reserve(node.output))

    def _pad(self, node: Node) -> None:
        source, made = self.graph.of(node, 0), self.graph.output(node)
        before = _four([0] * (4 - len(made.shape)) + [pair[0] for pair in node["pads"]])
        behind = _four([0] * (4 - len(made.shape)) + [pair[1] for pair in node["pads"]])
        pads = (before[1], behind[1]), (before[2], behind[2])

        def around() -> None:
            if made.name in self.grown:
                found = self.map_of(source.name)
                self.fill_border(source.name)
                self.maps[made.name] = replace(
                    self.maps.pop(source.name), shape=map_shape(made.shape),
                    border=_less(found.border, pads))
                self.space.hand_over(source.name, made.name)
            else:
                whole = self.new_map(made.name)
                inside = replace(whole, shape=map_shape(source.shape),
                                 border=_more(whole.border, pads))
                self._bring(source.name, inside, None)
                self.emitter.fill_border(inside, made.zero_point)
            self.kept.add(made.name)
            self.filled.add(made.name)

        if not (before[0] or behind[0] or before[3] or behind[3]) and (
                made.name in self.grown or self.config.vector.elementwise) and self._fits(around):
            return
        padding = np.full(made.elements, made.zero_point, np.int8)
        self.aside[made.name] = View.dense(self.regions.keep(padding.tobytes()),
                                           map_shape(made.shape))
        self._in_memory([(source.name, before, None)], self.aside[made.name])

    def _change(self, values: np.ndarray | None) -> Change | None:
        if values is None:
            return None
        table = byte_table(lambda _: values.astype(np.float64))
        return lambda source, target: emit_table(self.emitter, source, target, table)

    def _fits(self, append: Callable[[], None]) -> bool:
        """Append commands; none where there is no room."""
        state = self.state()
        try:
            append()
        except NoRoom:
            self.restore(state)
            return False
        return True

    def _bring(self, name: str, target: FeatureMap, change: Change | None) -> None:
        """Have a tensor in a part of a map."""
        if self.root(name) not in self.maps or self.maps[self.root(name)].shape != target.shape:
            self.transfer("load", self.to_memory(name, keep=True), target)
            if change is not None:
                change(target, target)
        elif change is not None:
            change(self.map_of(name), target)
        else:
            emit_copy(self.emitter, self.map_of(name), target)

    def _in_memory(self, parts: list[tuple[str, Shape, Change | None]], whole: View) -> None:
        """Put a tensor together in system memory."""
        left = []
        for name, first, change in parts:
            size = map_shape(self.graph.tensors[name].shape)
            found = self.maps.get(self.root(name))
            if change is None and found is not None and found.shape == size:
                self.transfer("store", whole.part(first, size), found)
            else:
                left.append((self.to_memory(name), whole.part(first, size), change))
        self.kept = set()
        for source, target, change in left:
            self.copy(source, target, change)


def _four(values: list[int]) -> Shape:
    images, height, width, depth = values
    return images, height, width, depth


def _more(border: Border, pads: Border, sign: int = 1) -> Border:
    (top, bottom), (left, right) = ([one + sign * other for one, other in zip(
        *pair, strict=True)] for pair in zip(border, pads, strict=True))
    return (top, bottom), (left, right)


def _less(border: Border, pads: Border) -> Border:
    return _more(border, pads, -1)
