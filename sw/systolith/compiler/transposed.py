"""Transposed convolutions as convolutions: one for each place of a result within the stride."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..models.graph import Graph, Node
from .lives import taps_of
from .maps import FeatureMap

__all__ = ["Phase", "phases_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase:
    """Results at ``first`` and every stride from there on, down and across.

    Parameters
    ----------
    first : tuple of int
    weights : int8 array, (outputs, kernel height, kernel width, channels of a group)
        Of a convolution with a stride of 1.
    low : tuple of int
        Row and column of the source under the kernel's first, for the first result.
    """
    first: tuple[int, int]
    weights: np.ndarray
    low: tuple[int, int]

    def part(self, target: FeatureMap, stride: tuple[int, int]) -> FeatureMap | None:
        """Its results in a map of all, or None where there are none."""
        images, *size, depth = target.shape
        height, width = (-(-(most - one) // step) for most, one, step in zip(
            size, self.first, stride, strict=True))
        if min(height, width) < 1:
            return None
        return target.part((0, *self.first, 0), (images, height, width, depth), stride)


def phases_of(graph: Graph, node: Node) -> Iterator[Phase]:
    """The convolutions that a transposed one is."""
    weights = graph.of(node, 1).data
    assert weights is not None
    axes = [list(enumerate(taps_of(size, step, dilation, before)))
            for size, step, dilation, (before, _) in zip(
                weights.shape[1:3], node["stride"], node["dilation"], node["pads"], strict=True)]
    for (y, rows), (x, cols) in product(*axes):
        low = min(rows.values(), default=0), min(cols.values(), default=0)
        size = [max(taps.values(), default=0) - first + 1
                for taps, first in zip((rows, cols), low, strict=True)]
        part = np.zeros((len(weights), *size, weights.shape[3]), weights.dtype)
        for (row, place), (col, across) in product(rows.items(), cols.items()):
            part[:, place - low[0], across - low[1]] = weights[:, row, col]
        yield Phase(first=(y, x), weights=part, low=low)
