"""How one matrix product is cut to fit a core.

Activations (M x K) are cut into blocks of rows, weights (K x N) into column tiles of C columns and
chunks of K tiles. Two schemes:

* resident: a block's activations stay in the scratchpad for all of K while the weights of every
  column tile stream past; each accumulator half holds one column tile.
* spans: K is cut into spans; an accumulator half holds a block of several column tiles to which
  span after span is added. For K too long, or cores too small, for the first.
"""

from dataclasses import dataclass

from systolith_hw.config import CoreConfig

__all__ = ["Product", "Tiling", "choose_tiling", "split_evenly"]

MAX_DEPTH = 15          # a semaphore counts this far
MAX_RUN_BYTES = 65535
BUS_SHARE = 0.55        # of the bus, for weights in the resident scheme: aimed at
MOST_BUS_SHARE = 0.6    # the same, accepted
HEAD_CHUNKS = 8         # chunks of K: the array starts after the first of them
UNIT_BURST_BYTES = 64   # result bytes of a row that one store should write at once
UNIT_CYCLES = 8192      # bus bytes x cycles of array work for each vector and store command


@dataclass(frozen=True, kw_only=True)
class Product:
    """One matrix product: sizes, places in memory, what becomes of the sums.

    Parameters
    ----------
    m, n, k : int
    a_address, a_pitch : int
        Activations, row by row.
    weights_address : int
        As ``layout.pack_weights`` lays them out.
    params_address : int or None
        As ``layout.pack_parameters`` lays them out; None: no bias, and the result is int32.
    out_address, out_pitch : int
        Results, row by row.
    requantised : bool
        int8 results; otherwise int32.
    zero_point : int
    clamp : tuple of int
    """
    m: int
    n: int
    k: int
    a_address: int
    a_pitch: int
    weights_address: int
    params_address: int | None
    out_address: int
    out_pitch: int
    requantised: bool
    zero_point: int = 0
    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The choices.

    Parameters
    ----------
    resident : bool
        Which scheme.
    block_rows : tuple of int
        Activation rows of each block.
    tile_rows : int
        Weight rows of a K tile: R, or less where the weight scratchpad is smaller than two tiles.
    chunk_tiles : int
        K tiles in a chunk of weights (in spans: the longest span).
    chunks : int
        Chunks of K in each pass (resident).
    padded_k : int
        Weight rows in memory for each pass.
    passes : int
        Times the same activations meet a further matrix of weights.
    depth : int
        Chunks in the ring of weights.
    buffers, buffer_rows : int
        Activation buffers and scratchpad rows of each.
    block_tiles : int
        Most column tiles in an accumulator half.
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
    resident: bool
    block_rows: tuple[int, ...]
    tile_rows: int
    chunk_tiles: int
    chunks: int
    padded_k: int
    passes: int
    depth: int
    buffers: int
    buffer_rows: int
    block_tiles: int
    unit_tiles: int
    piece_groups: int
    stage_row: int
    stage_rows: int
    stage_slots: int
    row_stage_rows: int
    param_resident: bool
    param_slots: int


