"""What is known of the tensors of a graph before any has a place: who takes each last, which are
written in the place of another, and the padding around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from systolith_hw.config import CoreConfig

from ..cycles import Bus
from ..models.evaluate import computed
from ..models.graph import PAIRS, Graph, Node
from .depthwise import Folding, folding_of
from .maps import Border, Channels, Shape

__all__ = ["NO_PADS", "Lives", "Share", "Unsupported", "change_of", "map_shape", "parts_of",
           "taps_of"]

NO_PADS: Border = ((0, 0), (0, 0))
ALIASES = ("reshape", "transpose", "pad", "concat")     # that make no map of their own


class Unsupported(ValueError):
    """An operator that is not for the core; says why."""


def map_shape(shape: Sequence[int]) -> Shape:
    """Images, height, width and channels of a tensor."""
    if len(shape) > 4:
        raise Unsupported(f"tensors must have at most 4 dimensions, not {tuple(shape)!r}")
    images, height, width, depth = (1,) * (4 - len(shape)) + tuple(shape)
    return images, height, width, depth


@dataclass(frozen=True, kw_only=True)
class Share:
    """Where in a concatenation one of its inputs is written at once."""
    whole: str
    first: Shape


def parts_of(graph: Graph, node: Node) -> list[tuple[str, Shape]]:
    """Inputs of a concatenation, and where each begins in it."""
    axis = node["axis"] + 4 - len(graph.output(node).shape)
    found, done = [], 0
    for name in node.inputs:
        first = tuple(done if dimension == axis else 0 for dimension in range(4))
        found.append((name, first))
        done += map_shape(graph.tensors[name].shape)[axis]
    return found


def change_of(graph: Graph, node: Node, number: int) -> np.ndarray | None:
    """What a concatenation makes of -128 to 127 of one input; None where they stay the same."""
    every = np.arange(-128, 128, dtype=np.int8)
    shape = [1] * len(graph.output(node).shape)
    shape[node["axis"]] = -1
    alone = Node(name=node.name, op=node.op, inputs=(node.inputs[number],), output=node.output,
                 attributes=node.attributes)
    made = computed(graph, alone, every.reshape(shape)).reshape(-1)
    return None if np.array_equal(made, every) else made


def taps_of(kernel: int, stride: int, dilation: int, before: int) -> list[dict[int, int]]:
    """Of a transposed convolution along one dimension, for each place of a result within the
    stride: which of the kernel's weights meet which pixel, counted from the result's."""
    return [{weight: (place + before - weight * dilation) // stride for weight in range(kernel)
             if (place + before - weight * dilation) % stride == 0} for place in range(stride)]


def padding_of(graph: Graph, node: Node) -> Border:
    """Pixels that a node reads around its source."""
    if node.op == "conv":
        return node["pads"]
    if node.op != "transposed_conv":
        return NO_PADS
    sizes = zip(graph.of(node, 0).shape[1:3], graph.output(node).shape[1:3],
                graph.of(node, 1).shape[1:3], node["stride"], node["dilation"], node["pads"],
                strict=True)
    sides = []
    for size, made, kernel, stride, dilation, (before, _) in sizes:
        taps = taps_of(kernel, stride, dilation, before)
        low = min((place for one in taps for place in one.values()), default=0)
        # Empty ones are a weight of 0 under the pixel itself.
        ends = [(made - 1 - number) // stride + max(one.values(), default=0)
                for number, one in enumerate(taps)]
        sides.append((max(0, -low), max(0, max(ends) - size + 1)))
    top, left = sides
    return top, left


class Lives:
    """The lives of a graph's tensors.

    Parameters
    ----------
    graph : Graph
    config : CoreConfig
    bus : Bus
        The memory that the core has.
    stay : bool
        Whether weights stay in the core from run to run.

    Members
    -------
    last : dict of str to int
        Number of the last node that takes each tensor, also by its aliases.
    shares : dict of str to Share
        Of what is written into a concatenation as it is made.
    grown : dict of str to str
        For each padded tensor the one around which the padding is written in its place.
    heirs : dict of str to str
        For each sum or product the operand in whose place it is written: one that nothing takes
        later, the older of two.
    foldings : dict of str to Folding
        Of what a convolution makes for one behind it that takes each channel by itself.
    borders : dict of str to Border
        The most padding that convolutions read around each tensor, or what is written in its place.
    """
    def __init__(self, graph: Graph, config: CoreConfig, *, bus: Bus, stay: bool):
        self.graph, self.config, self.channels = graph, config, Channels.of(config)
        self.bus, self.stay = bus, stay
        self.last = self._last_uses()
        self.shares = self._shares()
        for _ in range(2):      # a whole as long as its parts, and they as long as it
            for name, share in self.shares.items():
                longest = max(self.last[name], self.last[share.whole])
                self.last[name] = self.last[share.whole] = longest
        self.grown = self._grown()
        self.heirs = self._heirs()
        self.foldings = self._foldings()
        self.borders = self._borders()

    def format_of(self, dtype: str) -> str:
        """The format in which the core has weights."""
        return dtype if dtype in self.config.array.weights else "int8"

    def consumers(self, name: str) -> list[Node]:
        return [node for node in self.graph.nodes if name in node.inputs]

    def _last_uses(self) -> dict[str, int]:
        last: dict[str, int] = {}
        of: dict[str, str] = {}
        for number, node in enumerate(self.graph.nodes):
            for name in node.inputs:
                last[of.get(name, name)] = number
            if node.op == "reshape":
                of[node.output] = of.get(node.inputs[0], node.inputs[0])
        for name in self.graph.outputs:
            last[of.get(name, name)] = len(self.graph.nodes)
        for name in self.graph.tensors:
            last.setdefault(name, -1)
        return last

    def _shares(self) -> dict[str, Share]:
        makers = {node.output: node.op for node in self.graph.nodes}
        shares: dict[str, Share] = {}
        for node in self.graph.nodes:
            if node.op != "concat" or len(self.graph.output(node).shape) > 4:
                continue
            parts = parts_of(self.graph, node)
            if not all(self.channels.aligned(first[3]) for _, first in parts):
                continue
            beside = any(first[3] for _, first in parts)     # planes with one border
            for number, (name, first) in enumerate(parts):
                if makers.get(name, "concat") not in ALIASES and name not in shares and (
                        node.inputs.count(name) == 1) and (
                        beside or len(self.consumers(name)) == 1) and (
                        change_of(self.graph, node, number) is None):
                    shares[name] = Share(whole=node.output, first=first)
        return shares

    def _grown(self) -> dict[str, str]:
        grown = {}
        for number, node in enumerate(self.graph.nodes):
            if node.op != "pad" or len(self.graph.output(node).shape) != 4:
                continue
            source, made = self.graph.of(node, 0), self.graph.output(node)
            if source.data is None and self.last[source.name] == number and (
                    source.name not in self.shares and self.makers_alias(source.name) is None
                    and not any(node["pads"][0] + node["pads"][3])
                    and source.quantisation is not None and made.quantisation is not None
                    and source.zero_point == made.zero_point):
                grown[made.name] = source.name
        return grown

    def makers_alias(self, name: str) -> str | None:
        """The tensor whose elements another one is, where a reshape makes it."""
        return next((node.inputs[0] for node in self.graph.nodes
                     if node.output == name and node.op == "reshape"), None)

    def _heirs(self) -> dict[str, str]:
        tensors = self.graph.tensors
        makers = {node.output: number for number, node in enumerate(self.graph.nodes)}
        heirs = {}
        for number, node in enumerate(self.graph.nodes):
            if node.op in PAIRS and node.output not in self.shares:
                ending = [name for name in node.inputs if self.last.get(name) == number
                          and tensors[name].data is None and name not in self.shares
                          and tensors[name].shape == tensors[node.output].shape]
                if ending:
                    heirs[node.output] = min(ending, key=lambda name: makers.get(name, -1))
        return heirs

    def _foldings(self) -> dict[str, Folding]:
        graph, found = self.graph, {}
        for node, taker in pairwise(graph.nodes):
            made = graph.output(taker)
            if node.op != "conv" or taker.op != "conv" or taker.inputs[0] != node.output or (
                    node.output in graph.outputs or made.name in self.shares):
                continue
            if len(self.consumers(node.output)) > 1 or not (
                    taker["groups"] == graph.output(node).shape[-1] == made.shape[-1]):
                continue
            weights = graph.of(taker, 1)
            if self.format_of(weights.dtype) not in self.config.array.weights:
                continue
            folding = folding_of(
                made=map_shape(made.shape), kernel=weights.shape[1:3], stride=taker["stride"],
                dilation=taker["dilation"], pads=taker["pads"], config=self.config,
                weights=self.format_of(weights.dtype), bus=None if self.stay else self.bus)
            if folding is not None:
                found[node.output] = folding
        return found

    def _borders(self) -> dict[str, Border]:
        borders = {name: most([NO_PADS, *(
            padding_of(self.graph, node) for node in self.consumers(name))])
            for name in self.graph.tensors}
        for name, folding in self.foldings.items():
            made = self.consumers(name)[0].output
            borders[made] = most([borders[made], folding.margin])
        pads = {node.output: node["pads"][1:3] for node in self.graph.nodes
                if node.output in self.grown}
        equal = [*self.heirs.items(), *((name, share.whole) for name, share in self.shares.items()
                                        if self._beside(share))]
        while True:
            before = dict(borders)
            for node in reversed(self.graph.nodes):
                made, source = borders[node.output], node.inputs[0]
                if node.op == "reshape":    # the same map
                    borders[source] = most([borders[source], made])
                if node.output in self.grown:
                    borders[source] = most([borders[source], _sum(made, pads[node.output])])
            for one, other in equal:
                borders[one] = borders[other] = most([borders[one], borders[other]])
            if borders == before:
                return borders

    def _beside(self, share: Share) -> bool:
        """Whether the inputs of a concatenation have its height and width."""
        return all(other.first[:3] == (0, 0, 0) for other in self.shares.values()
                   if other.whole == share.whole)


def most(borders: Sequence[Border]) -> Border:
    """The largest of each side."""
    (top, bottom), (left, right) = ([max(border[axis][side] for border in borders)
                                     for side in range(2)] for axis in range(2))
    return (top, bottom), (left, right)


def _sum(a: Border, b: Border) -> Border:
    (top, bottom), (left, right) = ([a[axis][side] + b[axis][side] for side in range(2)]
                                    for axis in range(2))
    return (top, bottom), (left, right)
