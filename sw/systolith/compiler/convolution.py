"""Convolutions: weights stay, activations stream past them from where they lie.

The outer loops of the activation stream walk kernel rows, kernel columns and planes of channels,
each of their steps another weight tile, so that nothing is copied. Where an image has few channels
its pixels are gathered on their way into the scratchpad, so that a row holds those under all
columns of the kernel, and some of its rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from systolith_hw.isa import Memory, WeightFormat

from ..image import Tensor
from ..layout import Packing
from ..model.address import loop_offsets
from .emitter import Emitter
from .maps import FeatureMap, NoRoom

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


STRIP_TILES = 8     # rows of a strip / rows of the array, where there are enough

Then = Callable[[int, int, range], None]
Walk = list[tuple[int, int]]    # count and stride of each loop, innermost first


class Gather:
    """Loads of a gathered image, as far as they are needed.

    Parameters
    ----------
    source : Tensor
        (height, width, channels) in system memory, with the padding around it, dense within a row.
    stride : int
        Across.
    """
    def __init__(self, emitter: Emitter, source: Tensor, gathered: Gathered, stride: int):
        self.emitter, self.source, self.gathered, self.stride = emitter, source, gathered, stride
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
        self.emitter.transfer(
            "load", [(gathered.width, self.stride * pixel, size), (deep, pitch, gathered.pixel),
                     (count, gathered.step * pitch, gathered.width * size)],
            row=gathered.base + first * gathered.width,
            address=self.source.address + first * gathered.step * pitch,
            run_bytes=gathered.pixel)


@dataclass(kw_only=True)
class _Tile:
    """Outputs of one column tile: weights of every K tile, the outermost loop first, and how the
    activation stream comes to them."""
    first: int
    count: int
    tiles: np.ndarray       # (K tiles, rows, columns)
    last: int               # rows of the last K tile of each innermost loop
    loops: Walk
    base: int


def emit_convolution(emitter: Emitter, conv: Convolution, source: FeatureMap | Gathered,
                     target: FeatureMap, *, gather: Gather | None = None,
                     then: Then | None = None) -> None:
    """Append a convolution.

    Parameters
    ----------
    source : FeatureMap or Gathered
        A map with at least the convolution's padding as border.
    gather : Gather or None
        Of a gathered source.
    target : FeatureMap
    then : callable or None
        Called with image, plane and rows of pixels whose commands have been appended.
    """
    config, packing = emitter.config, Packing(emitter.config, conv.weight_format)
    unit = target.channels.unit
    for first in range(0, len(conv.weights), unit):
        count = min(unit, len(conv.weights) - first)
        tile = (_gathered_tile(conv, source, first, count, config.array.rows)
                if isinstance(source, Gathered) else
                _map_tile(conv, source, first, count, config.array.rows))
        here = slice(first, first + count)
        param = emitter.load_parameters(conv.bias[here], conv.multiplier[here], conv.shift[here])
        parts = list(_parts(tile, packing))
        places = []
        whole = len(parts) == 1
        if whole:
            places.append(_load_weights(emitter, packing, tile, parts[0]))
        for image, rows, cols in _strips(emitter, source, target):
            if gather is not None:
                gather.until(rows.stop)
            acc = emitter.turn()
            for number, part in enumerate(parts):
                place = places[0] if whole else _load_weights(emitter, packing, tile, part)
                _execute(emitter, conv, packing, tile, part, place, source, image, rows, cols,
                         acc, number > 0)
            _requantise(emitter, conv, target, tile, image, rows, cols, acc, param)
            if then is not None and cols.stop == target.shape[2]:
                for plane in _completed(target, first, count):
                    then(image, plane, rows)


def _completed(target: FeatureMap, first: int, count: int) -> range:
    """Planes whose last channels are ``first`` to ``first + count``."""
    channels, end = target.channels, first + count
    before, now = ((channels.slot(place - 1) + 1) // channels.width if place else 0
                   for place in (first, end))
    return range(before, target.planes if end == target.shape[3] else now)


def _map_tile(conv: Convolution, source: FeatureMap, first: int, count: int,
              height: int) -> _Tile:
    """Weights of outputs ``first`` on, in planes of channels that they need."""
    outputs, kernel_rows, kernel_cols, depth = conv.weights.shape
    channels = source.channels
    group = np.arange(first, first + count) // (outputs // conv.groups)
    slots = channels.slots(group[:, None] * depth + np.arange(depth))    # (count, depth)
    low, high = int(slots.min()) // channels.width, int(slots.max()) // channels.width + 1
    tiles = np.zeros((kernel_rows, kernel_cols, high - low, height, count), np.int8)
    weights = conv.weights[first:first + count]
    for output in range(count):
        plane, row = np.divmod(slots[output], channels.width)
        tiles[:, :, plane - low, row, output] = weights[output]
    last = int((slots[slots >= (high - 1) * channels.width] % channels.width).max()) + 1
    (top, _), (left, _) = conv.pads
    loops = [(high - low, source.plane), (kernel_cols, conv.dilation[1]),
             (kernel_rows, conv.dilation[0] * source.across)]
    if high - low == 1 and last == height:  # then any loop may be the innermost
        loops = [loop for loop in loops if loop[0] > 1] or loops[:1]
    return _Tile(
        first=first, count=count, tiles=tiles.reshape(-1, height, count), last=last, loops=loops,
        base=source.row(0, low, -top, -left))


def _gathered_tile(conv: Convolution, source: Gathered, first: int, count: int,
                   height: int) -> _Tile:
    outputs, kernel_rows, _, _ = conv.weights.shape
    weights = conv.weights[first:first + count].reshape(count, kernel_rows, source.pixel)
    tall = np.zeros((source.tiles * source.deep, source.pixel, count), np.int8)
    tall[:kernel_rows] = weights.transpose(1, 2, 0)
    tiles = np.zeros((source.tiles, height, count), np.int8)
    tiles[:, :source.deep * source.pixel] = tall.reshape(source.tiles, -1, count)
    left = kernel_rows - (source.tiles - 1) * source.deep
    return _Tile(first=first, count=count, tiles=tiles, last=left * source.pixel,
                 loops=[(source.tiles, source.deep // source.step * source.width)],
                 base=source.base)


@dataclass(frozen=True)
class _Piece:
    """K tiles ``first`` to ``end`` of innermost loop ``number``."""
    number: int
    first: int
    end: int

    def last(self, tile: _Tile, height: int) -> int:
        """Rows of the last of them."""
        return tile.last if self.end == tile.loops[0][0] else height

    def rows(self, tile: _Tile, packing: Packing) -> int:
        """Rows of the weight scratchpad."""
        height = packing.config.array.rows
        return packing.rows((self.end - self.first - 1) * height + self.last(tile, height), height)


def _parts(tile: _Tile, packing: Packing) -> Iterator[list[_Piece]]:
    """K tiles that are loaded together: all, or as many as half of the memory holds. Tiles of zeros
    are none."""
    most, inner = packing.config.memory.wgt_rows, tile.loops[0][0]
    count = len(tile.tiles) // inner
    whole = _used(tile.tiles.any((1, 2)).reshape(count, inner)) or [_Piece(0, 0, 1)]
    if sum(piece.rows(tile, packing) for piece in whole) <= most:
        yield whole
        return
    each = packing.rows(packing.config.array.rows, packing.config.array.rows)
    if each > most // 2:
        raise NoRoom(f"memory.wgt_rows must be at least {2 * each}, not {most!r}")
    step = most // 2 // each
    if step < inner:
        for piece in whole:
            for first in range(piece.first, piece.end, step):
                yield [_Piece(piece.number, first, min(piece.end, first + step))]
        return
    for start in range(0, len(whole), step // inner):
        yield whole[start:start + step // inner]


def _used(used: np.ndarray) -> list[_Piece]:
    """Tiles that follow each other, of those that are used: (outer loops, innermost loop)."""
    found = []
    for number, row in enumerate(used):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        found += [_Piece(number, int(first), int(end)) for first, end in ends.reshape(-1, 2)]
    return found


def _load_weights(emitter: Emitter, packing: Packing, tile: _Tile, part: list[_Piece]) -> int:
    """Load K tiles of weights; their first row."""
    inner, height = tile.loops[0][0], emitter.config.array.rows
    lanes = emitter.config.vector.lanes
    cols = min(packing.cols, -(-tile.count // lanes) * lanes)
    data = b""
    for piece in part:
        start = piece.number * inner
        tall = np.zeros(((piece.end - piece.first) * height, cols), np.int8)
        tall[:, :tile.count] = tile.tiles[start + piece.first:start + piece.end].reshape(
            -1, tile.count)
        data += packing.pack(tall[:(piece.end - piece.first - 1) * height
                                  + piece.last(tile, height)], height)
    row_bytes = packing.row_bytes(cols)
    row = emitter.place("wgt", len(data) // row_bytes)
    emitter.load_rows(Memory.WGT, data, row, row_bytes)
    return row


def _strips(emitter: Emitter, source: FeatureMap | Gathered,
            target: FeatureMap) -> Iterator[tuple[int, range, range]]:
    """Image, rows and columns of outputs that an accumulator half takes at once."""
    images, height, width, _ = target.shape
    most = emitter.half_rows
    across = min(width, most)
    down = min(height, max(1, most // across))
    # Short ones, so that what follows can begin with the first, but not so short that the array
    # waits for weights.
    tall = emitter.config.array.rows
    down = min(down, -(-height // 2), -(-STRIP_TILES * tall // across))
    down = min(height, max(down, -(-tall // across)), max(1, most // across))
    down = -(-height // -(-height // down))
    for image, y, x in product(range(images), range(0, height, down), range(0, width, across)):
        yield image, range(y, min(height, y + down)), range(x, min(width, x + across))


def _execute(emitter: Emitter, conv: Convolution, packing: Packing, tile: _Tile,
             part: list[_Piece], place: int, source: FeatureMap | Gathered, image: int,
             rows: range, cols: range, acc: int, accumulate: bool) -> None:
    """Append the products of a strip with a part of a tile's weights."""
    config = emitter.config
    depth = config.control.execute_loops
    height = config.array.rows
    if isinstance(source, Gathered):
        across, down = 1, source.stride // source.step * source.width
        base = tile.base
    else:
        across, down = conv.stride[1], conv.stride[0] * source.across
        base = tile.base + image * source.image
    base += rows.start * down + cols.start * across
    digits = [(packing.digits, 0)] if packing.digits > 1 else []
    (inner, step), outer = tile.loops[0], [loop for loop in tile.loops[1:] if loop[0] > 1]
    offsets = loop_offsets(*zip(*outer, strict=True)) if outer else np.zeros(1, int)
    whole = len(part) == len(offsets) and all(piece.end - piece.first == inner for piece in part)
    if whole and len(digits) + 1 + len(outer) <= depth - 3:
        commands = [(part[0], 0, outer)]
    else:   # loops that the core has not, or that are cut
        commands = [(piece, int(offsets[piece.number]) + piece.first * step, [])
                    for piece in part]
    for number, (piece, offset, own) in enumerate(commands):
        walks = [*digits, (piece.end - piece.first, step), *own]
        walks += [(1, 0)] * (depth - 2 - len(walks))
        emitter.program.execute(
            counts=[len(cols), len(rows), *(count for count, _ in walks)],
            act_row=base + offset, act_strides=[across, down, *(step for _, step in walks)],
            acc_row=acc, acc_strides=[1, len(cols), *[0] * (depth - 2)],
            wgt_row=place, k_last=piece.last(tile, height),
            accumulate=accumulate or number > 0,
            format=WeightFormat[conv.weight_format.upper()])
        place += piece.rows(tile, packing)


