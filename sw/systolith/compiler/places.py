"""Where the tensors of a graph lie while its operators are done one after the other."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig

from ..cycles import Bus
from ..image import Tensor
from ..models.graph import Graph, Node
from ..regions import Regions
from ..tiling import MAX_RUN_BYTES
from .emitter import Emitter
from .lives import NO_PADS, Lives, Share, map_shape
from .maps import FeatureMap, Folded, NoRoom, Shape, Space, View

__all__ = ["Change", "Places"]

Change = Callable[[FeatureMap, FeatureMap], None]


class Places(Lives):
    """Maps in the activation scratchpad and tensors in system memory, from node to node.

    What is not needed soon goes to system memory where the scratchpad is full, and comes back when
    it is taken.

    Parameters
    ----------
    graph, config, bus, stay
        As ``Lives`` has them.
    spread : float
        Banks of the scratchpad: maps up to this size are spread over its banks.

    Members
    -------
    maps : dict of str to FeatureMap
        Tensors that lie in the scratchpad.
    cells : dict of str to Folded
        Those that lie there in cells.
    aliases : dict of str to str
        Tensors that are the elements of another one.
    aside : dict of str to View
        Tensors in system memory.
    kept : set of str
        Maps that the current node needs.
    filled : set of str
        Maps whose borders hold the zero point.
    current : Node
    spilled : int
        Maps that were moved to system memory.
    """
    def __init__(self, graph: Graph, config: CoreConfig, *, bus: Bus, stay: bool,
                 spread: float):
        super().__init__(graph, config, bus=bus, stay=stay)
        self.spilled = 0
        self.regions = Regions()
        self.emitter = Emitter(config, self.regions, stay=stay)
        # A row is left to commands that only wait.
        bank_rows = config.memory.act_rows // config.memory.act_banks
        self.space = Space("memory.act_rows", config.memory.act_rows - 1, bank_rows=bank_rows,
                           spread=int(spread * bank_rows))
        self.maps: dict[str, FeatureMap] = {}
        self.cells: dict[str, Folded] = {}
        self.aliases: dict[str, str] = {}
        self.numbers = {node.name: number for number, node in enumerate(self.graph.nodes)}
        self.made = {node.output: number for number, node in enumerate(self.graph.nodes)}
        self.filled: set[str] = set()   # maps whose borders are
        self.kept: set[str] = set()     # maps that the current node needs
        self.aside: dict[str, View] = {}    # in system memory
        self.inputs: dict[str, Tensor] = {}
        self.current: Node = graph.nodes[0]
        self.lent: list[str] = []

    def new_map(self, name: str, shape: Shape | None = None) -> FeatureMap:
        """Room in the scratchpad for a tensor, or for its elements in another shape.

        Raises
        ------
        NoRoom
        """
        share = self.shares.get(name)
        shape = shape or map_shape(self.graph.tensors[name].shape)
        if share is not None:
            made = self._part(name, share, shape)
            if made is not None:
                return made
        made = FeatureMap(shape=shape, channels=self.channels, border=self.borders[name])
        self.kept.add(name)
        made = replace(made, base=self.take(name, made.rows))
        self.maps[name] = made
        return made

    def _part(self, name: str, share: Share, shape: Shape) -> FeatureMap | None:
        """The place of a tensor in what it becomes a part of, where there is room for that."""
        whole = self.maps.get(share.whole)
        if whole is None and self.numbers[self.current.name] > self.made[share.whole]:
            return None
        try:
            whole = whole or self.new_map(share.whole)
        except NoRoom:
            self._part_from(share.whole)
            return None
        self.kept |= {name, share.whole}
        self.maps[name] = whole.part(share.first, shape)
        return self.maps[name]

    def _part_from(self, whole: str) -> None:
        """Let tensors that would be parts of another one be maps of their own."""
        self.shares = {name: share for name, share in self.shares.items() if share.whole != whole}

    def new_cells(self, name: str) -> tuple[Folded, Callable[[], None]]:
        """Room in the scratchpad for a tensor in cells, and what fills those around it.

        Raises
        ------
        NoRoom
        """
        tensor = self.graph.tensors[name]
        made = self.foldings[name].map_of(map_shape(tensor.shape), self.channels)
        known = set(self.space.marks)
        made = made.at(self.take(name, made.rows))
        self.cells[name] = made
        filled = made, tensor.zero_point
        self.space.mark(name, filled)

        def fill() -> None:
            if filled not in known:
                self.emitter.fill_border(made.cells, tensor.zero_point)
        return made, fill

    def fill_border(self, name: str) -> None:
        """Fill the border of a map that a convolution is about to read for the first time.

        Not sooner, because the loads behind it would wait for those who read what was there.
        """
        root = self.root(name)
        if root not in self.filled and self.maps[root].border != NO_PADS:
            self.emitter.fill_border(self.maps[root], self.graph.tensors[root].zero_point)
        self.filled.add(root)

    def root(self, name: str) -> str:
        return self.aliases.get(name, name)

    def map_of(self, name: str) -> FeatureMap:
        """The map of a tensor; loaded where it is in system memory."""
        root = self.root(name)
        if root not in self.maps:
            self._load(root, name)
        found = self.maps[root]
        shape = map_shape(self.graph.tensors[name].shape)
        if shape == found.shape:
            return found
        if prod(shape[:3]) == prod(found.shape[:3]) == 1:
            return replace(found, shape=shape)
        # Through system memory, where elements follow each other.
        address = self.regions.take(prod(shape))
        self.transfer("store", View.dense(address, found.shape), found)
        self.aliases.pop(name)
        self.aside[name] = View.dense(address, shape)
        self.last[name] = max(number for number, node in enumerate(self.graph.nodes)
                              if name in node.inputs)
        self.transfer("load", self.aside[name], self.new_map(name))
        return self.maps[name]

    def spread(self, name: str, shape: Shape) -> FeatureMap:
        """A tensor as a map of ``shape``, the same for every index along dimensions that are 1."""
        if map_shape(self.graph.tensors[name].shape) == shape:
            return self.map_of(name)
        view = self.to_memory(name).spread(shape)
        made = FeatureMap(shape=shape, channels=self.channels)
        self.lent.append(f"{name} spread")
        made = replace(made, base=self.take(self.lent[-1], made.rows))
        self.transfer("load", view, made)
        return made

    def give_back(self) -> None:
        """Give back the maps that ``spread`` made."""
        for owner in self.lent:
            self.space.give(owner)
        self.lent = []

    def input_of(self, name: str, pads=NO_PADS) -> Tensor:
        """An input of the graph in system memory, with room for padding around it."""
        tensor = self.graph.tensors[name]
        images, height, width, depth = map_shape(tensor.shape)
        (top, bottom), (left, right) = pads
        pitch = (left + width + right) * depth
        plane = (top + height + bottom) * pitch
        data = np.full(images * plane, tensor.zero_point, np.int8) if pads != NO_PADS else None
        start = self.regions.keep(data.tobytes()) if data is not None else (
            self.regions.take(images * plane))
        strides = (plane, pitch, depth, 1)
        first = start + top * pitch + left * depth
        given = tensor.shape if len(tensor.shape) else (1,)
        self.inputs[name] = Tensor(name=name, address=first, shape=given, dtype="int8",
                                   strides=strides[4 - len(given):], gap=tensor.zero_point)
        return Tensor(name=name, address=start, dtype="int8", strides=(pitch, depth, 1),
                      shape=(top + height + bottom, left + width + right, depth))

    def _load(self, root: str, name: str) -> None:
        """Load a constant, an input, or what was put aside; an input as a map of the shape of
        ``name``."""
        view = self.aside.get(root) or self._given(root)
        if root in self.inputs:
            view = View.dense(view.address, map_shape(self.graph.tensors[name].shape))
        self.transfer("load", view, self.new_map(root, view.shape))

    def _given(self, root: str) -> View:
        """A constant or an input in system memory."""
        tensor = self.graph.tensors[root]
        shape = map_shape(tensor.shape)
        if tensor.data is not None:
            self.aside[root] = View.dense(self.regions.keep(tensor.data.tobytes()), shape)
            return self.aside[root]
        if root not in self.inputs:
            self.input_of(root)
        return View.dense(self.inputs[root].address, shape)

    def take(self, owner: str, rows: int) -> int:
        """Rows of the scratchpad; what is not needed for the longest goes to system memory."""
        while True:
            try:
                return self.space.take(owner, rows)
            except NoRoom:
                now = self.numbers[self.current.name]
                kept = self.kept | {self.shares[name].whole for name in self.kept
                                    if name in self.shares}
                idle = {name: self._next_use(name, now) for name in self.maps
                        if name not in kept and name in self.space.used}
                if not idle:
                    raise
                name = max(idle, key=lambda name: idle[name])
                self.put_aside(name)

    def _next_use(self, name: str, now: int) -> int:
        """Number of the node that takes a tensor, or one of its aliases, next."""
        return next((number for number, node in enumerate(self.graph.nodes)
                     if number >= now and name in map(self.root, node.inputs)),
                    len(self.graph.nodes))

    def put_aside(self, name: str) -> None:
        """Move a map to system memory; of one whose parts are not all there, those that are."""
        self.spilled += 1
        parts = self.parts(name)
        if parts and self.numbers[self.current.name] <= self.made[name]:
            for part in parts:
                self.put_aside(part)
            self._part_from(name)
        else:
            self._stored(name)
            for part in parts:      # whoever takes one later takes it from there
                shape = self.maps[part].shape
                self.aside.setdefault(part, self.aside[name].part(self.shares[part].first, shape))
                self.forget_map(part)
        self.forget_map(name)

    def parts(self, whole: str) -> list[str]:
        """Maps that are parts of another one."""
        return [name for name, share in self.shares.items()
                if share.whole == whole and name in self.maps
                and self.maps[name].within is not None]

    def forget_map(self, name: str) -> None:
        """Have a tensor no more in the scratchpad."""
        del self.maps[name]
        self.filled.discard(name)
        if name in self.space.used:     # otherwise it is a part
            self.space.give(name)

    def _stored(self, name: str) -> None:
        """Have a map also in system memory."""
        if name not in self.aside:
            values = self.maps[name]
            self.aside[name] = View.dense(self.regions.take(prod(values.shape)), values.shape)
            self.transfer("store", self.aside[name], values)

    def _stored_cells(self, name: str) -> None:
        """Move a map in cells to system memory."""
        values = self.cells.pop(name)
        fold, cells, size = values.fold, values.cells, self.config.act_row_bytes
        _, height, width, depth = values.shape
        view = self.aside[name] = View.dense(self.regions.take(prod(values.shape)), values.shape)
        image, down, across, _ = view.strides
        for (plane, first), (place, ys, xs) in product(
                enumerate(range(0, depth, fold.depth)),
                fold.phases(range(height), range(width))):
            self.emitter.transfer(
                "store", [(len(xs), fold.across * across, size),
                          (len(ys), fold.down * down, cells.across * size),
                          (values.shape[0], image, cells.image * size)],
                row=values.row(0, plane, ys.start, xs.start), byte=place * fold.depth,
                address=view.part((0, ys.start, xs.start, first), view.shape).address,
                run_bytes=min(fold.depth, depth - first))
        self.space.give(name)

    def to_memory(self, name: str, *, keep: bool = False) -> View:
        """Have a tensor in system memory, and not in the scratchpad but with ``keep``."""
        root = self.root(name)
        if root in self.maps:
            self._stored(root)
            if not keep:
                self.forget_map(root)
        elif root in self.cells:
            self._stored_cells(root)
        elif root not in self.aside:
            self.aside[root] = self._given(root)
        if root != name:    # the same elements
            self.aside[name] = View.dense(self.dense(root).address,
                                          map_shape(self.graph.tensors[name].shape))
        return self.aside[name]

    def dense(self, name: str) -> View:
        """A tensor in system memory with its elements one after the other."""
        view = self.aside[name]
        if not view.is_dense:
            self.aside[name] = View.dense(self.regions.take(prod(view.shape)), view.shape)
            self.copy(view, self.aside[name])
        return self.aside[name]

    def copy(self, source: View, target: View, change: Change | None = None) -> None:
        """Move elements from one place of system memory to another through the scratchpad.

        Parameters
        ----------
        change : callable or None
            Appends what is done with them on the way, in a map.
        """
        images, height, width, depth = source.shape
        rows = height
        while True:
            part = FeatureMap(shape=(1, rows, width, depth), channels=self.channels)
            try:
                part = replace(part, base=self.take("copied", part.rows))
                break
            except NoRoom:
                if rows == 1:
                    raise
                rows = -(-rows // 2)
        for image, y in product(range(images), range(0, height, rows)):
            band = range(y, min(height, y + rows))
            here = replace(part, shape=(1, len(band), width, depth))
            self.transfer("load", source.rows(image, band), here)
            if change is not None:
                change(here, here)
            self.transfer("store", target.rows(image, band), here)
        self.space.give("copied")

    def reserve(self, name: str) -> View:
        """Take system memory for a tensor that is about to be made there."""
        shape = map_shape(self.graph.tensors[name].shape)
        self.aside[name] = View.dense(self.regions.take(prod(shape)), shape)
        return self.aside[name]

    def state(self) -> dict[str, Any]:
        """Everything that appending commands changes, for ``restore``."""
        return {
            "places": {name: copy(getattr(self, name)) for name in (
                "maps", "cells", "aliases", "filled", "kept", "aside", "last", "inputs", "lent",
                "shares")},
            "space": dict(self.space.used), "marks": dict(self.space.marks),
            "emitter": self.emitter.state(),
            "end": self.regions.end, "segments": len(self.regions.segments)}

    def restore(self, state: dict[str, Any]) -> None:
        """Have everything as it was."""
        for name, value in state["places"].items():
            setattr(self, name, copy(value))
        self.space.used, self.space.marks = dict(state["space"]), dict(state["marks"])
        self.emitter.restore(state["emitter"])
        self.regions.end = state["end"]
        del self.regions.segments[state["segments"]:]

    def transfer(self, kind: str, view: View, values: FeatureMap) -> None:
        """Between a tensor in system memory and a map of its shape."""
        images, height, width, depth = view.shape
        channels, size = values.channels, self.config.act_row_bytes
        rows = values.image, values.across, values.beside
        walks = [(count, step, pitch * size) for count, step, pitch in zip(
            view.shape[:3], view.strides[:3], rows, strict=True)]
        # Whole rows of channels, or where there are gaps, units of them.
        unit = channels.width if channels.dense else channels.unit
        along = next((axis for axis in (3, 2, 1) if view.shape[axis] > 1 == view.strides[axis]), 3)
        for first in range(0, depth, unit):
            count = min(unit, depth - first)
            plane, byte = divmod(channels.slot(first), channels.width)
            where: dict[str, Any] = {
                "row": values.row(0, plane), "byte": byte,
                "address": view.address + first * view.strides[3]}
            if along == 3 and (view.strides[3] == 1 or count == 1):
                self.emitter.transfer(kind, walks[::-1], run_bytes=count, **where)
                continue
            # Bytes that follow each other in memory go to a row each.
            others = [*walks, (count, view.strides[3], 1)]
            run = others.pop(along)[0] if along != 3 else 1
            others.sort(reverse=True)
            where |= {"row_bytes": 1, "row_step": rows[along]} if along != 3 else {}
            for start in range(0, run, MAX_RUN_BYTES):
                here = dict(where, row=where["row"] + start * where.get("row_step", 0),
                            address=where["address"] + start)
                self.emitter.transfer(kind, others, run_bytes=min(run - start, MAX_RUN_BYTES),
                                      **here)

    def output_of(self, name: str) -> Tensor:
        """A tensor in system memory, where it is put if it is not there."""
        tensor = self.graph.tensors[name]
        view = self.to_memory(name, keep=True)
        if tuple(view.shape) == map_shape(tensor.shape):
            return Tensor(name=name, address=view.address, shape=tensor.shape, dtype="int8",
                          strides=view.strides[4 - len(tensor.shape):])
        strides = [prod(tensor.shape[axis + 1:]) for axis in range(len(tensor.shape))]
        return Tensor(name=name, address=self.dense(self.root(name)).address, shape=tensor.shape,
                      dtype="int8", strides=tuple(strides))

    def forget(self, number: int) -> None:
        """Give back maps that no node behind node ``number`` takes."""
        node = self.graph.nodes[number]
        for name in {self.root(name) for name in (*node.inputs, node.output)}:
            if self.last.get(name, -1) <= number and name in self.maps:
                for part in self.parts(name):
                    self.forget_map(part)
                self.forget_map(name)
            elif self.last.get(name, -1) <= number and name in self.cells:
                del self.cells[name]
                self.space.give(name)
