"""Convolutions of each channel by itself.

Of a K tile that holds a pixel's channels such a convolution needs the diagonal. Where rows of the
scratchpad hold cells of several pixels of fewer channels, and columns of the array do too, a tile
has the products of many pixels of a window: the same activations meet fewer tiles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import lcm

import numpy as np
from systolith_hw.config import CoreConfig

from ..cycles import Bus
from ..layout import Packing
from .convolution import Convolution
from .emitter import Emitter
from .maps import Border, Channels, FeatureMap, Fold, Folded
from .tiles import Loaded, Tile, Walk, drain

__all__ = ["Axis", "Folding", "emit_depthwise", "folding_of"]

LESS = 0.9      # cycles, as a share of those without folding, that make it worth it


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Outputs along one axis as patches, their inputs as cells.

    Parameters
    ----------
    size, kernel, stride, dilation, pad : int
        Outputs, and the window; ``pad`` in front.
    cell, patch : int
        Inputs of a cell, outputs of a patch.
    early : int
        By how many outputs the first patch begins before the first output.

    Members
    -------
    period : int
        Outputs from a patch to the next that lies in the same way to its cells.
    step : int
        Cells from one to the other.
    phases : int
        Patches of a period.
    """
    size: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    cell: int
    patch: int
    early: int

    @property
    def period(self) -> int:
        return lcm(self.patch * self.stride, self.cell) // self.stride

    @property
    def step(self) -> int:
        return self.period * self.stride // self.cell

    @property
    def phases(self) -> int:
        return self.period // self.patch

    def first(self, phase: int) -> int:
        """First output of the first patch of a phase; it may lie before all outputs."""
        return phase * self.patch - self.early

    def patches(self, phase: int) -> int:
        """Patches of a phase."""
        return max(0, -((self.first(phase) - self.size) // self.period))

    def inputs(self, phase: int) -> np.ndarray:
        """What the first patch of a phase reads, (outputs, kernel)."""
        outputs = self.first(phase) + np.arange(self.patch)
        return (outputs[:, None] * self.stride - self.pad
                + np.arange(self.kernel) * self.dilation)

    def cells(self, phase: int) -> range:
        """Cells that it reads."""
        needed = self.inputs(phase) // self.cell
        return range(int(needed.min()), int(needed.max()) + 1)

    def _used(self) -> Iterator[int]:
        return (phase for phase in range(self.phases) if self.patches(phase))

    def border(self, size: int) -> tuple[int, int]:
        """Cells that are read before and behind those of ``size`` inputs."""
        first = min(self.cells(phase).start for phase in self._used())
        end = max(self.cells(phase).stop + (self.patches(phase) - 1) * self.step
                  for phase in self._used())
        return max(0, -first), max(0, end + size // -self.cell)

    @cached_property
    def margin(self) -> tuple[int, int]:
        """Outputs that are made before the first and behind the last, and mean nothing."""
        end = max(self.first(phase) + (self.patches(phase) - 1) * self.period + self.patch
                  for phase in self._used())
        return self.early, max(0, end - self.size)


@dataclass(frozen=True, kw_only=True)
class Folding:
    """How a convolution of each channel by itself is done on cells.

    Parameters
    ----------
    down, across : Axis
    depth : int
        Channels of a cell.
    """
    down: Axis
    across: Axis
    depth: int

    @property
    def fold(self) -> Fold:
        """The cells."""
        return Fold(down=self.down.cell, across=self.across.cell, depth=self.depth)

    @property
    def margin(self) -> Border:
        """Results that are made around the map."""
        return self.down.margin, self.across.margin

    @property
    def phases(self) -> Iterator[tuple[int, int]]:
        """Phases of both axes that have patches."""
        return ((y, x) for y, x in product(range(self.down.phases), range(self.across.phases))
                if self.down.patches(y) and self.across.patches(x))

    def cycles(self, channels: int, config: CoreConfig, load: float) -> float:
        """Cycles of the array for an image with those of the loads of its weights, ``load`` for
        each tile; or those of the vector unit, if they are more."""
        pixels = {phase: self.down.patches(phase[0]) * self.across.patches(phase[1])
                  for phase in self.phases}
        tiles = sum(len(self.down.cells(y)) * len(self.across.cells(x))
                    * (max(config.array.rows, count) + load) for (y, x), count in pixels.items())
        groups = (sum(pixels.values()) * self.down.patch * self.across.patch
                  * self.depth // config.vector.lanes)
        return -(-channels // self.depth) * max(tiles, groups)

    def map_of(self, shape: tuple[int, int, int, int], channels: Channels) -> Folded:
        """The map that is read."""
        return Folded.of(shape, self.fold, channels, (
            self.down.border(shape[1]), self.across.border(shape[2])))


def folding_of(*, made: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
               dilation: Sequence[int], pads: Border, config: CoreConfig,
               weights: str, bus: Bus | None) -> Folding | None:
    """The folding that takes the fewest cycles of the array and of the bus that its weights come by
    together, or of the vector unit, or None where that is hardly fewer than without.

    Parameters
    ----------
    made : sequence of int
        Images, height, width and channels of the results.
    weights : str
        Their format.
    bus : Bus or None
        The memory that they come from; None where they are there.
    """
    rows, lanes = config.array.rows, config.vector.lanes
    cols, width = Packing(config, weights).cols, rows // lanes * lanes
    unit = cols // lanes * lanes
    if not unit:
        return None
    packing = Packing(config, weights)
    words = packing.rows(rows, rows) * packing.row_bytes(unit) / config.bus.data_bytes
    load = words / bus.words if bus is not None else 0
    plain = max(-(-made[3] // min(unit, width)) * kernel[0] * kernel[1] * (
        max(rows, made[1] * made[2]) + load), made[1] * made[2] * -(-made[3] // lanes))
    found: list[tuple[float, int, Folding]] = []
    for down, across in product(range(1, width + 1), repeat=2):
        depth = width // (down * across) // lanes * lanes
        if down * across == 1 or not depth or width % depth or down > made[1] or across > made[2]:
            continue
        most = unit // depth
        for patch in product(range(1, most + 1), repeat=2):
            if patch[0] * patch[1] > most:
                continue
            for early in product(range(patch[0]), range(patch[1])):
                folding = Folding(depth=depth, **{name: Axis(
                    size=made[1 + axis], kernel=kernel[axis], stride=stride[axis],
                    dilation=dilation[axis], pad=pads[axis][0], cell=(down, across)[axis],
                    patch=patch[axis], early=early[axis])
                    for axis, name in enumerate(("down", "across"))})
                found.append((folding.cycles(made[3], config, load), len(found), folding))
    best = min(found, default=(plain, 0, None))
    return best[2] if best[0] < LESS * plain else None


def emit_depthwise(emitter: Emitter, conv: Convolution, folding: Folding, source: Folded,
                   target: FeatureMap) -> None:
    """Append a convolution of each channel by itself.

    Parameters
    ----------
    source : Folded
        As ``folding`` has it.
    target : FeatureMap
        With the folding's margin as border, which is written too.
    """
    config, packing = emitter.config, Packing(emitter.config, conv.weight_format)
    down, across, depth = folding.down, folding.across, folding.depth
    lanes, per_row, pitch = config.vector.lanes, emitter.groups_per_row, config.acc_group_pitch
    channels = len(conv.weights)
    each = depth // lanes
    for plane, first in enumerate(range(0, channels, depth)):
        every = np.tile(np.minimum(first + np.arange(depth), channels - 1),
                        down.patch * across.patch)
        param = emitter.load_parameters(conv.bias[every], conv.multiplier[every],
                                        conv.shift[every])
        slot = target.channels.slot(first)
        tiles = {(y, x): Loaded(emitter, packing, _tile(
            conv, folding, plane, y, x, source, config.array.rows)) for y, x in folding.phases}
        for tile in tiles.values():
            tile.load()
        # What follows can begin with the first rows of the last plane.
        last = first + depth >= channels
        most = max(down.patches(y) for y, _ in tiles)
        width = min(max(across.patches(x) for _, x in tiles), emitter.half_rows)
        height = min(-(-most // (1 + last)), emitter.half_rows // width)
        for image, j, i, (y, x) in product(
                range(source.shape[0]), range(0, most, height),
                range(0, max(across.patches(x) for _, x in tiles), width), tiles):
            tall, wide = min(height, down.patches(y) - j), min(width, across.patches(x) - i)
            if min(tall, wide) <= 0:
                continue
            acc = emitter.turn(tall * wide)
            tile = tiles[y, x]
            base = (tile.tile.base + image * source.cells.image
                    + j * down.step * source.cells.across + i * across.step)
            tile.execute(base=base, acc=acc, strip=[
                (wide, across.step), (tall, down.step * source.cells.across)])
            result = target.row(
                image, slot // target.channels.width, down.first(y) + j * down.period,
                across.first(x) + i * across.period)
            drain(emitter, conv.results, source=acc * pitch, param=param,
                  result=result * per_row + slot % target.channels.width // lanes,
                  columns=[Walk(each, 1, 1), Walk(across.patch, each, target.beside * per_row),
                           Walk(down.patch, across.patch * each, target.across * per_row)],
                  pixels=[Walk(wide, pitch, across.period * target.beside * per_row),
                          Walk(tall, wide * pitch, down.period * target.across * per_row)])


def _tile(conv: Convolution, folding: Folding, plane: int, y: int, x: int, source: Folded,
          height: int) -> Tile:
    """Weights of the channels of a plane for patches of phases ``y`` and ``x``."""
    down, across, depth = folding.down, folding.across, folding.depth
    cells = down.cells(y), across.cells(x)
    weights = conv.weights[plane * depth:(plane + 1) * depth, :, :, 0]
    tiles = np.zeros((*map(len, cells), height, down.patch, across.patch, depth), np.int8)
    channel = np.arange(len(weights))
    for (a, ky), (b, kx) in product(np.ndindex(down.patch, down.kernel),
                                    np.ndindex(across.patch, across.kernel)):
        row, col = down.inputs(y)[a, ky], across.inputs(x)[b, kx]
        pixel = row % down.cell * across.cell + col % across.cell
        tiles[row // down.cell - cells[0].start, col // across.cell - cells[1].start,
              pixel * depth + channel, a, b, channel] = weights[:, ky, kx]
    return Tile(weights=tiles.reshape(len(cells[0]) * len(cells[1]), height, -1), last=height,
                loops=[(len(cells[1]), 1), (len(cells[0]), source.cells.across)],
                base=source.cells.row(0, plane, cells[0].start, cells[1].start))
