"""Operands of a product: loads of activations and weights, and executes."""

from systolith_hw.config import CoreConfig
from systolith_hw.isa import Memory

from .program import Program, Slot
from .tiling import MAX_RUN_BYTES, Product, Tiling

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
    panel_ends : list of int
        For every panel of activations the chunks that it and those before it meet.
    halves : int
        Accumulator halves filled so far.
    """
    def __init__(self, *, program: Program, product: Product, tiling: Tiling):
        self.program, self.product, self.tiling = program, product, tiling
        self.config: CoreConfig = program.config
        self.cols = self.config.array.cols
        self.wgt_row = 0
        self.chunks_loaded = 0
        self.panel_ends: list[int] = []
        self.halves = 0

    def load_activations(self, first_row: int, rows: int, buffer_row: int, k_start: int,
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

    def load_weights(self, tile: int, offset: int, chunk_rows: int, count: int,
                      stride: int) -> None:
        """Load ``count`` chunks, from row ``offset`` of column tile ``tile`` on.

        The first ones of the program find the ring empty; the others wait for space.
        """
        cols = min(self.cols, self.product.n - tile * self.cols)
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

    def buffer_row(self, panel: int) -> int:
        return panel % self.tiling.buffers * self.tiling.buffer_rows

    def buffer_free(self, panel: int) -> bool:
        """Whether the loads so far have waited for the last use of a panel's buffer."""
        before = panel - self.tiling.buffers
        return before < 0 or self.chunks_loaded - self.tiling.depth >= self.panel_ends[before]

    def execute(self, *, rows: int, buffer_row: int, wgt_row: int, tiles: int, k_tiles: int,
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
