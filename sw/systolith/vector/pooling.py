"""Average, maximum and global pooling: folds over windows, bit for bit as TFLite."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest
from math import prod

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import Operand, Reduction, ResultType, Scale

from ..image import DTYPES, Image, Tensor
from ..program import Program, Slot
from ..quantise import quantise_multiplier
from ..regions import Regions
from .compile import DONE, FREE, READY, ROOM
from .constants import Constants
from .elements import FINE, RANGES, clamp_rows
from .operations import ELEMENTS
from .passes import Passes
from .transfers import Buffer, Chunk, Region, issue, move, pitch_of
from .values import Rows

__all__ = ["Pooling", "Stretch", "compile_pooling", "fits_at_once", "stretches"]

FOLDED = "vector_folded"
STEP = 127      # units that loop 0 of a source can go on by
SUM_BITS = 31   # of a fold, with its sign


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Windows over the height and width of arrays (batch, height, width, channels).

    Parameters
    ----------
    average : bool
        Average of the window's numbers inside the array, rounded half away from zero; or the
        largest.
    window, stride : tuple of int
        Height and width.
    padding : tuple of int
        Rows above and columns left of the array that windows begin in.
    outputs : tuple of int
        Height and width of the result.
    dtype : str
        ``int8`` or ``int16``.
    clamp : tuple of int or None
        Least and largest result.
    """
    average: bool
    window: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    outputs: tuple[int, int]
    dtype: str = "int8"
    clamp: tuple[int, int] | None = None

    def __post_init__(self):
        if self.dtype not in ("int8", "int16"):
            raise ValueError(f"dtype must be int8 or int16, not {self.dtype!r}")
        for name in ("window", "stride", "outputs"):
            if len(getattr(self, name)) != 2 or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be two sizes from 1, not {getattr(self, name)!r}")
        most = 1 << SUM_BITS - FINE - 8 * self.size + 1
        if self.average and prod(self.window) > most:
            raise ValueError(f"window must have at most {most} elements of {self.dtype}, "
                             f"not {prod(self.window)!r}")

    @classmethod
    def whole(cls, height: int, width: int, *, average: bool, dtype: str = "int8") -> "Pooling":
        """Global pooling."""
        return cls(average=average, window=(height, width), outputs=(1, 1), dtype=dtype)

    @property
    def size(self) -> int:
        return DTYPES[self.dtype].itemsize

    def spans(self, axis: int, length: int) -> list[tuple[int, int]]:
        """First element inside the array and number of them, of each output along an axis."""
        spans = []
        for place in range(self.outputs[axis]):
            first = place * self.stride[axis] - self.padding[axis]
            start, stop = max(0, first), min(length, first + self.window[axis])
            if stop <= start:
                raise ValueError(f"outputs must have windows inside the array, "
                                 f"not {self.outputs!r}")
            spans.append((start, stop - start))
        return spans


@dataclass(frozen=True)
class Stretch:
    """Outputs of one window size, equally spaced: first output, count, first input, size."""
    first: int
    count: int
    start: int
    size: int