def _requantise(emitter: Emitter, conv: Convolution, target: FeatureMap, tile: _Tile, image: int,
                rows: range, cols: range, acc: int, param: int) -> None:
    """Append what makes results of a strip's sums."""
    lanes, per_row = emitter.config.vector.lanes, emitter.groups_per_row
    pitch = emitter.config.acc_group_pitch
    first = target.channels.slot(tile.first) // lanes
    groups = -(-tile.count // lanes)
    width = target.channels.width // lanes
    done = 0
    while done < groups:
        plane, group = divmod(first + done, width)
        count = min(groups - done, width - group)
        source = acc * pitch + done
        result = target.row(image, plane, rows.start, cols.start) * per_row + group
        _drain(emitter, conv, count, len(cols), len(rows), source=source, param=param + done,
               result=result, down=target.across * per_row, pitch=pitch,
               across=target.beside * per_row)
        done += count


def _drain(emitter: Emitter, conv: Convolution, groups: int, width: int, height: int, *,
           source: int, param: int, result: int, down: int, pitch: int, across: int) -> None:
    program, deep = emitter.program, emitter.config.control.vector_loops == 4

    def drain(counts: list[int], sources: list[int], results: list[int], *, group: int = 0,
              row: int = 0) -> None:
        program.vector(
            counts=counts, source=source + group + row * width * pitch, source_strides=sources,
            result=result + group + row * down, result_strides=results, param_base=param + group,
            param_step=int(counts[0] > 1), clamp=conv.clamp, zero_point=conv.zero_point)

    # Parameters go on with loops 0 and 2.
    if groups > 1 and width * across == down:
        drain([groups, width * height], [pitch], [across])
    elif groups > 1 and deep:
        drain([groups, width, 1, height], [pitch, 0, width * pitch], [across, 0, down])
    elif groups <= height:
        for group in range(groups):
            drain([1, width, height], [pitch, width * pitch], [across, down], group=group)
    else:
        for row in range(height):
            drain([groups, width], [pitch], [across], row=row)
