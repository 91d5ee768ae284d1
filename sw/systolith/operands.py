"""Operands of a product: loads of activations and weights, and executes."""

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory, WeightFormat

from .layout import Packing
from .product import Product
from .program import Program, Slot
from .tiling import MAX_RUN_BYTES, Tiling

__all__ = ["WGT_FREE", "WGT_READY", "Operands"]

WGT_READY, WGT_FREE = "wgt_ready", "wgt_free"


class Operands:
    """Appends what comes before the accumulator.

    Parameters
    ----------
    program : Program
    product : Product
    tiling : Tiling

    Members
    -------
    wgt_row : int
        Place in the ring of weights of the next chunk.
    chunks_loaded : int
        Chunks of weights asked for so far.
    halves : int
        Accumulator halves filled so far.
    awaited : int
        Times that ``product.ready`` has been waited for.
    """
    def __init__(self, *, program: Program, product: Product, tiling: Tiling):
        self.program, self.product, self.tiling = program, product, tiling
        self.config: CoreConfig = program.config
        self.packing = Packing(self.config, product.weights)
        self.cols = self.packing.cols
        self.wgt_row = 0
        self.chunks_loaded = 0
        self.halves = 0
        self.awaited = 0

    def load_activations(self, first_row: int, rows: int, buffer_row: int, k_start: int,
                         k_stop: int) -> None:
        """Load K range ``k_start`` to ``k_stop`` of ``rows`` rows, one panel per K tile."""
        height = self.tiling.tile_rows
        most = MAX_RUN_BYTES // height * height
        self._await(first_row + rows, buffer_row)
        for start in range(k_start, k_stop, most):
            stop = min(k_stop, start + most)
            self.program.load(
                memory=Memory.ACT, run_bytes=stop - start, row_bytes=min(height, stop - start),
                address=self.product.a_address + first_row * self.product.a_pitch + start,
                row=buffer_row + (start - k_start) // height * rows, row_step=rows,
                counts=[rows], strides=[self.product.a_pitch], row_strides=[1])
        lanes = self.product.k % height
        if k_stop == self.product.k < self.tiling.padded_k and lanes:
            # Lanes that meet the padding, weights of 0.
            self.program.fill(
                memory=Memory.ACT, value=0, run_bytes=height - lanes, byte=lanes,
                row=buffer_row + (k_stop - k_start) // height * rows, counts=[rows],
                row_strides=[1])

    def _await(self, rows: int, buffer_row: int) -> None:
        """Wait until the first ``rows`` rows of activations are in memory, by a fill of a byte
        that is loaded next."""
        if self.product.ready is None:
            return
        count = -(-rows // self.product.ready_rows) - self.awaited
        if count > 0:
            self.program.fill(memory=Memory.ACT, value=0, run_bytes=1, row=buffer_row,
                              counts=[count], slots=[Slot(wait=self.product.ready, level=0)])
            self.awaited += count

    def load_weights(self, tile: int, tiles: int, *, offset: int, chunk_rows: int,
                     chunks: int = 1) -> None:
        """Load chunks of weights of some column tiles, tile by tile.

        Parameters
        ----------
        tile, tiles : int
        offset : int
            First array row of the pass.
        chunk_rows, chunks : int
            Array rows of a chunk, and chunks of each tile; more than one only where a tile's chunks
            end where the next tile begins.
        """
        packing, height = self.packing, self.tiling.tile_rows
        panel_rows = packing.rows(self.tiling.passes * self.tiling.padded_k, height)
        chunk_rows = packing.rows(chunk_rows, height)
        full = max(0, min(tile + tiles, self.product.n // self.cols) - tile)
        for first, count in ((tile, full), (tile + full, tiles - full)):
            row_bytes = packing.row_bytes(min(self.cols, self.product.n - first * self.cols))
            stride = row_bytes * (panel_rows if chunks == 1 else chunk_rows)
            address = (self.product.weights_address
                       + first * panel_rows * packing.row_bytes(self.cols)
                       + packing.rows(offset, height) * row_bytes)
            self._load_chunks(address, row_bytes, chunk_rows, count * chunks, stride)

    def _load_chunks(self, address: int, row_bytes: int, chunk_rows: int, count: int,
                     stride: int) -> None:
        """The first chunks of the program find the ring empty; the others wait for space.

        ``chunk_rows`` are those of the scratchpad.
        """
        wgt_rows = self.config.memory.wgt_rows
        free = max(0, min(count, self.tiling.depth - self.chunks_loaded))
        for size, wait in ((free, None), (count - free, WGT_FREE)):
            while size:
                now = min(size, 65535)
                self.program.load(
                    memory=Memory.WGT, address=address, run_bytes=chunk_rows * row_bytes,
                    row=self.wgt_row, row_bytes=row_bytes, counts=[now], strides=[stride],
                    row_strides=[chunk_rows], ring=wgt_rows.bit_length() - 1,
                    slots=[Slot(wait=wait, post=WGT_READY, level=0)])
                address += now * stride
                self.wgt_row = (self.wgt_row + now * chunk_rows) % wgt_rows
                self.chunks_loaded += now
                size -= now

    def execute(self, *, rows: int, buffer_row: int, wgt_row: int, tiles: int, k_tiles: int,
                chunks: int, k_last: int, acc_stride: int, accumulate: bool,
                slots: list[Slot]) -> None:
        """Append an execute; ``chunks`` of ``k_tiles`` K tiles for each of ``tiles``."""
        depth, digits = self.config.control.execute_loops, self.packing.digits
        turns = [digits] if digits > 1 else []  # of every K tile
        k_loops = [k_tiles, chunks] if chunks > 1 else [k_tiles]
        counts = [rows, 1, *turns, *k_loops]
        act_strides = [1, 0, *[0] * len(turns), rows, *[k_tiles * rows] * (len(k_loops) - 1)]
        unused = depth - 1 - len(counts)
        counts += [*[1] * unused, tiles]
        act_strides += [0] * (unused + 1)
        acc_rows = self.config.memory.acc_rows
        self.program.execute(
            counts=counts, act_row=buffer_row, act_strides=act_strides,
            format=WeightFormat[self.product.weights.upper()],
            acc_row=self.halves % 2 * (acc_rows // 2),
            acc_strides=[1, *[0] * (depth - 2), acc_stride], wgt_row=wgt_row, k_last=k_last,
            accumulate=accumulate, slots=slots,
            rings=(0, self.config.memory.wgt_rows.bit_length() - 1, acc_rows.bit_length() - 1))