def stretches(spans: Sequence[tuple[int, int]], stride: int) -> list[Stretch]:
    """Outputs along an axis whose windows have the same size, given ``Pooling.spans``."""
    result: list[Stretch] = []
    for place, (start, size) in enumerate(spans):
        last = result[-1] if result else None
        if last and last.size == size and start == last.start + last.count * stride:
            result[-1] = Stretch(last.first, last.count + 1, last.start, size)
        else:
            result.append(Stretch(place, 1, start, size))
    return result


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a chunk lies in the scratchpad.

    Parameters
    ----------
    channels : int
        Of a block.
    dense : bool
        Whether pixels of all channels follow each other.
    pixel : int
        Bytes from a pixel to the next.
    """
    channels: int
    dense: bool
    pixel: int
    config: CoreConfig

    def row(self, pixels: int) -> int:
        """Scratchpad rows of a row of pixels."""
        width = self.config.act_row_bytes
        return -(-pixels * self.pixel // width)


def compile_pooling(pooling: Pooling, shape: Sequence[int], *, config: CoreConfig) -> Image:
    """An image that pools arrays of ``shape``: batch, height, width, channels.

    Blocks of channels and of outputs are loaded, folded and stored with double buffers.

    Raises
    ------
    ValueError
        No window of one lane group of channels fits the scratchpad.
    """
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape must be batch, height, width and channels, not {shape!r}")
    return _Compiler(pooling, tuple(shape), config).image()


def fits_at_once(pooling: Pooling, shape: Sequence[int], *, config: CoreConfig) -> bool:
    """Whether such an image is one load, one block of folds and one store."""
    compiler = _Compiler(pooling, tuple(shape), config)
    return (shape[0] == 1 and compiler.layout.channels == shape[3]
            and compiler.block == pooling.outputs)


class _Compiler:
    def __init__(self, pooling: Pooling, shape: tuple[int, ...], config: CoreConfig):
        self.pooling, self.shape, self.config = pooling, shape, config
        self.memory, self.program = Regions(), Program(config=config)
        self.constants = Constants(config)
        batch, height, width, channels = shape
        self.source = self.memory.tensor("x0", shape, pooling.dtype)
        self.target = self.memory.tensor("y0", (batch, *pooling.outputs, channels), pooling.dtype)
        self.rows, self.cols = pooling.spans(0, height), pooling.spans(1, width)
        self.layout, self.block = self._fit()

    # What fits.

    def _layouts(self) -> Iterator[_Layout]:
        """Blocks of channels, largest first."""
        lanes, size, channels = self.config.vector.lanes, self.pooling.size, self.shape[3]
        if channels % lanes == 0 and channels // lanes * size <= STEP:
            yield _Layout(channels=channels, dense=True, pixel=channels * size, config=self.config)
        groups = -(-channels // lanes)
        while groups:
            count = min(channels, groups * lanes)
            pixel = pitch_of(count, size, self.config) * self.config.act_row_bytes
            if pixel // lanes <= STEP:
                yield _Layout(channels=count, dense=False, pixel=pixel, config=self.config)
            groups //= 2

    def _fit(self) -> tuple[_Layout, tuple[int, int]]:
        """Layout, and output rows and columns of a chunk."""
        for layout in self._layouts():
            for cols in _halves(len(self.cols)):
                for rows in _halves(len(self.rows)):
                    if self._needed(layout, rows, cols) <= self.config.memory.act_rows:
                        return layout, (rows, cols)
        raise ValueError(f"memory.act_rows must hold two windows of "
                         f"{self.config.vector.lanes} channels and their results, "
                         f"not {self.config.memory.act_rows!r}")

    def _sizes(self, layout: _Layout, rows: int, cols: int) -> tuple[int, int]:
        """Scratchpad rows of a chunk's source and result."""
        height, width = (max(spans[min(first + count, len(spans)) - 1][0]
                             + spans[min(first + count, len(spans)) - 1][1] - spans[first][0]
                             for first in range(0, len(spans), count))
                         for spans, count in ((self.rows, rows), (self.cols, cols)))
        return height * layout.row(width), rows * layout.row(cols)

    def _needed(self, layout: _Layout, rows: int, cols: int) -> int:
        return 2 * sum(self._sizes(layout, rows, cols))

    # Chunks.

    def image(self) -> Image:
        for count in sorted({h * w for _, h in self.rows for _, w in self.cols}):
            self._scale(count)
        address = self.memory.keep(b"".join(data for _, _, data in self.constants.contents()))
        self.constants.load(self.program, address)
        self.program.credit(FREE, 2)
        self.program.credit(ROOM, 2)
        rows, cols = self.block
        chunks: list[Chunk] = []
        for batch, channel, row, col in product(
                range(self.shape[0]), range(0, self.shape[3], self.layout.channels),
                range(0, len(self.rows), rows), range(0, len(self.cols), cols)):
            chunks.append(self._chunk(
                batch, channel, range(row, min(row + rows, len(self.rows))),
                range(col, min(col + cols, len(self.cols))), len(chunks) % 2))
        issue(chunks, copies=2)
        return self.memory.image(self.program, [self.source], [self.target])

    def _scale(self, count: int) -> dict[str, int]:
        """Fields of the scale of a window of ``count`` elements."""
        if not self.pooling.average:
            return {"scale": Scale.UNIT}
        multiplier, shift = quantise_multiplier(1 / (count << FINE))
        row = self.constants.parameters(np.asarray(0), multiplier, shift)
        return {"scale": Scale.CHANNEL, "param_base": row, "param_step": 0}

    def _region(self, tensor: Tensor, batch: int, channel: int, channels: int, rows: range,
                cols: range) -> Region:
        _, height, width, depth = tensor.shape
        size = self.pooling.size
        pixels = (batch * height + np.array(rows)[:, None]) * width
        if self.layout.dense:
            pixels, count = pixels + cols.start, len(cols) * depth
        else:
            pixels, count = pixels + np.array(cols), channels
        addresses = tensor.address + (pixels * depth + channel).reshape(-1) * size
        return Region(addresses=addresses, cols=count, size=size)

    def _buffer(self, row: int, pixels: int) -> Buffer:
        layout = self.layout
        pitch = (layout.row(pixels) if layout.dense
                 else layout.pixel // self.config.act_row_bytes)
        return Buffer(row=row, pitch=pitch)

    def _chunk(self, batch: int, channel: int, rows: range, cols: range, half: int) -> Chunk:
        layout, config = self.layout, self.config
        source_size, result_size = self._sizes(layout, *self.block)
        source_row = half * source_size
        result_row = 2 * source_size + half * result_size
        channels = min(layout.channels, self.shape[3] - channel)
        height, width = (range(spans[places[0]][0], sum(spans[places[-1]]))
                         for spans, places in ((self.rows, rows), (self.cols, cols)))
        folds = list(self._folds(channels, rows, cols, height, width,
                                 source_row, result_row))
        clamped = self.pooling.clamp and self.pooling.dtype == "int16" and (
            tuple(self.pooling.clamp) != RANGES[ELEMENTS["int16"]])

        def load() -> None:
            move(self.program, self._region(self.source, batch, channel, channels, height, width),
                 self._buffer(source_row, len(width)), wait=FREE, post=READY)

        def compute() -> None:
            for number, fields in enumerate(folds):
                waits = [READY, ROOM] if number == 0 else []
                posts = [FREE, FOLDED if clamped else DONE] if number == len(folds) - 1 else []
                self.program.vector(slots=[Slot(wait=wait, post=post) for wait, post in
                                           zip_longest(waits, posts)], **fields)
            if clamped and self.pooling.clamp:
                passes = Passes(self.program, self.constants, rows=1)
                length = len(rows) * layout.row(len(cols)) * config.act_row_bytes
                clamp_rows(passes, Rows(
                    kind=ELEMENTS["int16"], base=self._units(result_row), pitch=0,
                    cols=length // self.pooling.size), self.pooling.clamp)
                passes.emit(ready=FOLDED, done=DONE)

        def store() -> None:
            move(self.program, self._region(self.target, batch, channel, channels, rows, cols),
                 self._buffer(result_row, len(cols)), store=True, wait=DONE, post=ROOM)
        return Chunk(load, compute, store)

    def _units(self, row: int) -> int:
        return row * self.config.act_row_bytes // self.config.vector.lanes

    def _folds(self, channels: int, rows: range, cols: range, height: range, width: range,
               source_row: int, result_row: int) -> Iterator[dict]:
        """Fields of the commands of a chunk: each the outputs of one size of window."""
        layout, lanes, pooling = self.layout, self.config.vector.lanes, self.pooling
        size, pixel = pooling.size, layout.pixel // lanes
        source_pitch = self._units(layout.row(len(width)))
        result_pitch = self._units(layout.row(len(cols)))
        deep = self.config.control.vector_loops == 4
        groups = -(-channels // lanes)
        for y, x in product(stretches([self.rows[i] for i in rows], pooling.stride[0]),
                            stretches([self.cols[i] for i in cols], pooling.stride[1])):
            source = (self._units(source_row) + (y.start - height.start) * source_pitch
                      + (x.start - width.start) * pixel)
            result = self._units(result_row) + y.first * result_pitch + x.first * pixel
            walks = [(groups, size, size), (x.count, pooling.stride[1] * pixel, pixel),
                     (y.count, pooling.stride[0] * source_pitch, result_pitch)]
            walks = sorted((walk for walk in walks if walk[0] > 1), key=lambda walk: -walk[0])
            # The longest walks are the command's own loops, the others make commands.
            own, rest = walks[:2 if deep else 1], walks[2 if deep else 1:]
            for places in product(*(range(count) for count, _, _ in rest)):
                steps = list(zip(places, rest, strict=True))
                yield {
                    "counts": [x.size, y.size, *(count for count, _, _ in own)],
                    "source": source + sum(i * step for i, (_, step, _) in steps),
                    "source_step": pixel, "source_strides": [
                        source_pitch, *(step for _, step, _ in own)],
                    "result": result + sum(i * step for i, (_, _, step) in steps),
                    "result_step": 0, "result_strides": [0, *(step for _, _, step in own)],
                    **self._fields(x.size * y.size)}

    def _fields(self, count: int) -> dict:
        pooling = self.pooling
        clamp = pooling.clamp if pooling.clamp and pooling.dtype == "int8" else (-128, 127)
        return {"source_type": ELEMENTS[pooling.dtype], "second": Operand.IMMEDIATE,
                "result_type": ResultType(int(ELEMENTS[pooling.dtype])), "clamp": clamp,
                "reduce": Reduction.SUM if pooling.average else Reduction.MAXIMUM, "fold": 1,
                "span": 1, "fine": int(pooling.average), **self._scale(count)}


def _halves(count: int) -> Iterator[int]:
    """``count``, and half of it again and again."""
    while count:
        yield count
        count //= 2
