"""The commands of one matrix product.

Eight semaphores order everything; engines run freely otherwise. Loads run in order, so that the
arrival of a chunk of weights also says that the activations and parameters before it are there,
and a chunk of weights given back ``depth`` chunks later that their activation buffer is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory, VectorOp

from .program import Program, Slot
from .tiling import MAX_RUN_BYTES, Tiling, split_evenly

__all__ = ["Product", "emit_product"]

WGT_READY, WGT_FREE = "wgt_ready", "wgt_free"
ACC_DONE, ACC_FREE = "acc_done", "acc_free"
STAGE_READY, STAGE_FREE = "stage_ready", "stage_free"
PAR_READY, PAR_FREE = "par_ready", "par_free"
HEAD_LOADS = 8  # activation loads that the first block is cut into, at most about


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
class _Unit:
    """What one vector command drains: column tiles, or lane groups of one tile.

    ``number`` counts units of the whole product; ``first`` and ``last`` say whether it is the
    first and last of what lies in its accumulator half.
    """
    number: int
    block: int
    tile: int
    tiles: int
    group: int
    groups: int
    first: bool
    last: bool


def emit_product(program: Program, product: Product, tiling: Tiling) -> None:
    """Append the commands of ``product`` to ``program``.

    The activation scratchpad, accumulator, weight and parameter memory must be idle and all
    semaphores of the program 0.
    """
    _Emitter(program, product, tiling).emit()


class _Emitter:
    def __init__(self, program: Program, product: Product, tiling: Tiling):
        self.program, self.product, self.tiling = program, product, tiling
        self.config: CoreConfig = program.config
        self.cols = self.config.array.cols
        self.n_tiles = -(-product.n // self.cols)
        self.row_groups = self.config.groups_per_row
        self.result_bytes = 1 if product.requantised else 4
        self.units = list(self._units())
        self.unit_count = len(self.units)
        # Units of whole tiles, each tile in an accumulator half of its own.
        self.per_tile = tiling.resident and tiling.piece_groups == self.row_groups
        self.param_loads = {unit.number for unit in self.units if self._loads_params(unit)}
        self.chunks_loaded = 0      # chunks of weights asked for so far
        self.wgt_row = 0            # ring position of the next one
        self.panel_ends: list[int] = []  # chunks needed by all panels of activations so far
        self.halves = 0             # accumulator halves filled so far

    def emit(self) -> None:
        if self.product.params_address is None:
            rows = self.tiling.unit_tiles * self.tiling.piece_groups
            self.program.fill(memory=Memory.PAR, value=0, row=0, counts=[rows], row_strides=[1],
                              run_bytes=self.config.par_row_bytes)
        if self.tiling.resident:
            self._emit_resident()
        else:
            self._emit_spans()

    # Column tiles and their units.

    def _tile_cols(self, tile: int) -> int:
        return min(self.cols, self.product.n - tile * self.cols)

    def _tile_blocks(self) -> list[tuple[int, int]]:
        """First column tile and number of tiles of each accumulator half, for one row block."""
        if self.tiling.resident:
            return [(tile, 1) for tile in range(self.n_tiles)]
        sizes = split_evenly(self.n_tiles, -(-self.n_tiles // self.tiling.block_tiles))
        return [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]

    def _units(self) -> Iterator[_Unit]:
        number = 0
        blocks = len(self.tiling.block_rows)
        whole = self.tiling.piece_groups == self.row_groups
        ranges = [(0, self.n_tiles)] if self.tiling.resident and whole else self._tile_blocks()
        for block in range(blocks):
            for start, count in ranges:
                tile, end = start, start + count
                while whole and tile < end:
                    size = min(self.tiling.unit_tiles, end - tile)
                    if block == blocks - 1 and end == self.n_tiles:
                        # What remains after the last sum is small.
                        size = min(size, max(1, (end - tile) // 2))
                    yield _Unit(number=number, block=block, tile=tile, tiles=size, group=0,
                                groups=self.row_groups, first=tile == start,
                                last=tile + size == end)
                    number, tile = number + 1, tile + size
                if not whole:
                    step = self.tiling.piece_groups
                    groups = -(-self._tile_cols(start) // self.config.vector.lanes)
                    for group in range(0, groups, step):
                        yield _Unit(number=number, block=block, tile=start, tiles=1, group=group,
                                    groups=min(step, groups - group), first=group == 0,
                                    last=group + step >= groups)
                        number += 1

    def _unit_cols(self, unit: _Unit) -> tuple[int, int]:
        """First column of the result and number of columns."""
        lanes = self.config.vector.lanes
        start = unit.tile * self.cols + unit.group * lanes
        end = (unit.tile + unit.tiles) * self.cols
        if unit.groups < self.row_groups:
            end = min(end, start + unit.groups * lanes)
        return start, min(end, self.product.n) - start

    # Parameters.

    def _loads_params(self, unit: _Unit) -> bool:
        if self.product.params_address is None:
            return False
        if self.tiling.param_resident:
            return unit.block == 0 and (unit.first or self.per_tile)
        return True

    def _param_row(self, unit: _Unit) -> int:
        if self.product.params_address is None:
            return 0
        if self.tiling.param_resident:
            return unit.tile * self.row_groups + unit.group
        slot_rows = self.tiling.unit_tiles * self.tiling.piece_groups
        return unit.number % self.tiling.param_slots * slot_rows

    def _load_params(self, unit: _Unit, *, announce: bool) -> None:
        """Load the parameters of ``unit``, where it does not find them in place."""
        if unit.number not in self.param_loads or self.product.params_address is None:
            return
        reused = not self.tiling.param_resident and unit.number >= self.tiling.param_slots
        row_bytes = self.config.par_row_bytes
        first = unit.tile * self.row_groups + unit.group
        left, row = unit.tiles * unit.groups, self._param_row(unit)
        if self.tiling.param_resident and not self.per_tile:
            # The first unit of an accumulator half finds room for all of it.
            left = dict(self._tile_blocks())[unit.tile] * self.row_groups
        address = self.product.params_address + first * row_bytes
        while left:
            rows = min(left, MAX_RUN_BYTES // row_bytes)
            left -= rows
            self.program.load(
                memory=Memory.PAR, address=address, run_bytes=rows * row_bytes, row=row,
                row_bytes=row_bytes,
                slots=[Slot(wait=PAR_FREE if reused else None,
                            post=PAR_READY if announce and not left else None)])
            reused = False
            address, row = address + rows * row_bytes, row + rows

    # Operands.

    def _load_activations(self, first_row: int, rows: int, buffer_row: int, k_start: int,
                          k_stop: int) -> None:
        """Load K range ``k_start`` to ``k_stop`` of ``rows`` rows, one panel per K tile."""
        height = self.tiling.tile_rows
        most = MAX_RUN_BYTES // height * height
        for start in range(k_start, k_stop, most):
            stop = min(k_stop, start + most)
            self.program.load(
                memory=Memory.ACT, run_bytes=stop - start, row_bytes=min(height, stop - start),
                address=self.product.a_address + first_row * self.product.a_pitch + start,
                row=buffer_row + (start - k_start) // height * rows, row_step=rows,
                counts=[rows], strides=[self.product.a_pitch], row_strides=[1])

    def _load_weights(self, tile: int, offset: int, chunk_rows: int, count: int,
                      stride: int) -> None:
        """Load ``count`` chunks, from row ``offset`` of column tile ``tile`` on.

        The first ones of the program find the ring empty; the others wait for space.
        """
        cols = self._tile_cols(tile)
        panel = self.tiling.passes * self.tiling.padded_k * self.cols
        address = self.product.weights_address + tile * panel + offset * cols
        wgt_rows = self.config.memory.wgt_rows
        free = max(0, min(count, self.tiling.depth - self.chunks_loaded))
        for size, wait in ((free, None), (count - free, WGT_FREE)):
            if size:
                self.program.load(
                    memory=Memory.WGT, address=address, run_bytes=chunk_rows * cols,
                    row=self.wgt_row, row_bytes=cols, counts=[size], strides=[stride],
                    row_strides=[chunk_rows], ring=wgt_rows.bit_length() - 1,
                    slots=[Slot(wait=wait, post=WGT_READY, level=0)])
                address += size * stride
                self.wgt_row = (self.wgt_row + size * chunk_rows) % wgt_rows
                self.chunks_loaded += size

    def _buffer_row(self, panel: int) -> int:
        return panel % self.tiling.buffers * self.tiling.buffer_rows

    def _buffer_free(self, panel: int) -> bool:
        """Whether the loads so far have waited for the last use of a panel's buffer."""
        before = panel - self.tiling.buffers
        return before < 0 or self.chunks_loaded - self.tiling.depth >= self.panel_ends[before]

    def _execute(self, *, rows: int, buffer_row: int, wgt_row: int, tiles: int, k_tiles: int,
                 chunks: int, k_last: int, acc_stride: int, accumulate: bool,
                 slots: list[Slot]) -> None:
        """Append an execute; ``chunks`` of ``k_tiles`` K tiles for each of ``tiles``."""
        depth = self.config.control.execute_loops
        counts = [rows, 1, k_tiles, *[1] * (depth - 4), tiles]
        act_strides = [1, 0, rows, *[k_tiles * rows] * (depth - 4), 0]
        if chunks > 1:
            counts[3] = chunks
        acc_rows = self.config.memory.acc_rows
        self.program.execute(
            counts=counts, act_row=buffer_row, act_strides=act_strides,
            acc_row=self.halves % 2 * (acc_rows // 2),
            acc_strides=[1, *[0] * (depth - 2), acc_stride], wgt_row=wgt_row, k_last=k_last,
            accumulate=accumulate, slots=slots,
            rings=(0, self.config.memory.wgt_rows.bit_length() - 1, acc_rows.bit_length() - 1))

    def _credit_accumulator(self) -> None:
        if self.halves == 0:
            self.program.credit(ACC_FREE, 2)

    # Results.

    def _drain(self, unit: _Unit, half: int, rows: int) -> None:
        """Append the vector command of ``unit``, from accumulator half ``half`` on."""
        tiling, config = self.tiling, self.config
        lanes, pitch = config.vector.lanes, config.acc_group_pitch
        half_groups = config.acc_groups // 2
        source = half % 2 * half_groups + unit.group
        if self.per_tile:
            slot = Slot(wait=ACC_DONE, post=ACC_FREE, level=2)
            tile_stride = half_groups
        else:
            loaded = PAR_READY if unit.number in self.param_loads else None
            slot = Slot(wait=ACC_DONE if unit.first else loaded,
                        post=ACC_FREE if unit.last else None)
            tile_stride = rows * pitch
            if not tiling.resident:
                source += (unit.tile - self._block_start(unit.tile)) * tile_stride
        if unit.tiles == 1:
            tile_stride = 0
        row_groups = tiling.row_stage_rows * config.act_row_bytes // lanes
        slot_row = tiling.stage_row + unit.number % tiling.stage_slots * tiling.stage_rows
        self.program.vector(
            operation=VectorOp.REQUANTISE if self.product.requantised else VectorOp.ADD_BIAS,
            counts=[unit.groups, rows, unit.tiles, *[1] * (config.control.vector_loops - 3)],
            source=source, source_strides=[pitch, tile_stride, *[0] * (
                config.control.vector_loops - 3)],
            source_ring=min(15, config.acc_groups.bit_length() - 1) if unit.tiles > 1 else 0,
            result=slot_row * config.act_row_bytes // lanes,
            result_strides=[row_groups, unit.groups * self.result_bytes,
                            *[0] * (config.control.vector_loops - 3)],
            param_row=self._param_row(unit), zero_point=self.product.zero_point,
            clamp=self.product.clamp,
            slots=[slot, Slot(wait=STAGE_FREE if unit.number >= tiling.stage_slots else None,
                              post=STAGE_READY)])

    def _block_start(self, tile: int) -> int:
        return max(start for start, _ in self._tile_blocks() if start <= tile)

    def _store(self, unit: _Unit, first_row: int, rows: int) -> None:
        """Append the store of what ``unit`` left in its staging slot."""
        tiling, product = self.tiling, self.product
        column, columns = self._unit_cols(unit)
        run_bytes = columns * self.result_bytes
        frees_params = (not tiling.param_resident
                        and unit.number + tiling.param_slots in self.param_loads)
        self.program.store(
            address=product.out_address + first_row * product.out_pitch
            + column * self.result_bytes,
            run_bytes=run_bytes, row_bytes=min(run_bytes, self.config.act_row_bytes),
            row=tiling.stage_row + unit.number % tiling.stage_slots * tiling.stage_rows,
            counts=[rows], strides=[product.out_pitch], row_strides=[tiling.row_stage_rows],
            slots=[Slot(wait=STAGE_READY, post=STAGE_FREE
                        if unit.number + tiling.stage_slots < self.unit_count else None),
                   Slot(post=PAR_FREE if frees_params else None)])

    # The two schemes.

    def _emit_resident(self) -> None:
        tiling, product = self.tiling, self.product
        chunk_rows = min(tiling.chunk_tiles * tiling.tile_rows, tiling.padded_k)
        chunks = tiling.chunks * tiling.passes
        first_rows = [sum(tiling.block_rows[:i]) for i in range(len(tiling.block_rows))]
        self.panel_ends = [(i + 1) * self.n_tiles * chunks for i in range(len(first_rows))]
        loaded = 0      # panels of activations
        for block, rows in enumerate(tiling.block_rows):
            units = [unit for unit in self.units if unit.block == block]
            tiles = 0   # whose weights are loaded
            for unit in units:
                if (unit.first or self.per_tile) and unit.number:
                    self._load_params(unit, announce=False)
                if loaded == block:
                    if block == 0:
                        self._emit_head(unit, rows, chunk_rows, chunks)
                        tiles = 1
                    else:
                        self._load_panel(block, first_rows[block])
                    loaded += 1
                elif loaded == block + 1 < len(first_rows) and self._buffer_free(loaded):
                    self._load_panel(loaded, first_rows[loaded])
                    loaded += 1
                ends = unit.tile + unit.tiles
                full = min(ends, product.n // self.cols)
                wgt_row, half = self.wgt_row, self.halves + unit.tile
                if full > tiles:
                    self._load_weights(tiles, 0, chunk_rows, (full - tiles) * chunks,
                                       chunk_rows * self.cols)
                    tiles = full
                if unit.tile == 0 and unit.first and block:
                    self._execute_block(rows, block, wgt_row, chunks)
                if not (self.per_tile or unit.first):
                    self._load_params(unit, announce=True)
                self._drain(unit, half, rows)
                if ends > tiles:
                    self._load_weights(tiles, 0, chunk_rows, chunks,
                                       chunk_rows * self._tile_cols(tiles))
                    tiles += 1
                self._store(unit, first_rows[block], rows)
            self.halves += self.n_tiles

    def _load_panel(self, block: int, first_row: int) -> None:
        """Load all of K of a block's activations, once for every pass over the weights."""
        rows = self.tiling.block_rows[block]
        pass_rows = self.tiling.chunk_tiles * self.tiling.chunks * rows
        for number in range(self.tiling.passes):
            self._load_activations(first_row, rows, self._buffer_row(block) + number * pass_rows,
                                   0, self.product.k)

    def _emit_head(self, unit: _Unit, rows: int, chunk_rows: int, chunks: int) -> None:
        """The first block's activations and first column tile, piece by piece in turn."""
        tiling, product = self.tiling, self.product
        step = max(1, tiling.chunks // HEAD_LOADS)
        width = self._tile_cols(0)
        number = 0
        while number < chunks:
            index = number % tiling.chunks
            count = min(step if number else 1, tiling.chunks - index)
            k_start = index * chunk_rows
            k_stop = min(product.k, (index + count) * chunk_rows)
            if k_start < k_stop:
                self._load_activations(0, rows, number * tiling.chunk_tiles * rows,
                                       k_start, k_stop)
            if number + count == chunks:
                self._load_params(unit, announce=False)
            self._load_weights(0, number * chunk_rows, chunk_rows, count, chunk_rows * width)
            if number == 0:
                self._credit_accumulator()
                self._execute_block(rows, 0, 0, chunks)
            number += count

    def _execute_block(self, rows: int, block: int, wgt_row: int, chunks: int) -> None:
        tiling = self.tiling
        depth = self.config.control.execute_loops
        k_last = tiling.padded_k - (tiling.chunk_tiles * tiling.chunks - 1) * tiling.tile_rows
        k_tiles, level = tiling.chunk_tiles, 3
        if depth < 5 and chunks > 1:
            # Loop 3 walks column tiles; a chunk is one K tile.
            k_tiles, chunks, level = chunks, 1, 2
        if k_tiles * chunks == 1 or chunks == 1 and level == 3:
            level = depth - 1
        self._execute(
            rows=rows, buffer_row=self._buffer_row(block), wgt_row=wgt_row, tiles=self.n_tiles,
            k_tiles=k_tiles, chunks=chunks, k_last=k_last, accumulate=False,
            acc_stride=self.config.memory.acc_rows // 2,
            slots=[Slot(wait=WGT_READY, post=WGT_FREE, level=level),
                   Slot(wait=ACC_FREE, post=ACC_DONE, level=depth - 1)])

    def _spans_of(self, first: bool) -> list[tuple[int, int]]:
        """K ranges; at the start of the program they begin short."""
        spans, height = [], self.tiling.tile_rows
        for base in range(self.tiling.passes):
            start, tiles = 0, 1 if first and base == 0 else self.tiling.chunk_tiles
            while start < self.product.k:
                stop = min(self.product.k, start + tiles * height)
                spans.append((base * self.tiling.padded_k, start, stop))
                start, tiles = stop, min(2 * tiles, self.tiling.chunk_tiles)
        return spans

    def _emit_spans(self) -> None:
        tiling = self.tiling
        panel, first_row = 0, 0
        units = iter(self.units)
        unit = next(units, None)
        for rows in tiling.block_rows:
            for start, tiles in self._tile_blocks():
                block_units = []
                while unit is not None and start <= unit.tile < start + tiles and (
                        not block_units or not block_units[-1].last):
                    block_units.append(unit)
                    unit = next(units, None)
                spans = self._spans_of(panel == 0)
                for number, span in enumerate(spans):
                    last = number == len(spans) - 1
                    if last:
                        self._load_params(block_units[0], announce=False)
                    self._emit_span(panel, first_row, rows, (start, tiles), span,
                                    first=number == 0, last=last)
                    panel += 1
                for block_unit in block_units:
                    if not block_unit.first:
                        self._load_params(block_unit, announce=True)
                    self._drain(block_unit, self.halves, rows)
                    self._store(block_unit, first_row, rows)
                self.halves += 1
            first_row += rows

    def _emit_span(self, panel: int, first_row: int, rows: int, block: tuple[int, int],
                   span: tuple[int, int, int], *, first: bool, last: bool) -> None:
        tiling = self.tiling
        (start, tiles), (base, k_start, k_stop) = block, span
        chunk_rows = k_stop - k_start
        k_tiles = -(-chunk_rows // tiling.tile_rows)
        self._load_activations(first_row, rows, self._buffer_row(panel), k_start, k_stop)
        wgt_row = self.wgt_row
        full = min(start + tiles, self.product.n // self.cols) - start
        if full > 0:
            self._load_weights(start, base + k_start, chunk_rows, full,
                               tiling.passes * tiling.padded_k * self.cols)
        self._credit_accumulator_once(panel)
        self._execute(
            rows=rows, buffer_row=self._buffer_row(panel), wgt_row=wgt_row, tiles=tiles,
            k_tiles=k_tiles, chunks=1, k_last=chunk_rows - (k_tiles - 1) * tiling.tile_rows,
            accumulate=not first, acc_stride=rows,
            slots=[Slot(wait=WGT_READY, post=WGT_FREE,
                        level=self.config.control.execute_loops - 1),
                   Slot(wait=ACC_FREE if first else None, post=ACC_DONE if last else None)])
        if full < tiles:
            self._load_weights(start + max(full, 0), base + k_start, chunk_rows, 1, 0)

    def _credit_accumulator_once(self, panel: int) -> None:
        if panel == 0:
            self._credit_accumulator()
