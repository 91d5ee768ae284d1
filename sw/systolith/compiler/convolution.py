"""Convolutions: weights stay, activations stream past them from where they lie.

The outer loops of the activation stream walk kernel rows, kernel columns and planes of channels,
each of their steps another weight tile, so that nothing is copied. Where an image has few channels
its pixels are gathered on their way into the scratchpad, so that a row holds those under all
columns of the kernel, and some of its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from ..image import Tensor
from ..layout import Packing
from ..model.address import loop_offsets
from ..transfers import Bus, RunCosts
from .emitter import Emitter
from .maps import FeatureMap, Folded
from .tiles import Loaded, Results, Tile, Walk, drain, strip_height

__all__ = ["Convolution", "Gather", "Gathered", "emit_convolution"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """``clamp(requantise(sum of products + bias))`` under a window of weights.

    Parameters
    ----------
    weights : int8 array, (outputs, kernel height, kernel width, channels of a group)
    bias : int array, (outputs,)
        With the zero point of the source times the weights folded in.
    multiplier, shift : int array, (outputs,)
    zero_point : int
        Of the results.
    clamp : tuple of int
    stride, dilation : tuple of int
        Down and across.
    pads : pairs of int
        Before and after, down and across.
    groups : int
    weight_format : str
    """
    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    zero_point: int = 0
    clamp: tuple[int, int] = (-128, 127)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    groups: int = 1
    weight_format: str = "int8"

    @property
    def results(self) -> Results:
        """What results are made as."""
        return Results(zero_point=self.zero_point, clamp=self.clamp)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Pixels under all columns of a kernel, and ``deep`` of its rows, in each scratchpad row.

    Row ``j * width + x`` holds what the output column x needs of the padded image's rows from
    ``j * step`` on.

    Parameters
    ----------
    height, width : int
        Rows and columns of the output.
    kernel : tuple of int
    stride : int
        Down.
    deep : int
        Kernel rows in a scratchpad row.
    pixel : int
        Bytes of the kernel's columns.
    base : int
        First scratchpad row.
    """
    height: int
    width: int
    kernel: tuple[int, int]
    stride: int
    deep: int
    pixel: int
    base: int = 0

    @classmethod
    def of(cls, conv: Convolution, height: int, width: int, row_bytes: int) -> "Gathered | None":
        """How a convolution gathers an image, or None where that saves nothing."""
        _, kernel_rows, kernel_cols, depth = conv.weights.shape
        pixel = kernel_cols * depth
        if pixel > row_bytes or kernel_cols == 1 or conv.dilation != (1, 1) or conv.groups > 1:
            return None
        deep = min(kernel_rows, row_bytes // pixel)
        while deep > 1 and deep % conv.stride[0] and deep < kernel_rows:
            deep -= 1
        return cls(height=height, width=width, kernel=(kernel_rows, kernel_cols),
                   stride=conv.stride[0], deep=deep, pixel=pixel)

    @property
    def tiles(self) -> int:
        """Scratchpad rows under a kernel."""
        return -(-self.kernel[0] // self.deep)

    @property
    def step(self) -> int:
        """Image rows from a row of scratchpad rows to the next."""
        return self.stride if self.tiles == 1 or self.deep % self.stride == 0 else 1

    @property
    def down(self) -> int:
        """Rows of scratchpad rows."""
        return ((self.height - 1) * self.stride + (self.tiles - 1) * self.deep) // self.step + 1

    @property
    def rows(self) -> int:
        return self.down * self.width


Then = Callable[[int, int, range], None]


class Gather:
    """Loads of a gathered image, as far as they are needed.

    Parameters
    ----------
    source : Tensor
        (height, width, channels) in system memory, with the padding around it, dense within a row.
    stride : int
        Across.
    bus : Bus
        The memory that it comes from.
    """
    def __init__(self, emitter: Emitter, source: Tensor, gathered: Gathered, *, stride: int,
                 bus: Bus):
        self.emitter, self.source, self.gathered = emitter, source, gathered
        self.stride, self.bus = stride, bus
        self.costs = RunCosts(emitter.config)
        self.done = 0

    def until(self, row: int) -> None:
        """Load what the output's rows before ``row`` need."""
        gathered = self.gathered
        end = ((row - 1) * gathered.stride + (gathered.tiles - 1) * gathered.deep
               ) // gathered.step + 1
        # The last rows reach over the image's end where the kernel's last tile is not full.
        whole = (self.source.shape[0] - gathered.deep) // gathered.step + 1
        if self.done < min(end, whole):
            self._load(self.done, min(end, whole) - self.done, gathered.deep)
        for first in range(max(self.done, whole), end):
            self._load(first, 1, self.source.shape[0] - first * gathered.step)
        self.done = max(self.done, end)

    def _load(self, first: int, count: int, deep: int) -> None:
        gathered, size = self.gathered, self.emitter.config.act_row_bytes
        pitch, pixel, _ = self.source.strides
        down = [(deep, pitch, gathered.pixel),
                (count, gathered.step * pitch, gathered.width * size)]
        # A run for the pixels under the kernel of each output, or for those of all outputs under
        # each column of the kernel, which are beside each other in memory.
        ways: list[dict[str, Any]] = [
            {"loops": [(gathered.width, self.stride * pixel, size), *down],
             "run_bytes": gathered.pixel, "row_bytes": gathered.pixel}]
        if self.stride == 1:
            ways.append({"loops": [(gathered.pixel // pixel, pixel, pixel), *down],
                         "run_bytes": gathered.width * pixel, "row_bytes": pixel})
        address = self.source.address + first * gathered.step * pitch
        self.emitter.transfer(
            "load", row=gathered.base + first * gathered.width, address=address,
            **min(ways, key=lambda way: self._cycles(address, **way)))

    def _cycles(self, address: int, loops: Sequence[tuple[int, int, int]], run_bytes: int,
                row_bytes: int) -> float:
        """What loads take of the bus, or of the scratchpad if that is more."""
        counts, strides, _ = zip(*loops, strict=True)
        addresses = address + loop_offsets(counts, strides)
        words, pieces = self.costs.at(addresses, run_bytes, row_bytes)
        return len(addresses) * max(words / self.bus.words, pieces)


def emit_convolution(emitter: Emitter, conv: Convolution, source: FeatureMap | Gathered,
                     target: FeatureMap | Folded, *, gather: Gather | None = None,
                     before: Callable[[], None] | None = None, then: Then | None = None,
                     strips_first: bool = False) -> None:
    """Append a convolution.

    Parameters
    ----------
    source : FeatureMap or Gathered
        A map with at least the convolution's padding as border.
    gather : Gather or None
        Of a gathered source.
    target : FeatureMap or Folded
    before : callable or None
        Called when the first results are about to be written.
    then : callable or None
        Called with image, plane and rows of pixels whose commands have been appended.
    strips_first : bool
        Whether pixels get all their channels before the next ones any, if all weights fit: so that
        fewer are needed at first, or what ``then`` appends is spread over the whole.
    """
    unit = target.channels.unit
    tiles = [_Outputs(emitter, conv, source, range(first, min(len(conv.weights), first + unit)))
             for first in range(0, len(conv.weights), unit)]
    strips = list(_strips(emitter, target, parts=3 if strips_first else 2))
    order = (product(strips, tiles) if strips_first and _all_fit(emitter, tiles) else
             ((strip, tile) for tile in tiles for strip in strips))
    for (image, rows, cols), tile in order:
        tile.load()
        if gather is not None:
            gather.until(rows.stop)
        acc = emitter.turn(len(rows) * len(cols))
        tile.execute(image, rows, cols, acc)
        if before is not None:
            before()
            before = None
        _requantise(emitter, conv, target, tile.outputs, image, rows, cols, acc, tile.param)
        if then is not None and isinstance(target, FeatureMap) and cols.stop == target.shape[2]:
            for plane in _completed(target, tile.outputs):
                then(image, plane, rows)


class _Outputs:
    """A column tile with its weights and parameters, which are loaded when they are needed.

    Parameters
    ----------
    outputs : range
        Channels that it makes.
    """
    def __init__(self, emitter: Emitter, conv: Convolution, source: FeatureMap | Gathered,
                 outputs: range):
        self.emitter, self.conv, self.source, self.outputs = emitter, conv, source, outputs
        self.loaded = Loaded(emitter, Packing(emitter.config, conv.weight_format),
                             self._tile(conv))
        self.param = -1     # first row, once they are loaded
        skipped = self.loaded.skipped
        self.left_out = 0 if not skipped.any() else int(
            self._tile(replace(conv, weights=np.ones_like(conv.weights))).weights[skipped].sum())

    def _tile(self, conv: Convolution) -> Tile:
        height = self.emitter.config.array.rows
        if isinstance(self.source, Gathered):
            return _gathered_tile(conv, self.source, self.outputs, height)
        return _map_tile(conv, self.source, self.outputs, height)

    def load(self) -> None:
        """Load parameters, and weights if they are loaded at once, unless they are there."""
        if self.param < 0:
            conv, here = self.conv, slice(self.outputs.start, self.outputs.stop)
            self.param = self.emitter.load_parameters(
                conv.bias[here], conv.multiplier[here], conv.shift[here])
            self.loaded.load()

    def execute(self, image: int, rows: range, cols: range, acc: int) -> None:
        """Append the products of a strip."""
        self.emitter.left_out += self.left_out * len(rows) * len(cols)
        base, across, down = _stream(self.conv, self.loaded.tile, self.source, image)
        self.loaded.execute(base=base + rows.start * down + cols.start * across, acc=acc,
                            strip=[(len(cols), across), (len(rows), down)])


def _all_fit(emitter: Emitter, tiles: Sequence[_Outputs]) -> bool:
    """Whether weights and parameters of all tiles fit at once."""
    memory, lanes = emitter.config.memory, emitter.config.vector.lanes
    return sum(tile.loaded.rows for tile in tiles) <= memory.wgt_rows and (
        sum(-(-len(tile.outputs) // lanes) for tile in tiles) <= memory.par_rows)


def _completed(target: FeatureMap, outputs: range) -> range:
    """Planes whose last channels are among ``outputs``."""
    channels = target.channels
    before, now = ((channels.slot(place - 1) + 1) // channels.width if place else 0
                   for place in (outputs.start, outputs.stop))
    return range(before, target.planes if outputs.stop == target.shape[3] else now)


def _map_tile(conv: Convolution, source: FeatureMap, outputs: range, height: int) -> Tile:
    """Weights of ``outputs``, in planes of channels that they need."""
    every, kernel_rows, kernel_cols, depth = conv.weights.shape
    channels, count = source.channels, len(outputs)
    group = np.array(outputs) // (every // conv.groups)
    slots = channels.slots(group[:, None] * depth + np.arange(depth))    # (count, depth)
    low, high = int(slots.min()) // channels.width, int(slots.max()) // channels.width + 1
    tiles = np.zeros((kernel_rows, kernel_cols, high - low, height, count), np.int8)
    for column, output in enumerate(outputs):
        plane, row = np.divmod(slots[column], channels.width)
        tiles[:, :, plane - low, row, column] = conv.weights[output]
    last = int((slots[slots >= (high - 1) * channels.width] % channels.width).max()) + 1
    (top, _), (left, _) = conv.pads
    loops = [(high - low, source.plane), (kernel_cols, conv.dilation[1]),
             (kernel_rows, conv.dilation[0] * source.across)]
    if high - low == 1 and last == height:  # then any loop may be the innermost
        loops = [loop for loop in loops if loop[0] > 1] or loops[:1]
    return Tile(weights=tiles.reshape(-1, height, count), last=last, loops=loops,
                base=source.row(0, low, -top, -left))


def _gathered_tile(conv: Convolution, source: Gathered, outputs: range, height: int) -> Tile:
    kernel_rows, count = conv.weights.shape[1], len(outputs)
    weights = conv.weights[outputs.start:outputs.stop].reshape(count, kernel_rows, source.pixel)
    tall = np.zeros((source.tiles * source.deep, source.pixel, count), np.int8)
    tall[:kernel_rows] = weights.transpose(1, 2, 0)
    tiles = np.zeros((source.tiles, height, count), np.int8)
    tiles[:, :source.deep * source.pixel] = tall.reshape(source.tiles, -1, count)
    left = kernel_rows - (source.tiles - 1) * source.deep
    return Tile(weights=tiles, last=left * source.pixel,
                loops=[(source.tiles, source.deep // source.step * source.width)],
                base=source.base)


def _stream(conv: Convolution, tile: Tile, source: FeatureMap | Gathered,
            image: int) -> tuple[int, int, int]:
    """First scratchpad row of an image's activations, rows from an output to the next, and to the
    one below."""
    if isinstance(source, Gathered):
        return tile.base, 1, source.stride // source.step * source.width
    return (tile.base + image * source.image, conv.stride[1],
            conv.stride[0] * source.across)


def _strips(emitter: Emitter, target: FeatureMap | Folded,
            parts: int) -> Iterator[tuple[int, range, range]]:
    """Image, rows and columns of outputs that an accumulator half takes at once."""
    images, height, width, _ = target.shape
    across = min(width, emitter.half_rows)
    down = strip_height(emitter, height, across, parts=parts)
    for image, y, x in product(range(images), range(0, height, down), range(0, width, across)):
        yield image, range(y, min(height, y + down)), range(x, min(width, x + across))


def _requantise(emitter: Emitter, conv: Convolution, target: FeatureMap | Folded, outputs: range,
                image: int, rows: range, cols: range, acc: int, param: int) -> None:
    """Append what makes results of a strip's sums."""
    lanes, per_row, pitch = (emitter.config.vector.lanes, emitter.groups_per_row,
                             emitter.config.acc_group_pitch)
    start = target.channels.slot(outputs.start) // lanes
    groups = range(start, start - (-len(outputs) // lanes))
    source = acc * pitch - start
    if isinstance(target, FeatureMap):
        pixels = [Walk(len(cols), pitch, target.beside * per_row),
                  Walk(len(rows), len(cols) * pitch, target.across * per_row)]
        for group, plane, place, some, planes in _runs(groups, target.channels.width // lanes):
            drain(emitter, conv.results, source=source + group, param=param + group - start,
                  result=target.row(image, plane, rows.start, cols.start) * per_row + place,
                  columns=[Walk(some, 1, 1), Walk(planes, some, target.plane * per_row)],
                  pixels=pixels)
        return
    fold, each, cells = target.fold, target.fold.depth // lanes, target.cells
    for group, plane, place, some, planes in _runs(groups, each):
        for phase, ys, xs in fold.phases(rows, cols):
            pixel = (ys.start - rows.start) * len(cols) + xs.start - cols.start
            drain(emitter, conv.results, param=param + group - start,
                  source=source + group + pixel * pitch,
                  result=(target.row(image, plane, ys.start, xs.start) * per_row
                          + phase * each + place),
                  columns=[Walk(some, 1, 1), Walk(planes, some, cells.plane * per_row)],
                  pixels=[Walk(len(xs), fold.across * pitch, per_row),
                          Walk(len(ys), fold.down * len(cols) * pitch, cells.across * per_row)])


def _runs(groups: range, width: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Lane groups in planes of ``width``: first group, plane, place in it, groups in each of how
    many planes."""
    at = groups.start
    while at < groups.stop:
        plane, place = divmod(at, width)
        some = min(groups.stop - at, width - place)
        planes = (groups.stop - at) // width if some == width else 1
        yield at, plane, place, some, planes
        at += some * planes
