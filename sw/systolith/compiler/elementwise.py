"""Operators on each element, of one map or of two."""

from itertools import product

import numpy as np
from systolith_hw.config import CoreConfig

from ..cycles import Bus
from ..model.arithmetic import requantise
from ..models.evaluate import computed
from ..models.graph import Graph, Node
from ..models.integers import ADD_BITS, limits
from ..quantise import quantise_multiplier
from ..vector.tables import byte_table
from .lives import Unsupported
from .maps import FeatureMap, NoRoom
from .places import Places
from .pointwise import Sum, emit_extreme, emit_product, emit_scaled, emit_table, piece_rows
from .sums import TwoPasses, every_pair, product_scale, two_passes

__all__ = ["Elementwise"]


class Elementwise(Places):
    """Appends operators on each element.

    Members
    -------
    fast : dict of str to TwoPasses or None
        Of sums, by node.
    scales : dict of str to (int, int) or None
        Of products, by node.
    """
    def __init__(self, graph: Graph, config: CoreConfig, *, bus: Bus, stay: bool,
                 spread: float):
        super().__init__(graph, config, bus=bus, stay=stay, spread=spread)
        self.fast: dict[str, TwoPasses | None] = {}
        self.scales: dict[str, tuple[int, int] | None] = {}

    def alone(self, node: Node) -> bool:
        """Whether one operand is a single constant, so that the other decides the result."""
        return any(tensor.data is not None and tensor.elements == 1
                   for tensor in (self.graph.of(node, number) for number in range(2)))

    def append_product(self, node: Node, operands: list[FeatureMap],
                       target: FeatureMap | None) -> None:
        """Append a product of two maps.

        Raises
        ------
        NoRoom
        Unsupported
            Some pair's product would come out differently.
        """
        graph = self.graph
        a, b, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
        clamp = limits(node["activation"], made, node["rounding"])
        if node.name not in self.scales:    # once, and not for every band
            scale = float(np.float32(a.scale) * np.float32(b.scale) / np.float32(made.scale))
            self.scales[node.name] = product_scale(
                computed(graph, node, *every_pair()), scale,
                zero_points=(a.zero_point, b.zero_point), zero_point=made.zero_point, clamp=clamp)
        multiplier = self.scales[node.name]
        if multiplier is None:
            raise Unsupported("products must be those of the core's rounding for every pair of "
                              "int8, and are with no multiplier")
        emit_product(self.emitter, operands, target or self.new_map(node.output),
                     multiplier=multiplier, offsets=(-a.zero_point, -b.zero_point),
                     out_zero_point=made.zero_point, clamp=clamp)

    def append_extreme(self, node: Node, operands: list[FeatureMap],
                       target: FeatureMap | None) -> None:
        """Append the greater or smaller of two maps; raises as ``append_product``."""
        computed(self.graph, node, *every_pair())   # their scales are one
        emit_extreme(self.emitter, operands, target or self.new_map(node.output),
                     largest=node.op == "maximum")

    def append_sum(self, node: Node, maps: list[FeatureMap],
                   target: FeatureMap | None = None) -> None:
        """Append a sum or difference of two maps; raises as ``append_product``."""
        whole = self.sum_of(node, maps, target)
        images, height, _, _ = whole.target.shape
        for image, plane in product(range(images), range(whole.target.planes)):
            whole.add(image, plane, range(height))
        self.end_sum(whole)

    def sum_of(self, node: Node, operands: list[FeatureMap],
               target: FeatureMap | None = None) -> Sum:
        """What appends a sum or difference, with its temporaries, and where it has none its map."""
        graph = self.graph
        a, b, made = graph.of(node, 0), graph.of(node, 1), graph.output(node)
        clamp = limits(node["activation"], made, node["rounding"])
        if node.name not in self.fast:      # once, and not for every band
            self.fast[node.name] = two_passes(
                computed(graph, node, *every_pair()), scales=(a.scale, b.scale),
                zero_points=(a.zero_point, b.zero_point), out_scale=made.scale,
                out_zero_point=made.zero_point, clamp=clamp,
                subtract=node.op == "sub") if self.config.vector.multiply else None
        fast = self.fast[node.name]
        if fast is None and node["rounding"] != "twice":
            raise Unsupported("sums must be those of the core's rounding for every pair of int8, "
                              "and are with no weight")
        target = target or self.in_place(node) or self.new_map(node.output)
        step, rooms = self._rooms(4 if fast is None else 2, 4 * target.shape[2],
                                  piece_rows(self.emitter, target))
        twice = 2.0 * max(a.scale, b.scale)
        scales = [_pair(value) for value in (a.scale / twice, b.scale / twice, twice / (
            (1 << ADD_BITS) * made.scale))]
        return Sum(self.emitter, operands, rooms, step, target, fast=fast, left_shift=ADD_BITS,
                   offsets=(-a.zero_point, -b.zero_point), multipliers=(scales[0], scales[1]),
                   out_multiplier=scales[2], out_zero_point=made.zero_point, clamp=clamp,
                   subtract=node.op == "sub")

    def end_sum(self, whole: Sum) -> None:
        """Append the rest of a sum and give back its temporaries."""
        whole.flush()
        self._give_rooms(len(whole.rooms))

    def in_place(self, node: Node) -> FeatureMap | None:
        """The map of the operand in whose place a result is written."""
        heir = self.heirs.get(node.output)
        if heir is None or heir not in self.maps:
            return None
        self.kept.add(node.output)
        self.maps[node.output] = self.maps.pop(heir)
        self.space.hand_over(heir, node.output)
        return self.maps[node.output]

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

    def of_bytes(self, node: Node) -> np.ndarray:
        """What an operator on each element makes of -128 to 127."""
        every = np.arange(-128, 128, dtype=np.int8)
        found = [every if (data := self.graph.tensors[name].data) is None else data
                 for name in node.inputs]
        return computed(self.graph, node, *found).reshape(-1)

    def append_table(self, node: Node, maps: list[FeatureMap], target: FeatureMap) -> None:
        """Append a function of each element of a map."""
        values = self.of_bytes(node).astype(np.float64)
        emit_table(self.emitter, maps[0], target, byte_table(lambda _: values))

    def append_scaled(self, node: Node, maps: list[FeatureMap], target: FeatureMap) -> None:
        """Append a change of scale and zero point."""
        x, made = self.graph.of(node, 0), self.graph.output(node)
        scale = _pair(x.scale / made.scale)
        every = np.arange(-128, 128) - x.zero_point
        if not np.array_equal(self.of_bytes(node), requantise(
                every, *map(np.array, scale), zero_point=made.zero_point)):
            self.append_table(node, maps, target)
            return
        emit_scaled(self.emitter, maps[0], target, scale=scale, zero_point=x.zero_point,
                    out_zero_point=made.zero_point)


def _pair(scale: float) -> tuple[int, int]:
    multiplier, shift = quantise_multiplier(scale)
    return int(multiplier[0]), int(shift[0])
