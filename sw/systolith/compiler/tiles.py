"""Weight tiles, the activations that stream past them, and what becomes of the sums."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from systolith_hw.isa import WeightFormat

from ..layout import Packing
from ..model.address import loop_offsets
from .emitter import Emitter
from .maps import NoRoom

__all__ = ["Loaded", "Piece", "Results", "Tile", "Walk", "drain", "strip_height"]

STRIP_TILES = 8     # rows of a strip / rows of the array, where there are enough


@dataclass(kw_only=True)
class Tile:
    """Outputs of one column tile.

    Parameters
    ----------
    weights : int8 array, (K tiles, rows, columns)
        Of every K tile, the outermost loop first.
    last : int
        Rows of the last K tile of each innermost loop.
    loops : list of tuple of int
        How the activation stream comes to them: count and stride of each loop, innermost first.
    base : int
        Scratchpad row of the first activation.
    """
    weights: np.ndarray
    last: int
    loops: list[tuple[int, int]]
    base: int


@dataclass(frozen=True)
class Piece:
    """K tiles ``first`` to ``end`` of innermost loop ``number``."""
    number: int
    first: int
    end: int

    def last(self, tile: Tile, height: int) -> int:
        """Rows of the last of them."""
        return tile.last if self.end == tile.loops[0][0] else height

    def rows(self, tile: Tile, packing: Packing) -> int:
        """Rows of the weight scratchpad."""
        height = packing.config.array.rows
        return packing.rows((self.end - self.first - 1) * height + self.last(tile, height), height)


def parts_of(tile: Tile, packing: Packing) -> Iterator[list[Piece]]:
    """K tiles that are loaded together: all, or as many as half of the memory holds. Tiles of zeros
    are none.

    Raises
    ------
    NoRoom
    """
    most, inner = packing.config.memory.wgt_rows, tile.loops[0][0]
    count = len(tile.weights) // inner
    whole = _used(tile.weights.any((1, 2)).reshape(count, inner)) or [Piece(0, 0, 1)]
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
                yield [Piece(piece.number, first, min(piece.end, first + step))]
        return
    for start in range(0, len(whole), step // inner):
        yield whole[start:start + step // inner]


def _used(used: np.ndarray) -> list[Piece]:
    """Tiles that follow each other, of those that are used: (outer loops, innermost loop)."""
    found = []
    for number, row in enumerate(used):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        found += [Piece(number, int(first), int(end)) for first, end in ends.reshape(-1, 2)]
    return found


def load_weights(emitter: Emitter, packing: Packing, tile: Tile, part: list[Piece]) -> int:
    """Load K tiles of weights; their first row."""
    inner, height = tile.loops[0][0], emitter.config.array.rows
    lanes, count = emitter.config.vector.lanes, tile.weights.shape[2]
    cols = min(packing.cols, -(-count // lanes) * lanes)
    data = b""
    for piece in part:
        start = piece.number * inner
        tall = np.zeros(((piece.end - piece.first) * height, cols), np.int8)
        tall[:, :count] = tile.weights[start + piece.first:start + piece.end].reshape(-1, count)
        data += packing.pack(tall[:(piece.end - piece.first - 1) * height
                                  + piece.last(tile, height)], height)
    return emitter.load_weights(data, packing.row_bytes(cols))


def strip_height(emitter: Emitter, height: int, across: int, parts: int) -> int:
    """Rows of a strip of an output ``across`` wide: few, so that what follows can begin with the
    first of at least ``parts``, but not so few that the array waits for weights."""
    most, tall = emitter.half_rows, emitter.config.array.rows
    down = min(height, max(1, most // across))
    down = min(down, -(-height // parts), -(-STRIP_TILES * tall // across))
    down = min(height, max(down, -(-tall // across)), max(1, most // across))
    return -(-height // -(-height // down))


def execute(emitter: Emitter, packing: Packing, tile: Tile, part: list[Piece], place: int, *,
            base: int, strip: Sequence[tuple[int, int]], acc: int, accumulate: bool) -> None:
    """Append the products of a strip with a part of a tile's weights.

    Parameters
    ----------
    place : int
        First row of the weights.
    base : int
        Scratchpad row of the first activation.
    strip : pairs of int
        Columns and rows of the strip, and scratchpad rows from one to the next.
    acc : int
        First row of the sums.
    accumulate : bool
        Whether sums are added to what is there.
    """
    config = emitter.config
    depth = config.control.execute_loops
    (cols, across), (rows, down) = strip
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
            counts=[cols, rows, *(count for count, _ in walks)],
            act_row=base + offset, act_strides=[across, down, *(step for _, step in walks)],
            acc_row=acc, acc_strides=[1, cols, *[0] * (depth - 2)],
            wgt_row=place, k_last=piece.last(tile, config.array.rows),
            accumulate=accumulate or number > 0, format=WeightFormat[packing.name.upper()])
        place += piece.rows(tile, packing)


class Loaded:
    """A tile whose weights are loaded once where they all fit, and otherwise part by part for each
    strip."""
    def __init__(self, emitter: Emitter, packing: Packing, tile: Tile):
        self.emitter, self.packing, self.tile = emitter, packing, tile
        self.parts = list(parts_of(tile, packing))
        self.place = -1     # first row, once they are loaded

    @property
    def skipped(self) -> np.ndarray:
        """Which K tiles take no step: those of zeros, but for one where all are."""
        skipped = np.ones(len(self.tile.weights), bool)
        for piece in (piece for part in self.parts for piece in part):
            start = piece.number * self.tile.loops[0][0]
            skipped[start + piece.first:start + piece.end] = False
        return skipped

    @property
    def rows(self) -> int:
        """Rows of the weight scratchpad."""
        return sum(piece.rows(self.tile, self.packing) for part in self.parts for piece in part)

    def load(self) -> None:
        """Load weights that are loaded once."""
        if len(self.parts) == 1:
            self.place = load_weights(self.emitter, self.packing, self.tile, self.parts[0])

    def execute(self, *, base: int, strip: Sequence[tuple[int, int]], acc: int) -> None:
        """Append the products of a strip, as ``execute`` takes it."""
        for number, part in enumerate(self.parts):
            place = (self.place if len(self.parts) == 1 else
                     load_weights(self.emitter, self.packing, self.tile, part))
            execute(self.emitter, self.packing, self.tile, part, place, base=base, strip=strip,
                    acc=acc, accumulate=number > 0)


@dataclass(frozen=True)
class Walk:
    """Lane groups of sums and of results from one step to the next."""
    count: int
    source: int
    result: int


@dataclass(frozen=True, kw_only=True)
class Results:
    """What results are made as: int8, ``clamp(requantise(sum) + zero_point)``."""
    zero_point: int
    clamp: tuple[int, int]


def drain(emitter: Emitter, results: Results, *, source: int, result: int, param: int,
          columns: Sequence[Walk], pixels: Sequence[Walk]) -> None:
    """Append what makes results of sums, with as few commands as the core's loops allow.

    Parameters
    ----------
    source, result : int
        First lane groups.
    param : int
        Parameter row of the first lane group.
    columns : sequence of Walk
        Over lane groups with parameters of their own, which follow each other, innermost first.
    pixels : sequence of Walk
        Over sums with the same parameters.
    """
    columns, pixels = [walk for walk in columns if walk.count > 1], _merged(pixels)
    ways = [_loops(columns, pixels, emitter.config.control.vector_loops)]
    if columns and pixels:
        ways.append(_loops([], pixels, emitter.config.control.vector_loops))
    own = min(ways, key=lambda own: prod(
        walk.count for walk in (*columns, *pixels) if walk not in own))
    own = [*own, *[None] * (emitter.config.control.vector_loops - len(own))]
    first, *others = (walk or Walk(1, 1, 1) for walk in own)
    rest = [(walk, prod(inner.count for inner in columns[:number]))
            for number, walk in enumerate(columns) if walk not in own]
    rest += [(walk, 0) for walk in pixels if walk not in own]
    for places in product(*(range(walk.count) for walk, _ in rest)):
        steps = list(zip(places, rest, strict=True))
        emitter.program.vector(
            counts=[first.count, *(walk.count for walk in others)],
            source=source + sum(i * walk.source for i, (walk, _) in steps),
            source_step=first.source, source_strides=[walk.source for walk in others],
            result=result + sum(i * walk.result for i, (walk, _) in steps),
            result_strides=[walk.result for walk in others],
            param_base=param + sum(i * step for i, (_, step) in steps),
            param_step=int(any(walk in own for walk in columns)),
            clamp=results.clamp, zero_point=results.zero_point)


def _loops(columns: Sequence[Walk], pixels: Sequence[Walk], loops: int) -> list[Walk | None]:
    """What each loop of a command walks: parameters go on with loops 0 and 2, results of loop 0 lie
    side by side."""
    own: list[Walk | None] = [None] * loops
    free = list(range(1, loops))
    if columns:
        left = list(columns)
        if left[0].result == 1:
            own[0] = left.pop(0)
        if left and loops > 2:
            own[2] = left.pop(0)
        free = free[::2]
    for place, walk in zip(free, sorted(pixels, key=lambda walk: -walk.count), strict=False):
        own[place] = walk
    return own


def _merged(walks: Sequence[Walk]) -> list[Walk]:
    """Walks that continue the one before as one."""
    merged: list[Walk] = []
    for walk in walks:
        if merged and walk.source == merged[-1].count * merged[-1].source and (
                walk.result == merged[-1].count * merged[-1].result):
            merged[-1] = replace(merged[-1], count=merged[-1].count * walk.count)
        elif walk.count > 1:
            merged.append(walk)
    return merged
