"""The commands of one matrix product.

Eight semaphores order everything; engines run freely otherwise. Loads run in order, so that the
arrival of a chunk of weights also says that the activations and parameters before it are there,
and a chunk of weights given back ``depth`` chunks later that their activation buffer is free.
"""

from systolith_hw.config import CoreConfig

from .operands import WGT_FREE, WGT_READY, Operands
from .product import Product
from .program import Program, Slot
from .results import ACC_DONE, ACC_FREE, Results, Unit
from .tiling import Strip, Tiling, split_evenly

__all__ = ["emit_product"]

PANEL_PIECES = 8  # loads that the activations of a later block are cut into


def emit_product(program: Program, product: Product, tiling: Tiling) -> None:
    """Append the commands of ``product`` to ``program``.

    The activation scratchpad, accumulator, weight and parameter memory must be idle and all
    semaphores of the program 0.
    """
    _Emitter(program, product, tiling).emit()


class _Emitter:
    """Appends strip after strip.

    Members
    -------
    panels : int
        Blocks of kept activations whose loads have been appended.
    spans : int
        Streamed spans so far.
    block_ends : dict of int to int
        For every block of kept activations the chunks of weights up to its end.
    """
    def __init__(self, program: Program, product: Product, tiling: Tiling):
        self.program, self.product, self.tiling = program, product, tiling
        self.config: CoreConfig = program.config
        self.operands = Operands(program=program, product=product, tiling=tiling)
        self.results = Results(program=program, product=product, tiling=tiling)
        self.panels = 0
        self.spans = 0
        self.block_ends: dict[int, int] = {}

    def emit(self) -> None:
        for strip in self.tiling.strips:
            if strip.kept:
                self._emit_kept(strip)
            else:
                self._emit_streamed(strip)
            self.block_ends[strip.block] = self.operands.chunks_loaded

    # Streamed strips.

    def _spans_of(self, strip: Strip) -> list[tuple[int, int, int]]:
        """Pass, start and end in K of each span; the program's first ones are short."""
        spans, tiling = [], self.tiling
        for number in range(tiling.passes):
            start, tiles = 0, tiling.span_tiles
            if strip.number == number == 0:
                tiles = 1
            while start < tiling.padded_k:
                stop = min(tiling.padded_k, start + tiles * tiling.tile_rows)
                spans.append((number, start, stop))
                start, tiles = stop, min(2 * tiles, tiling.span_tiles)
        return spans

    def _emit_streamed(self, strip: Strip) -> None:
        units = self.results.units[strip.number]
        spans = self._spans_of(strip)
        self.panels = max(self.panels, strip.block + 1)
        for number, span in enumerate(spans):
            last = number == len(spans) - 1
            self._emit_span(strip, span, first=number == 0, last=last, unit=units[0])
        for unit in units:
            if not unit.first:
                self.results.load_params(unit, announce=True)
            self.results.finish(unit, self.operands.halves)
        self.operands.halves += 1

    def _emit_span(self, strip: Strip, span: tuple[int, int, int], *, first: bool, last: bool,
                   unit: Unit) -> None:
        tiling, operands = self.tiling, self.operands
        number, k_start, k_stop = span
        chunk_rows = k_stop - k_start
        k_tiles = -(-chunk_rows // tiling.tile_rows)
        if tiling.kept:
            pass_rows = tiling.chunk_tiles * tiling.chunks * strip.rows
            row = number * pass_rows + k_start // tiling.tile_rows * strip.rows
        else:
            row = self.spans % tiling.buffers * tiling.buffer_rows
        if k_start < self.product.k:
            operands.load_activations(strip.first_row, strip.rows, row, k_start,
                                      min(k_stop, self.product.k))
        if self.spans == 0:
            self.results.load_shared_params()
        if last:
            if strip.number == 0:
                self.results.load_table()
            self.results.load_params(unit, announce=False)
        wgt_row = operands.wgt_row
        operands.load_weights(strip.tile, strip.tiles, offset=number * tiling.padded_k + k_start,
                              chunk_rows=chunk_rows)
        if self.spans == 0:
            self.program.credit(ACC_FREE, 2)
        operands.execute(
            rows=strip.rows, buffer_row=row, wgt_row=wgt_row, tiles=strip.tiles, k_tiles=k_tiles,
            chunks=1, k_last=chunk_rows - (k_tiles - 1) * tiling.tile_rows, accumulate=not first,
            acc_stride=strip.rows,
            slots=[Slot(wait=WGT_READY, post=WGT_FREE,
                        level=self.config.control.execute_loops - 1),
                   Slot(wait=ACC_FREE if first else None, post=ACC_DONE if last else None)])
        self.spans += 1

    # Kept strips.

    def _emit_kept(self, strip: Strip) -> None:
        tiling, operands, results = self.tiling, self.operands, self.results
        units = results.units[strip.number]
        chunks = tiling.chunks * tiling.passes
        if self.panels == strip.block:
            self._load_panel(strip.block, 0, tiling.k_tiles_of(self.product.k))
            self.panels += 1
        if strip.number == 0:
            results.load_shared_params()
            results.load_table()
        pieces = self._panel_pieces(strip, units)
        wgt_row, tile = operands.wgt_row, strip.tile
        for position, unit in enumerate(units):
            results.load_params(unit, announce=not (unit.first or results.per_tile(strip)))
            if position in pieces:
                self._load_panel(strip.block + 1, *pieces[position])
                self.panels = strip.block + 2
            if unit.tile >= tile:
                # Up to the next unit that something else is loaded for.
                after = next((other.tile for number, other in enumerate(units)
                              if number > position and (
                                  number in pieces or results.needs_loads(other))
                              and other.tile > unit.tile), strip.end)
                self._load_chunks(tile, after - tile)
                tile = after
            if position == 0:
                if strip.number == 0:
                    self.program.credit(ACC_FREE, 2)
                self._execute_kept(strip, wgt_row, chunks)
            results.finish(unit, operands.halves)
        operands.halves += strip.tiles

    def _load_chunks(self, tile: int, tiles: int) -> None:
        tiling = self.tiling
        chunk_rows = min(tiling.chunk_tiles * tiling.tile_rows, tiling.padded_k)
        self.operands.load_weights(tile, tiles, offset=0, chunk_rows=chunk_rows,
                                   chunks=tiling.chunks * tiling.passes)

    def _panel_pieces(self, strip: Strip, units: list[Unit]) -> dict[int, tuple[int, int]]:
        """K tiles of the next block's activations to load before which units of ``strip``."""
        tiling = self.tiling
        block = strip.block + 1
        if block == len(tiling.block_rows):
            return {}
        # Loads must have waited for the last use of the buffer.
        before = block - tiling.buffers
        chunks = tiling.chunks * tiling.passes
        needed = 0 if before < 0 else self.block_ends[before] + tiling.depth
        free = [position for position, unit in enumerate(units)
                if self.operands.chunks_loaded + (unit.tile - strip.tile) * chunks >= needed
                and unit.group == 0]
        if not free:
            return {}
        k_tiles = tiling.k_tiles_of(self.product.k)
        count = min(PANEL_PIECES, len(free), k_tiles)
        pieces, start = {}, 0
        for number, size in enumerate(split_evenly(k_tiles, count)):
            pieces[free[number * len(free) // count]] = (start, start + size)
            start += size
        return pieces

    def _load_panel(self, block: int, start: int, stop: int) -> None:
        """Load K tiles ``start`` to ``stop`` of a block, once for every pass over the weights."""
        tiling, height = self.tiling, self.tiling.tile_rows
        rows = tiling.block_rows[block]
        buffer_row = block % tiling.buffers * tiling.buffer_rows
        for number in range(tiling.passes):
            row = buffer_row + (number * tiling.chunk_tiles * tiling.chunks + start) * rows
            self.operands.load_activations(
                sum(tiling.block_rows[:block]), rows, row, start * height,
                min(stop * height, self.product.k))

    def _execute_kept(self, strip: Strip, wgt_row: int, chunks: int) -> None:
        tiling = self.tiling
        depth, digits = self.config.control.execute_loops, self.operands.packing.digits
        k_last = tiling.padded_k - (tiling.chunk_tiles * tiling.chunks - 1) * tiling.tile_rows
        first = 2 + (digits > 1)    # loop over K tiles
        k_tiles, level = tiling.chunk_tiles, first + 1
        if level == depth - 1 and chunks > 1:
            # That loop walks column tiles; a chunk is one K tile.
            k_tiles, chunks, level = chunks, 1, first
        if k_tiles * chunks == 1 or chunks == 1 and level == first + 1:
            level = depth - 1
        self.operands.execute(
            rows=strip.rows, buffer_row=strip.block % tiling.buffers * tiling.buffer_rows,
            wgt_row=wgt_row, tiles=strip.tiles, k_tiles=k_tiles, chunks=chunks, k_last=k_last,
            accumulate=False, acc_stride=self.config.memory.acc_rows // 2,
            slots=[Slot(wait=WGT_READY, post=WGT_FREE, level=level),
                   Slot(wait=ACC_FREE, post=ACC_DONE, level=depth - 1)])
