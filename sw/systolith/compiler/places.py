"""Where the tensors of a graph lie while its operators are done one after the other."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
from systolith_hw.config import CoreConfig

from ..image import Tensor
from ..models.graph import Graph, Node
from ..regions import Regions
from .depthwise import Folding, folding_of
from .emitter import Emitter
from .maps import Border, Channels, FeatureMap, Folded, NoRoom, Space

__all__ = ["NO_PADS", "Places", "Shape", "Unsupported", "map_shape"]

Shape = tuple[int, int, int, int]
NO_PADS: Border = ((0, 0), (0, 0))


class Unsupported(ValueError):
    """An operator that is not for the core; says why."""


def map_shape(shape: Sequence[int]) -> Shape:
    """Images, height, width and channels of a tensor."""
    if len(shape) > 4:
        raise Unsupported(f"tensors must have at most 4 dimensions, not {tuple(shape)!r}")
    images, height, width, depth = (1,) * (4 - len(shape)) + tuple(shape)
    return images, height, width, depth


class Places:
    """Maps in the activation scratchpad and tensors in system memory, from node to node.

    What is not needed soon goes to system memory where the scratchpad is full, and comes back when
    it is taken.

    Parameters
    ----------
    graph : Graph
    config : CoreConfig
    spread : float
        Banks of the scratchpad: maps up to this size are spread over its banks.

    Members
    -------
    maps : dict of str to FeatureMap or Folded
        Tensors that lie in the scratchpad.
    foldings : dict of str to Folding
        Of tensors that lie there in cells, for the convolution that takes them.
    aliases : dict of str to str
        Tensors that are the elements of another one.
    aside : dict of str to (int, shape)
        Tensors in system memory: address, and images, height, width and channels.
    kept : set of str
        Maps that the current node needs.
    filled : set of str
        Maps whose borders hold the zero point.
    current : Node
    spilled : int
        Maps that were moved to system memory.
    """
    def __init__(self, graph: Graph, config: CoreConfig, *, spread: float):
        self.graph, self.config = graph, config
        self.regions = Regions()
        self.emitter = Emitter(config, self.regions)
        self.channels = Channels.of(config)
        # A row is left to commands that only wait.
        bank_rows = config.memory.act_rows // config.memory.act_banks
        self.space = Space("memory.act_rows", config.memory.act_rows - 1, bank_rows=bank_rows,
                           spread=int(spread * bank_rows))
        self.spilled = 0
        self.maps: dict[str, FeatureMap | Folded] = {}
        self.aliases: dict[str, str] = {}
        self.numbers = {node.name: number for number, node in enumerate(self.graph.nodes)}
        self.filled: set[str] = set()   # maps whose borders are
        self.kept: set[str] = set()     # maps that the current node needs
        self.aside: dict[str, tuple[int, Shape]] = {}   # in system memory: address and shape
        self.last = self._last_uses()
        self.heirs = self._heirs()
        self.foldings = self._foldings()
        self.borders = self._borders()
        self.inputs: dict[str, Tensor] = {}
        self.current: Node = graph.nodes[0]

    def _last_uses(self) -> dict[str, int]:
        """Number of the last node that takes each tensor, also by its aliases."""
        last: dict[str, int] = {}
        of: dict[str, str] = {}
        for number, node in enumerate(self.graph.nodes):
            for name in node.inputs:
                last[of.get(name, name)] = number
            if node.op == "reshape":
                of[node.output] = of.get(node.inputs[0], node.inputs[0])
        for name in self.graph.outputs:
            last[of.get(name, name)] = len(self.graph.nodes)
        return last

    def consumers(self, name: str) -> list[Node]:
        return [node for node in self.graph.nodes if name in node.inputs]

    def _heirs(self) -> dict[str, str]:
        """For each sum the operand in whose place it is written: one that nothing takes later,
        the older of two."""
        makers = {node.output: number for number, node in enumerate(self.graph.nodes)}
        heirs = {}
        for number, node in enumerate(self.graph.nodes):
            if node.op == "add":
                ending = [name for name in node.inputs if self.last.get(name) == number
                          and self.graph.tensors[name].data is None]
                if ending:
                    heirs[node.output] = min(ending, key=lambda name: makers.get(name, -1))
        return heirs

    def _foldings(self) -> dict[str, Folding]:
        """Of what one convolution makes for one that takes each channel by itself."""
        graph, found = self.graph, {}
        for node in graph.nodes:
            if node.op != "conv" or node.output in graph.outputs or node.output in self.heirs:
                continue
            takers = self.consumers(node.output)
            taker = takers[0]
            depth = graph.output(node).shape[-1]
            if len(takers) > 1 or taker.op != "conv" or not (
                    taker["groups"] == depth == graph.output(taker).shape[-1]):
                continue
            weights = graph.of(taker, 1)
            folding = folding_of(
                made=map_shape(graph.output(taker).shape), kernel=weights.shape[1:3],
                stride=taker["stride"], dilation=taker["dilation"], pads=taker["pads"],
                config=self.config, weights=self.format_of(weights.dtype))
            if folding is not None:
                found[node.output] = folding
        return found

    def format_of(self, dtype: str) -> str:
        """The format in which the core has weights."""
        return dtype if dtype in self.config.array.weights else "int8"

    def _borders(self) -> dict[str, Border]:
        """The most padding that convolutions read around each tensor, or what is written in its
        place."""
        borders = {}
        for name in self.graph.tensors:
            pads = [node["pads"] for node in self.consumers(name) if node.op == "conv"]
            borders[name] = _most([NO_PADS, *pads])
        for name, folding in self.foldings.items():
            made = self.consumers(name)[0].output
            borders[made] = _most([borders[made], folding.margin])
        for node in reversed(self.graph.nodes):
            if node.op == "reshape":    # the same map
                source = node.inputs[0]
                borders[source] = _most([borders[source], borders[node.output]])
        for made in reversed([node.output for node in self.graph.nodes]):
            if made in self.heirs:
                before = self.heirs[made]
                borders[before] = _most([borders[before], borders[made]])
        for node in self.graph.nodes:
            if node.output in self.heirs:
                borders[node.output] = borders[self.heirs[node.output]]
        return borders

    def new_map(self, name: str, shape: Shape | None = None) -> FeatureMap:
        """Room in the scratchpad for a tensor, or for its elements in another shape.

        Raises
        ------
        NoRoom
        """
        tensor = self.graph.tensors[name]
        if tensor.dtype != "int8":
            raise Unsupported(f"tensor {name!r} must be int8, not {tensor.dtype}")
        made = FeatureMap(shape=shape or map_shape(tensor.shape), channels=self.channels,
                          border=self.borders[name])
        self.kept.add(name)
        made = replace(made, base=self.take(name, made.rows))
        self.maps[name] = made
        return made

    def new_cells(self, name: str) -> tuple[Folded, Callable[[], None]]:
        """Room in the scratchpad for a tensor in cells, and what fills those around it.

        Raises
        ------
        NoRoom
        """
        tensor = self.graph.tensors[name]
        made = self.foldings[name].map_of(map_shape(tensor.shape), self.channels)
        self.kept.add(name)
        known = set(self.space.marks)
        made = made.at(self.take(name, made.rows))
        self.maps[name] = made
        filled = made, tensor.zero_point
        self.space.mark(name, filled)

        def fill() -> None:
            if filled not in known:
                self.emitter.fill_border(made.cells, tensor.zero_point)
        return made, fill

    def cells_of(self, name: str) -> Folded:
        """The map of a tensor in cells; loaded where it is in system memory."""
        if name not in self.maps:
            made, fill = self.new_cells(name)
            fill()
            self.transfer("load", self.aside[name][0], made)
        found = self.maps[name]
        assert isinstance(found, Folded)
        return found

    def fill_border(self, name: str) -> None:
        """Fill the border of a map that a convolution is about to read for the first time.

        Not sooner, because the loads behind it would wait for those who read what was there.
        """
        root = self.root(name)
        found = self.map_of(name)
        if root not in self.filled and found.border != NO_PADS:
            self.emitter.fill_border(found, self.graph.tensors[root].zero_point)
        self.filled.add(root)

    def root(self, name: str) -> str:
        return self.aliases.get(name, name)

    def map_of(self, name: str) -> FeatureMap:
        """The map of a tensor; loaded where it is in system memory."""
        root = self.root(name)
        if root not in self.maps:
            self._load(root, name)
        found = self.maps[root]
        assert isinstance(found, FeatureMap)
        shape = map_shape(self.graph.tensors[name].shape)
        if shape == found.shape:
            return found
        if prod(shape[:3]) == prod(found.shape[:3]) == 1:
            return replace(found, shape=shape)
        # Through system memory, where elements follow each other.
        address = self.regions.take(prod(shape))
        self.transfer("store", address, found)
        self.aliases.pop(name)
        self.aside[name] = address, shape
        self.last[name] = max(number for number, node in enumerate(self.graph.nodes)
                              if name in node.inputs)
        made = self.new_map(name)
        self.transfer("load", address, made)
        return made

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
        """Load an input, or what was put aside, into a map of the shape of ``name``."""
        if root in self.aside:
            address, shape = self.aside[root]
            made = self.new_map(root, shape)
        else:
            if root not in self.inputs:
                self.input_of(root)
            address = self.inputs[root].address
            made = self.new_map(root, map_shape(self.graph.tensors[name].shape))
        self.transfer("load", address, made)

    def take(self, owner: str, rows: int) -> int:
        """Rows of the scratchpad; what is not needed for the longest goes to system memory."""
        while True:
            try:
                return self.space.take(owner, rows)
            except NoRoom:
                now = self.numbers[self.current.name]
                idle = {name: self._next_use(name, now) for name in self.maps
                        if name not in self.kept}
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
        """Move a map to system memory."""
        values = self.maps.pop(name)
        self.spilled += 1
        if name not in self.aside:
            self.aside[name] = self.regions.take(prod(values.shape)), values.shape
            self.transfer("store", self.aside[name][0], values)
        self.space.give(name)
        self.filled.discard(name)

    def to_memory(self, name: str) -> None:
        """Have a tensor in system memory, and not in the scratchpad."""
        root = self.root(name)
        if root in self.maps:
            self.put_aside(root)
        elif root not in self.aside:
            self.input_of(root)
            self.aside[root] = (self.inputs[root].address,
                                map_shape(self.graph.tensors[root].shape))
        if root != name:    # the same elements
            address, _ = self.aside[root]
            self.aside[name] = address, map_shape(self.graph.tensors[name].shape)

    def reserve(self, name: str) -> Shape:
        """Take system memory for a tensor that is about to be made there; its shape."""
        shape = map_shape(self.graph.tensors[name].shape)
        self.aside[name] = self.regions.take(prod(shape)), shape
        return shape

    def state(self) -> dict[str, Any]:
        """Everything that appending commands changes, for ``restore``."""
        return {
            "places": {name: copy(getattr(self, name)) for name in (
                "maps", "aliases", "filled", "kept", "aside", "last", "inputs")},
            "space": dict(self.space.used), "marks": dict(self.space.marks),
            "next": dict(self.emitter.next_row),
            "half": self.emitter.half, "commands": len(self.emitter.program.commands),
            "end": self.regions.end, "segments": len(self.regions.segments)}

    def restore(self, state: dict[str, Any]) -> None:
        """Have everything as it was."""
        for name, value in state["places"].items():
            setattr(self, name, copy(value))
        self.space.used, self.space.marks = dict(state["space"]), dict(state["marks"])
        self.emitter.next_row, self.emitter.half = dict(state["next"]), state["half"]
        del self.emitter.program.commands[state["commands"]:]
        self.regions.end = state["end"]
        del self.regions.segments[state["segments"]:]

    def transfer(self, kind: str, address: int, values: FeatureMap | Folded) -> None:
        """Between a dense tensor in system memory and a map."""
        images, height, width, depth = values.shape
        channels, size = values.channels, self.config.act_row_bytes
        if isinstance(values, Folded):
            fold, cells = values.fold, values.cells
            for (plane, first), (place, ys, xs) in product(
                    enumerate(range(0, depth, fold.depth)),
                    fold.phases(range(height), range(width))):
                self.emitter.transfer(
                    kind, [(len(xs), fold.across * depth, size),
                           (len(ys), fold.down * width * depth, cells.across * size),
                           (images, height * width * depth, cells.planes * cells.plane * size)],
                    row=values.row(0, plane, ys.start, xs.start), byte=place * fold.depth,
                    address=address + (ys.start * width + xs.start) * depth + first,
                    run_bytes=min(fold.depth, depth - first))
            return
        # Whole rows of channels, or where there are gaps, units of them.
        step = channels.width if channels.dense else channels.unit
        for first in range(0, depth, step):
            slot = channels.slot(first)
            plane, byte = divmod(slot, channels.width)
            self.emitter.transfer(
                kind, [(width, depth, size), (height, width * depth, values.across * size),
                       (images, height * width * depth, values.planes * values.plane * size)],
                row=values.row(0, plane), byte=byte, address=address + first,
                run_bytes=min(step, depth - first))

    def output_of(self, name: str) -> Tensor:
        """A tensor in system memory, where it is put if it is not there.

        Any shape of the same elements, one after the other, is the same in memory.
        """
        root, tensor = self.root(name), self.graph.tensors[name]
        if root not in self.maps and root not in self.aside:
            self._load(root, root)
        if root in self.maps:
            made = self.regions.tensor(name, tensor.shape, "int8")
            self.transfer("store", made.address, self.maps[root])
            return made
        strides = [prod(tensor.shape[axis + 1:]) for axis in range(len(tensor.shape))]
        return Tensor(name=name, address=self.aside[root][0], shape=tensor.shape, dtype="int8",
                      strides=tuple(strides))

    def forget(self, number: int) -> None:
        """Give back maps that no node behind node ``number`` takes."""
        node = self.graph.nodes[number]
        for name in {self.root(name) for name in (*node.inputs, node.output)}:
            if self.last.get(name, -1) <= number and name in self.maps:
                self.space.give(name)
                del self.maps[name]


def _most(borders: Sequence[Border]) -> Border:
    """The largest of each side."""
    (top, bottom), (left, right) = ([max(border[axis][side] for border in borders)
                                     for side in range(2)] for axis in range(2))
    return (top, bottom), (left, right)
