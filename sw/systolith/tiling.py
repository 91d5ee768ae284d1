"""How one matrix product is cut to fit a core: what a tiling is, and which ones are possible.

Activations (M x K) are cut into blocks of rows, weights (K x N) into column tiles of C columns.
The work on a block of rows is a sequence of strips, each of some neighbouring column tiles:

* A streamed strip takes K span by span. Activations and weights of a span arrive together, and an
  accumulator half holds the sums of all its tiles.
* A kept strip finds its block's activations in the scratchpad for all of K and takes one column
  tile after the other, each in an accumulator half of its own; only weights arrive.

Where activations are kept, the first block may begin with a streamed strip, in which they arrive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from systolith_hw.config import CoreConfig

from .layout import Packing

__all__ = ["Problem", "Strip", "Tiling", "possible_tilings", "split_evenly"]

MAX_DEPTH = 15          # a semaphore counts this far
MAX_RUN_BYTES = 65535
MOST_BUFFERS = 8        # of streamed spans of activations
UNITS = (1024, 4096, 16384)  # bus bytes x cycles of array work for each vector and store command


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Column tiles ``tile`` to ``tile + tiles - 1`` for row block ``block``.

    Parameters
    ----------
    number : int
        Strips of the product before this one.
    first_row, rows : int
        Activation rows.
    kept : bool
        Whether its activations are in place.
    last : bool
        Whether it ends the product.
    """
    number: int
    block: int
    first_row: int
    rows: int
    tile: int
    tiles: int
    kept: bool
    last: bool

    @property
    def end(self) -> int:
        """The tile after the last."""
        return self.tile + self.tiles


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The choices.

    Parameters
    ----------
    block_rows : tuple of int
        Activation rows of each block.
    kept : bool
        Whether activations of a block stay for all columns.
    streamed : tuple of int
        Column tiles of the streamed strips: of every block, or where activations are kept, of
        the one that begins the first block, if any.
    n_tiles : int
        Column tiles of the product.
    tile_rows : int
        Weight rows of a K tile: R, or less where the weight scratchpad is smaller than two tiles.
    span_tiles : int
        K tiles of a streamed span, at most.
    chunk_tiles, chunks : int
        K tiles in a chunk of weights of a kept strip, and chunks of K in each pass.
    padded_k : int
        Weight rows in memory for each pass.
    passes : int
        Times the same activations meet a further matrix of weights.
    depth : int
        Chunks in the ring of weights.
    buffers, buffer_rows : int
        Activation buffers (of blocks where kept, of spans otherwise) and scratchpad rows of each.
    unit_tiles, piece_groups : int
        Column tiles drained by one vector command; where less than one tile must do, 1 and the
        lane groups of a piece, otherwise ``piece_groups`` is the groups of a row.
    stage_row, stage_rows, stage_slots, row_stage_rows : int
        First row of the staging region, rows of one slot, slots, rows of a slot for each result
        row.
    param_resident : bool
        Whether the parameters of all columns fit.
    param_slots : int
        Units whose parameters fit, where not all do.
    """
    block_rows: tuple[int, ...]
    kept: bool
    streamed: tuple[int, ...]
    n_tiles: int
    tile_rows: int
    span_tiles: int
    chunk_tiles: int
    chunks: int
    padded_k: int
    passes: int
    depth: int
    buffers: int
    buffer_rows: int
    unit_tiles: int
    piece_groups: int
    stage_row: int
    stage_rows: int
    stage_slots: int
    row_stage_rows: int
    param_resident: bool
    param_slots: int

    def k_tiles_of(self, k: int) -> int:
        """K tiles that ``k`` activations of a row are."""
        return _ceil(k, self.tile_rows)

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """In the order in which they are computed."""
        places, first_row = [], 0
        for block, rows in enumerate(self.block_rows):
            tile = 0
            for tiles in () if self.kept and block else self.streamed:
                places.append((block, first_row, rows, tile, tiles, False))
                tile += tiles
            if tile < self.n_tiles:
                places.append((block, first_row, rows, tile, self.n_tiles - tile, True))
            first_row += rows
        return tuple(
            Strip(number=i, block=block, first_row=first_row, rows=rows, tile=tile, tiles=tiles,
                  kept=kept, last=i == len(places) - 1)
            for i, (block, first_row, rows, tile, tiles, kept) in enumerate(places))


def split_evenly(total: int, parts: int) -> tuple[int, ...]:
    """``total`` in ``parts`` whole numbers that differ by at most one, the larger first."""
    return tuple(total // parts + (i < total % parts) for i in range(parts))


def _ceil(value: int, step: int) -> int:
    return -(-value // step)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a tiling depends on.

    Parameters
    ----------
    config : CoreConfig
    m, n, k : int
        Of the M x K by K x N product.
    passes : int
        Matrices of weights that the same activations meet.
    result_bytes : int
        1 for int8, 2 for int16, 4 for int32.
    params : str
        ``"columns"``: every column has its parameters in memory; ``"rows"``: every row of
        results has; ``"shared"``: all have the same; ``"none"``: there are none.
    panels : bool
        Whether weights and results lie in memory panel by panel, without padding.
    reserved : bool
        Whether scratchpad rows, as many before as after those for results, and the last
        parameter row stay free.
    weights : str
        Format of the weights.
    """
    config: CoreConfig
    m: int
    n: int
    k: int
    passes: int
    result_bytes: int
    params: str
    panels: bool = False
    reserved: bool = False
    weights: str = "int8"

    @cached_property
    def packing(self) -> Packing:
        """How weights fill their scratchpad."""
        return Packing(self.config, self.weights)

    @property
    def tile_rows(self) -> int:
        """Array rows of a K tile."""
        return min(self.config.array.rows,
                   self.config.memory.wgt_rows // 2 * self.packing.parts)

    @property
    def k_loops(self) -> int:
        """Loops over K tiles that a command has."""
        return self.config.control.execute_loops - 3 - (self.packing.digits > 1)

    @property
    def k_tiles(self) -> int:
        """Tiles of K."""
        return _ceil(self.k, self.tile_rows)

    @property
    def n_tiles(self) -> int:
        """Column tiles."""
        return _ceil(self.n, self.packing.cols)

    @property
    def stage_row(self) -> int:
        """First scratchpad row for results."""
        # Whole banks, so that staging does not meet the streams of activations.
        rows, banks = self.config.memory.act_rows, self.config.memory.act_banks
        return rows - (rows // 2 if banks == 2 else rows // 4)

    @property
    def reserved_rows(self) -> int:
        """Scratchpad rows that stay free before, and again after those for results."""
        return (self.config.memory.act_rows - self.stage_row) // 2 if self.reserved else 0

    @property
    def stage_total(self) -> int:
        """Scratchpad rows for results on their way to memory."""
        return self.config.memory.act_rows - self.stage_row - self.reserved_rows

    @property
    def act_total(self) -> int:
        """Scratchpad rows for activations."""
        return self.stage_row - self.reserved_rows

    @property
    def par_total(self) -> int:
        """Parameter rows."""
        return self.config.memory.par_rows - self.reserved

    @property
    def acc_half(self) -> int:
        """Rows of half the accumulator."""
        return self.config.memory.acc_rows // 2

    @property
    def param_resident(self) -> bool:
        """Whether the parameters of all columns fit."""
        groups = self.packing.groups
        return self.params == "columns" and self.n_tiles * groups <= self.par_total

    def stage_rows(self, groups: int) -> int:
        """Scratchpad rows for ``groups`` lane groups of one result row."""
        return _ceil(groups * self.config.vector.lanes * self.result_bytes,
                     self.config.act_row_bytes)

    @cached_property
    def most_rows(self) -> int:
        """Most activation rows of a block: accumulator and staging must hold them."""
        rows = min(self.m, self.acc_half)
        whole = self.stage_total // (2 * self.stage_rows(self.packing.groups))
        if whole >= min(rows, self.config.array.rows):
            return min(rows, whole)
        one_group = max(1, self.stage_total // (2 * self.stage_rows(1)))
        return min(rows, max(whole, min(self.config.array.rows, one_group)))

    def piece_groups(self, rows: int) -> int:
        """Lane groups of a column tile that can be drained at once with ``rows`` result rows."""
        groups = self.packing.groups
        par_rows = self.par_total
        fit = groups if self.param_resident else min(
            groups, par_rows // 2 if self.params == "columns" else par_rows)
        while fit > 1 and 2 * rows * self.stage_rows(fit) > self.stage_total:
            fit -= 1
        return fit

    def whole_tiles(self, rows: int) -> bool:
        """Whether whole column tiles of ``rows`` rows can be drained at once."""
        return self.piece_groups(rows) == self.packing.groups


def possible_tilings(problem: Problem) -> Iterator[Tiling]:
    """Every tiling worth a look.

    At least one, except with parameters of more rows than the parameter memory has.
    """
    if problem.params == "rows" and problem.m > problem.config.memory.par_rows:
        return
    for rows in _block_rows(problem):
        yield from _kept(problem, rows)
        yield from _streamed(problem, rows)


def _block_rows(problem: Problem) -> list[tuple[int, ...]]:
    """Ways to cut M."""
    fewest = _ceil(problem.m, min(problem.most_rows, max(1, problem.act_total // 2)))
    array_rows = problem.config.array.rows
    counts = {fewest, fewest + 1}
    for quarters in (4, 6, 8, 12, 16, 24, 32):
        counts.add(_ceil(4 * problem.m, quarters * array_rows))
        counts.add(4 * problem.m // (quarters * array_rows))
    return [split_evenly(problem.m, count) for count in sorted(counts)
            if fewest <= count <= problem.m]


def _sizes(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12 and so on up to ``most``, and ``most``."""
    sizes = {size << i for i in range(most.bit_length()) for size in (1, 3) if size << i <= most}
    return sorted(sizes | {most})


def _block_tiles(problem: Problem, rows: int) -> int:
    """Most column tiles that an accumulator half holds beside ``rows`` rows."""
    if not problem.whole_tiles(rows):
        return 1
    if problem.panels:
        # A unit is one tile, and the vector queue takes the commands of a strip.
        return max(1, min(4, problem.n_tiles, problem.acc_half // rows))
    return max(1, min(problem.n_tiles, problem.acc_half // rows))


def _most_span_tiles(problem: Problem) -> int:
    """Most K tiles of a chunk of weights."""
    config, height = problem.config, problem.tile_rows
    if height < config.array.rows:
        return 1    # k_last shortens every tile
    packing = problem.packing
    wgt_rows = packing.rows(height, height)
    return max(1, min(config.memory.wgt_rows // (2 * wgt_rows), problem.k_tiles,
                      MAX_RUN_BYTES // (wgt_rows * packing.row_bytes(packing.cols))))


def _chunkings(problem: Problem) -> Iterator[tuple[int, int, int]]:
    """Tiles of a chunk, chunks of a pass, padded K of kept strips."""
    config, k, height = problem.config, problem.k, problem.tile_rows
    tiles, most = problem.k_tiles, _most_span_tiles(problem)
    single_only = problem.k_loops < 2
    packing = problem.packing
    run_bytes = packing.rows(k, height) * packing.row_bytes(packing.cols)
    padded = not problem.panels or tiles * height == k
    if height < config.array.rows:
        if tiles == 1 and problem.passes == 1:
            yield 1, 1, k
        elif not single_only and padded:
            yield 1, tiles, tiles * height
        return
    if problem.passes == 1 and tiles <= most and run_bytes <= MAX_RUN_BYTES:
        yield tiles, 1, k
    if not padded:
        return
    if single_only:
        yield 1, tiles, tiles * height
        return
    for size in range(1, min(most, tiles) + 1):
        if tiles % size == 0 and (tiles > size or problem.passes > 1):
            yield size, tiles // size, tiles * height


def _kept(problem: Problem, block_rows: tuple[int, ...]) -> Iterator[Tiling]:
    config, rows = problem.config, block_rows[0]
    blocks = len(block_rows)
    seen = set()
    for chunk_tiles, chunks, padded_k in _chunkings(problem):
        panel_tiles = chunk_tiles * chunks * problem.passes
        buffer_rows = rows * panel_tiles
        buffers = min(blocks, 4, problem.act_total // buffer_rows)
        if buffers < min(blocks, 2) or buffer_rows > 32767:
            continue
        chunk_rows = min(chunk_tiles * problem.tile_rows, padded_k)
        for span_tiles in {1, min(2, chunk_tiles), min(4, chunk_tiles), chunk_tiles}:
            span_tiles = min(span_tiles, _most_span_tiles(problem))
            longest = max(chunk_rows, span_tiles * problem.tile_rows)
            depth = min(MAX_DEPTH, config.memory.wgt_rows
                        // problem.packing.rows(longest, problem.tile_rows))
            if blocks > 1:
                depth = min(depth, (buffers - 1) * problem.n_tiles * chunks * problem.passes)
            if depth < 1:
                continue
            for head in [0, *_sizes(min(8, _block_tiles(problem, rows)))]:
                key = chunk_tiles, span_tiles, head
                if key not in seen:
                    seen.add(key)
                    yield from _drained(problem, block_rows, dict(
                        kept=True, streamed=(head,) if head else (), span_tiles=span_tiles,
                        chunk_tiles=chunk_tiles, chunks=chunks, padded_k=padded_k, depth=depth,
                        buffers=buffers, buffer_rows=buffer_rows))


def _streamed(problem: Problem, block_rows: tuple[int, ...]) -> Iterator[Tiling]:
    config, rows, height = problem.config, block_rows[0], problem.tile_rows
    most = min(_most_span_tiles(problem), max(1, problem.act_total // (2 * rows)))
    for tiles in _sizes(_block_tiles(problem, rows)):
        even = split_evenly(problem.n_tiles, _ceil(problem.n_tiles, tiles))
        cuts = {even}
        if even[-1] > 3:
            # What remains after the last sum is small.
            cuts.add((*even[:-1], even[-1] - even[-1] // 3, even[-1] // 3))
        for streamed in sorted(cuts):
            for span_tiles in {1, min(2, most), min(4, most), min(8, most), most}:
                buffer_rows = rows * span_tiles
                buffers = min(MOST_BUFFERS, problem.act_total // buffer_rows)
                depth = min(MAX_DEPTH, (buffers - 1) * min(streamed), config.memory.wgt_rows
                            // problem.packing.rows(span_tiles * height, height))
                if buffers >= 2 and depth >= 1:
                    yield from _drained(problem, block_rows, dict(
                        kept=False, streamed=streamed, span_tiles=span_tiles,
                        chunk_tiles=span_tiles, chunks=1, padded_k=problem.k, depth=depth,
                        buffers=buffers, buffer_rows=buffer_rows))


def _drained(problem: Problem, block_rows: tuple[int, ...], choices: dict) -> Iterator[Tiling]:
    """The tilings with ``choices`` and any way to drain sums."""
    config, rows = problem.config, block_rows[0]
    packing, par_rows = problem.packing, problem.par_total
    groups = packing.groups
    piece_groups = problem.piece_groups(rows)
    kept, streamed = choices["kept"], choices["streamed"]
    ragged = packing.cols % config.vector.lanes != 0
    row_bytes = packing.cols * problem.result_bytes
    most = max(streamed) if not kept else problem.n_tiles
    most = min(most, MAX_RUN_BYTES // row_bytes)
    if (ragged or problem.panels or piece_groups < groups
            or (kept and config.acc_groups > 1 << 15)):
        most = 1
    elif problem.params == "columns" and not problem.param_resident:
        most = min(most, par_rows // (2 * groups))
    elif problem.params in ("shared", "none") and config.control.vector_loops < 4:
        most = min(most, par_rows // groups)
    while most > 1 and 2 * rows * problem.stage_rows(most * groups) > problem.stage_total:
        most -= 1
    if kept:
        tile_cycles = (max(rows, config.array.rows) * problem.k_tiles * problem.passes
                       * packing.digits)
        sizes = {_ceil(work, config.bus.data_bytes * tile_cycles) for work in UNITS}
    else:
        # The vector queue takes the commands of a strip.
        sizes = {_ceil(max(streamed), 4), max(streamed)}
    for unit_tiles in sorted({max(1, min(size, most)) for size in sizes}):
        row_stage_rows = problem.stage_rows(unit_tiles * piece_groups)
        stage_rows = rows * row_stage_rows
        yield Tiling(
            block_rows=block_rows, n_tiles=problem.n_tiles, tile_rows=problem.tile_rows,
            passes=problem.passes, unit_tiles=unit_tiles, piece_groups=piece_groups,
            stage_row=problem.stage_row, stage_rows=stage_rows,
            stage_slots=min(MAX_DEPTH, problem.stage_total // stage_rows),
            row_stage_rows=row_stage_rows, param_resident=problem.param_resident,
            param_slots=min(MAX_DEPTH, par_rows // (unit_tiles * piece_groups))
            if problem.params == "columns" else 1, **choices)
