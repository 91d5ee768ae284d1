"""The commands of one matrix product.

Eight semaphores order everything; engines run freely otherwise. Loads run in order, so that the
arrival of a chunk of weights also says that the activations and parameters before it are there,
and a chunk of weights given back ``depth`` chunks later that their activation buffer is free.
"""

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory

from .operands import WGT_FREE, WGT_READY, Operands
from .program import Program, Slot
from .results import ACC_DONE, ACC_FREE, Results, Unit
from .tiling import Product, Tiling

__all__ = ["emit_product"]

HEAD_LOADS = 8  # activation loads that the first block is cut into, at most about


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
        self.operands = Operands(program=program, product=product, tiling=tiling)
        self.results = Results(program=program, product=product, tiling=tiling)
        self.n_tiles = self.results.n_tiles

    def emit(self) -> None:
        if self.product.params_address is None:
            rows = self.tiling.unit_tiles * self.tiling.piece_groups
            self.program.fill(memory=Memory.PAR, value=0, row=0, counts=[rows], row_strides=[1],
                              run_bytes=self.config.par_row_bytes)
        if self.tiling.resident:
            self._emit_resident()
        else:
            self._emit_spans()

    def _credit_accumulator(self) -> None:
        self.program.credit(ACC_FREE, 2)

    def _emit_resident(self) -> None:
        tiling, product = self.tiling, self.product
        chunk_rows = min(tiling.chunk_tiles * tiling.tile_rows, tiling.padded_k)
        chunks = tiling.chunks * tiling.passes
        first_rows = [sum(tiling.block_rows[:i]) for i in range(len(tiling.block_rows))]
        self.operands.panel_ends = [(i + 1) * self.n_tiles * chunks for i in range(len(first_rows))]
        loaded = 0      # panels of activations
        for block, rows in enumerate(tiling.block_rows):
            units = [unit for unit in self.results.units if unit.block == block]
            tiles = 0   # whose weights are loaded
            for unit in units:
                if (unit.first or self.results.per_tile) and unit.number:
                    self.results.load_params(unit, announce=False)
                if loaded == block:
                    if block == 0:
                        self._emit_head(unit, rows, chunk_rows, chunks)
                        tiles = 1
                    else:
                        self._load_panel(block, first_rows[block])
                    loaded += 1
                elif loaded == block + 1 < len(first_rows) and self.operands.buffer_free(loaded):
                    self._load_panel(loaded, first_rows[loaded])
                    loaded += 1
                ends = unit.tile + unit.tiles
                full = min(ends, product.n // self.cols)
                wgt_row, half = self.operands.wgt_row, self.operands.halves + unit.tile
                if full > tiles:
                    self.operands.load_weights(tiles, 0, chunk_rows, (full - tiles) * chunks,
                                               chunk_rows * self.cols)
                    tiles = full
                if unit.tile == 0 and unit.first and block:
                    self._execute_block(rows, block, wgt_row, chunks)
                if not (self.results.per_tile or unit.first):
                    self.results.load_params(unit, announce=True)
                self.results.drain(unit, half, rows)
                if ends > tiles:
                    self.operands.load_weights(tiles, 0, chunk_rows, chunks,
                                               chunk_rows * self.results.tile_cols(tiles))
                    tiles += 1
                self.results.store(unit, first_rows[block], rows)
            self.operands.halves += self.n_tiles

    def _load_panel(self, block: int, first_row: int) -> None:
        """Load all of K of a block's activations, once for every pass over the weights."""
        rows = self.tiling.block_rows[block]
        pass_rows = self.tiling.chunk_tiles * self.tiling.chunks * rows
        for number in range(self.tiling.passes):
            row = self.operands.buffer_row(block) + number * pass_rows
            self.operands.load_activations(first_row, rows, row, 0, self.product.k)

    def _emit_head(self, unit: Unit, rows: int, chunk_rows: int, chunks: int) -> None:
        """The first block's activations and first column tile, piece by piece in turn."""
        tiling, product = self.tiling, self.product
        step = max(1, tiling.chunks // HEAD_LOADS)
        width = self.results.tile_cols(0)
        number = 0
        while number < chunks:
            index = number % tiling.chunks
            count = min(step if number else 1, tiling.chunks - index)
            k_start = index * chunk_rows
            k_stop = min(product.k, (index + count) * chunk_rows)
            if k_start < k_stop:
                self.operands.load_activations(0, rows, number * tiling.chunk_tiles * rows,
                                               k_start, k_stop)
            if number + count == chunks:
                self.results.load_params(unit, announce=False)
            self.operands.load_weights(0, number * chunk_rows, chunk_rows, count,
                                       chunk_rows * width)
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
        self.operands.execute(
            rows=rows, buffer_row=self.operands.buffer_row(block), wgt_row=wgt_row,
            tiles=self.n_tiles, k_tiles=k_tiles, chunks=chunks, k_last=k_last, accumulate=False,
            acc_stride=self.config.memory.acc_rows // 2,
            slots=[Slot(wait=WGT_READY, post=WGT_FREE, level=level),
                   Slot(wait=ACC_FREE, post=ACC_DONE, level=depth - 1)])

    def _spans_of(self, first: bool) -> list[tuple[int, int, int]]:
        """First weight row of the pass, start and end in K; the program's first ones are short."""
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
        units = iter(self.results.units)
        unit = next(units, None)
        for rows in tiling.block_rows:
            for start, tiles in self.results.tile_blocks():
                block_units = []
                while unit is not None and start <= unit.tile < start + tiles and (
                        not block_units or not block_units[-1].last):
                    block_units.append(unit)
                    unit = next(units, None)
                spans = self._spans_of(panel == 0)
                for number, span in enumerate(spans):
                    last = number == len(spans) - 1
                    if last:
                        self.results.load_params(block_units[0], announce=False)
                    self._emit_span(panel, first_row, rows, (start, tiles), span,
                                    first=number == 0, last=last)
                    panel += 1
                for block_unit in block_units:
                    if not block_unit.first:
                        self.results.load_params(block_unit, announce=True)
                    self.results.drain(block_unit, self.operands.halves, rows)
                    self.results.store(block_unit, first_row, rows)
                self.operands.halves += 1
            first_row += rows

    def _emit_span(self, panel: int, first_row: int, rows: int, block: tuple[int, int],
                   span: tuple[int, int, int], *, first: bool, last: bool) -> None:
        tiling = self.tiling
        (start, tiles), (base, k_start, k_stop) = block, span
        chunk_rows = k_stop - k_start
        k_tiles = -(-chunk_rows // tiling.tile_rows)
        self.operands.load_activations(first_row, rows, self.operands.buffer_row(panel), k_start,
                                       k_stop)
        wgt_row = self.operands.wgt_row
        full = min(start + tiles, self.product.n // self.cols) - start
        if full > 0:
            self.operands.load_weights(start, base + k_start, chunk_rows, full,
                                       tiling.passes * tiling.padded_k * self.cols)
        if panel == 0:
            self._credit_accumulator()
        self.operands.execute(
            rows=rows, buffer_row=self.operands.buffer_row(panel), wgt_row=wgt_row, tiles=tiles,
            k_tiles=k_tiles, chunks=1, k_last=chunk_rows - (k_tiles - 1) * tiling.tile_rows,
            accumulate=not first, acc_stride=rows,
            slots=[Slot(wait=WGT_READY, post=WGT_FREE,
                        level=self.config.control.execute_loops - 1),
                   Slot(wait=ACC_FREE if first else None, post=ACC_DONE if last else None)])
        if full < tiles:
            self.operands.load_weights(start + max(full, 0), base + k_start, chunk_rows, 1, 0)