def split_evenly(total: int, parts: int) -> tuple[int, ...]:
    """``total`` in ``parts`` whole numbers that differ by at most one, the larger first."""
    return tuple(total // parts + (i < total % parts) for i in range(parts))


def _ceil(value: int, step: int) -> int:
    return -(-value // step)


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Sizes that both schemes look at."""
    config: CoreConfig
    m: int
    n: int
    k: int
    passes: int
    result_bytes: int
    shared_params: bool

    @property
    def tile_rows(self) -> int:
        return min(self.config.array.rows, self.config.memory.wgt_rows // 2)

    @property
    def k_tiles(self) -> int:
        return _ceil(self.k, self.tile_rows)

    @property
    def n_tiles(self) -> int:
        return _ceil(self.n, self.config.array.cols)

    @property
    def stage_total(self) -> int:
        # Whole banks, so that staging does not meet the streams of activations.
        rows, banks = self.config.memory.act_rows, self.config.memory.act_banks
        return rows // 2 if banks == 2 else rows // 4

    @property
    def act_total(self) -> int:
        return self.config.memory.act_rows - self.stage_total

    @property
    def acc_half(self) -> int:
        return self.config.memory.acc_rows // 2

    @property
    def param_resident(self) -> bool:
        groups = self.config.groups_per_row
        return not self.shared_params and self.n_tiles * groups <= self.config.memory.par_rows

    def stage_rows(self, groups: int) -> int:
        """Scratchpad rows for ``groups`` lane groups of one result row."""
        return _ceil(groups * self.config.vector.lanes * self.result_bytes,
                     self.config.act_row_bytes)

    @property
    def most_rows(self) -> int:
        """Most activation rows of a block: accumulator and staging must hold them."""
        rows = min(self.m, self.acc_half)
        whole = self.stage_total // (2 * self.stage_rows(self.config.groups_per_row))
        if whole >= min(rows, self.config.array.rows):
            return min(rows, whole)
        one_group = max(1, self.stage_total // (2 * self.stage_rows(1)))
        return min(rows, max(whole, min(self.config.array.rows, one_group)))

    def piece_groups(self, rows: int) -> int:
        """Lane groups of a column tile that can be drained at once with ``rows`` result rows."""
        groups = self.config.groups_per_row
        par_rows = self.config.memory.par_rows
        fit = groups if self.param_resident else min(
            groups, par_rows if self.shared_params else par_rows // 2)
        while fit > 1 and 2 * rows * self.stage_rows(fit) > self.stage_total:
            fit -= 1
        return fit


def choose_tiling(*, config: CoreConfig, m: int, n: int, k: int, passes: int, result_bytes: int,
                  shared_params: bool) -> Tiling:
    """The tiling of an M x K by K x N product.

    Parameters
    ----------
    passes : int
        Matrices of weights that the same activations meet.
    result_bytes : int
        1 for int8, 4 for int32.
    shared_params : bool
        Whether all columns have the same parameters.
    """
    problem = _Problem(config=config, m=m, n=n, k=k, passes=passes, result_bytes=result_bytes,
                       shared_params=shared_params)
    return _resident(problem) or _spans(problem)


def _chunking(problem: _Problem) -> tuple[int, int, int] | None:
    """Tiles of a chunk, chunks of a pass, padded K of the resident scheme; None: impossible."""
    config, k, height = problem.config, problem.k, problem.tile_rows
    tiles, cols = problem.k_tiles, config.array.cols
    whole = (problem.passes == 1 and k <= config.memory.wgt_rows // 2
             and k * cols <= MAX_RUN_BYTES)
    limit = max(1, min(config.memory.wgt_rows // (4 * height), MAX_RUN_BYTES // (height * cols)))
    single_only = config.control.execute_loops < 5
    if height < config.array.rows:
        # k_last shortens every tile, so that a chunk is one tile.
        if whole and tiles == 1:
            return 1, 1, k
        return None if single_only else (1, tiles, tiles * height)
    if single_only:
        return (tiles, 1, k) if whole else (1, tiles, tiles * height)
    wanted = min(limit, max(1, tiles // HEAD_CHUNKS))
    best = max((size for size in range(1, min(limit, tiles) + 1) if tiles % size == 0),
               key=lambda size: min(size, wanted) / max(size, wanted))
    padding = (tiles * height - k) / k
    if whole and (tiles < 4 or padding > 1 / 16):
        return tiles, 1, k
    return best, tiles // best, tiles * height


def _resident(problem: _Problem) -> Tiling | None:
    config, m = problem.config, problem.m
    array = config.array
    chunking = _chunking(problem)
    if chunking is None:
        return None
    chunk_tiles, chunks, padded_k = chunking
    panel_tiles = chunk_tiles * chunks * problem.passes
    most = min(problem.most_rows, problem.act_total // (2 * panel_tiles), 32767 // panel_tiles)
    words = array.rows * array.cols / config.bus.data_bytes     # of a tile of weights
    wanted, least = (max(array.rows, int(words / share)) for share in (BUS_SHARE, MOST_BUS_SHARE))
    if most < min(problem.most_rows, least):
        return None
    block_rows = split_evenly(m, max(_ceil(m, most), m // wanted))
    buffer_rows = block_rows[0] * panel_tiles
    buffers = min(4, problem.act_total // buffer_rows)
    chunk_rows = min(chunk_tiles * problem.tile_rows, padded_k)
    depth = min(MAX_DEPTH, config.memory.wgt_rows // chunk_rows,
                (buffers - 1) * problem.n_tiles * chunks * problem.passes)
    return _finish(problem, resident=True, block_rows=block_rows, chunk_tiles=chunk_tiles,
                   chunks=chunks, padded_k=padded_k, depth=depth, buffers=buffers,
                   buffer_rows=buffer_rows, block_tiles=1)


def _spans(problem: _Problem) -> Tiling:
    config, m, k = problem.config, problem.m, problem.k
    height, n_tiles, act_total = problem.tile_rows, problem.n_tiles, problem.act_total
    most = min(problem.most_rows, act_total // 2)
    whole_tiles = problem.piece_groups(1) == config.groups_per_row

    def cost(blocks: int) -> float:
        """Cycles, from array and bus, for ``blocks`` blocks of rows."""
        rows = _ceil(m, blocks)
        tiles = _block_tiles(problem, rows) if whole_tiles else 1
        array = blocks * max(rows, config.array.rows) * problem.k_tiles * n_tiles
        bus = (m * k * _ceil(n_tiles, tiles) + problem.n * k * blocks) / config.bus.data_bytes
        return max(array, bus) + 0.1 * min(array, bus)

    fewest = _ceil(m, most)
    blocks = min(range(fewest, min(m, fewest + 64) + 1), key=cost)
    block_rows = split_evenly(m, blocks)
    rows = block_rows[0]
    tiles = _block_tiles(problem, rows)
    tiles = split_evenly(n_tiles, _ceil(n_tiles, tiles))[0]
    chunk_tiles = 1
    if height == config.array.rows:
        chunk_tiles = max(1, min(config.memory.wgt_rows // (4 * height), act_total // (2 * rows),
                                 MAX_RUN_BYTES // (height * config.array.cols), problem.k_tiles))
    buffer_rows = rows * chunk_tiles
    buffers = min(4, act_total // buffer_rows)
    fewest_tiles = split_evenly(n_tiles, _ceil(n_tiles, tiles))[-1]
    depth = min(MAX_DEPTH, config.memory.wgt_rows // (chunk_tiles * height),
                (buffers - 1) * fewest_tiles)
    return _finish(problem, resident=False, block_rows=block_rows, chunk_tiles=chunk_tiles,
                   chunks=1, padded_k=k, depth=depth, buffers=buffers, buffer_rows=buffer_rows,
                   block_tiles=tiles)


def _block_tiles(problem: _Problem, rows: int) -> int:
    """Column tiles an accumulator half holds beside ``rows`` rows; 1 where drained in pieces."""
    if problem.piece_groups(rows) < problem.config.groups_per_row:
        return 1
    return max(1, min(problem.n_tiles, problem.acc_half // rows))


def _finish(problem: _Problem, *, resident: bool, block_rows: tuple[int, ...], chunk_tiles: int,
            chunks: int, padded_k: int, depth: int, buffers: int, buffer_rows: int,
            block_tiles: int) -> Tiling:
    config = problem.config
    groups, par_rows = config.groups_per_row, config.memory.par_rows
    rows = block_rows[0]
    piece_groups = problem.piece_groups(rows)
    ragged = config.array.cols % config.vector.lanes != 0
    one_tile = ragged or piece_groups < groups or (resident and config.acc_groups > 1 << 15)
    unit_tiles = 1
    if not one_tile:
        row_bytes = config.array.cols * problem.result_bytes
        tile_cycles = max(rows, config.array.rows) * problem.k_tiles * problem.passes
        if not resident:
            tile_cycles = UNIT_CYCLES
        unit_tiles = max(_ceil(UNIT_BURST_BYTES, row_bytes),
                         _ceil(UNIT_CYCLES, config.bus.data_bytes * tile_cycles),
                         1 if resident else _ceil(block_tiles, 4))
        unit_tiles = min(unit_tiles, problem.n_tiles if resident else block_tiles,
                         MAX_RUN_BYTES // row_bytes)
        if problem.shared_params:
            unit_tiles = min(unit_tiles, par_rows // groups)
        elif not problem.param_resident:
            unit_tiles = min(unit_tiles, par_rows // (2 * groups))
        while unit_tiles > 1 and 2 * rows * problem.stage_rows(
                unit_tiles * groups) > problem.stage_total:
            unit_tiles -= 1
    row_stage_rows = problem.stage_rows(unit_tiles * piece_groups)
    stage_rows = rows * row_stage_rows
    return Tiling(
        resident=resident, block_rows=block_rows, tile_rows=problem.tile_rows,
        chunk_tiles=chunk_tiles, chunks=chunks, padded_k=padded_k, passes=problem.passes,
        depth=depth, buffers=buffers, buffer_rows=buffer_rows, block_tiles=block_tiles,
        unit_tiles=unit_tiles, piece_groups=piece_groups, stage_row=problem.act_total,
        stage_rows=stage_rows, stage_slots=min(MAX_DEPTH, problem.stage_total // stage_rows),
        row_stage_rows=row_stage_rows, param_resident=problem.param_resident,
        param_slots=1 if problem.shared_params else min(
            MAX_DEPTH, par_rows // (unit_tiles * piece_groups)))
