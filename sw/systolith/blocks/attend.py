"""Scores, softmax and context of one head, block of rows by block of rows, on the core."""

from dataclasses import dataclass

import numpy as np
from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Memory, Reduction, VectorOp

from ..image import Tensor
from ..program import Program, Slot
from ..quantise import quantise_multiplier
from ..tiling import split_evenly
from ..vector import Constants, Passes, Record, Rows, reciprocal_table
from ..vector.rows import exp_table
from ..vector.tables import exponent
from ..vector.transfers import Buffer, Region, move
from ..vector.values import ROW, RowScale
from .stages import Stages

__all__ = ["Head", "attend"]

BLOCK_ROWS = 16     # of the scores, at least, where the memories hold so many
ONE = 127           # what stands for the largest probability of a row
OPERANDS, SCORES, WEIGHTS, CONTEXT, STORED = (
    "head_operands", "head_scores", "head_weights", "head_context", "head_stored")


@dataclass(frozen=True, kw_only=True)
class Head:
    """Operands in system memory, and scales.

    Parameters
    ----------
    query, value, context : Tensor
        int8, (tokens, head); the columns of the first two go on to whole tiles, with zeros.
    keys : int
        Address of the keys as weights, (head in whole tiles, tokens).
    mask : Tensor or None
        int8, (tokens or 1, tokens in whole tiles): 0 where a token does not count.
    scale : float
        Of the scores' integers.
    gain : float
        Scale of the values over that of the context.
    """
    query: Tensor
    value: Tensor
    context: Tensor
    keys: int
    mask: Tensor | None
    scale: float
    gain: float


def attend(stages: Stages, head: Head) -> None:
    """Append ``context = softmax(query keys) value``.

    The array computes the scores of a block of rows while the vector unit works on those of the
    block before: the softmax takes them from the accumulator, and leaves ``exp(score - max)`` as
    int8 and the sum of each row, by which the context is divided as it is requantised.

    Raises
    ------
    ValueError
        The core's memories are too small, or rows of the array and scratchpad differ.
    """
    _Attend(stages, head).emit()


class _Attend:
    """Places operands in the scratchpads, and appends the commands of block after block."""
    def __init__(self, stages: Stages, head: Head):
        self.stages, self.head = stages, head
        self.program: Program = stages.program
        self.config: CoreConfig = stages.config
        config, width, cols = self.config, self.config.array.rows, self.config.array.cols
        self.tokens = head.query.shape[0]
        self.score_tiles = -(-self.tokens // cols)
        self.head_tiles = -(-head.context.shape[1] // cols)
        self.depth = self.head_tiles * cols
        if width != config.act_row_bytes or cols % config.vector.lanes:
            raise ValueError(f"array must have 4 rows or more, a power of two, and columns in "
                             f"whole lane groups for attention, not {width} x {cols!r}")
        # Scratchpad rows of a row of each operand.
        self.query_pitch = -(-self.depth // width)
        self.score_pitch = -(-self.score_tiles * cols // width)
        self.blocks = self._blocks()
        most = max(self.blocks)
        masks = head.mask.shape[0] if head.mask else 0
        sizes = [self.tokens * self.query_pitch, 2 * most * self.score_pitch,
                 self.tokens * self.query_pitch, masks * self.score_pitch]
        self.query_row, self.weight_row, self.context_row, self.mask_row, end = np.cumsum(
            [0, *sizes]).tolist()
        self._check("memory.act_rows", end, config.memory.act_rows)
        self.value_row = self.score_tiles * self.depth
        self._check("memory.wgt_rows", self.value_row + self.head_tiles * self.tokens,
                    config.memory.wgt_rows)

    def _check(self, name: str, needed: int, there: int) -> None:
        if needed > there:
            raise ValueError(f"{name} must be at least {needed} for attention over {self.tokens} "
                             f"tokens with a head of {self.depth}, not {there!r}")

    def _blocks(self) -> tuple[int, ...]:
        """Rows of each block."""
        tiles, half = self.score_tiles + self.head_tiles, self.config.memory.acc_rows // 2
        self._check("memory.acc_rows", 2 * tiles, 2 * half)
        most = min(half // tiles, max(BLOCK_ROWS, self.config.array.rows),
                   self.config.vector.rows // 3)
        if not most:
            raise ValueError("vector.rows must be at least 16 for attention, not 0")
        return split_evenly(self.tokens, -(-self.tokens // most))

    def emit(self) -> None:
        draft = Program(config=self.config, draft=True)
        self.constants = self.stages.constants(
            lambda constants: self._softmax(draft, constants, 0))
        self._load()
        # A block's context follows the scores of the next one, so that nobody waits.
        count = len(self.blocks)
        for block in range(count + 1):
            if block < count:
                self._execute_scores(block)
            if block:
                self._execute_context(block - 1)
            if block < count:
                self._softmax(self.program, self.constants, block)
            if block:
                self._finish(block - 1)

    # Operands.

    def _load(self) -> None:
        program, head, cols = self.program, self.head, self.config.array.cols
        for tile in range(self.score_tiles):
            width = min(cols, self.tokens - tile * cols)
            program.load(memory=Memory.WGT, address=head.keys + tile * cols * self.depth,
                         run_bytes=self.depth * width, row_bytes=width, row=tile * self.depth)
        for tile in range(self.head_tiles):
            program.load(memory=Memory.WGT, address=head.value.address + tile * cols,
                         run_bytes=cols, row=self.value_row + tile * self.tokens,
                         counts=[self.tokens], strides=[head.value.strides[0]], row_strides=[1])
        if head.mask:
            self._move(head.mask, self.mask_row, self.score_pitch, head.mask.shape[1])
        self._move(head.query, self.query_row, self.query_pitch, self.depth, post=OPERANDS)

    def _move(self, tensor: Tensor, row: int, pitch: int, cols: int, *, first: int = 0,
              count: int | None = None, store: bool = False, wait: str | None = None,
              post: str | None = None) -> None:
        rows = np.arange(first, first + (tensor.shape[0] if count is None else count))
        move(self.program, Region(addresses=tensor.address + rows * tensor.strides[0], cols=cols,
                                  size=1), Buffer(row=row + first * pitch, pitch=pitch),
             store=store, wait=wait, post=post)

    # The array.

    def _scores_row(self, block: int) -> int:
        """Accumulator row of a block's scores; those of its context follow."""
        return block % 2 * (self.config.memory.acc_rows // 2)

    def _context_row(self, block: int) -> int:
        return self._scores_row(block) + self.score_tiles * max(self.blocks)

    def _weight_row(self, block: int) -> int:
        return self.weight_row + block % 2 * max(self.blocks) * self.score_pitch

    def _execute_scores(self, block: int) -> None:
        self._execute(
            block, act_row=self.query_row + sum(self.blocks[:block]) * self.query_pitch,
            pitch=self.query_pitch, depth=self.depth, tiles=self.score_tiles, wgt_row=0,
            acc_row=self._scores_row(block),
            slot=Slot(wait=None if block else OPERANDS, post=SCORES))

    def _execute_context(self, block: int) -> None:
        self._execute(
            block, act_row=self._weight_row(block), pitch=self.score_pitch, depth=self.tokens,
            tiles=self.head_tiles, wgt_row=self.value_row, acc_row=self._context_row(block),
            slot=Slot(wait=WEIGHTS, post=CONTEXT))

    def _execute(self, block: int, *, act_row: int, pitch: int, depth: int, tiles: int,
                 wgt_row: int, acc_row: int, slot: Slot) -> None:
        rows, height, loops = (self.blocks[block], self.config.array.rows,
                               self.config.control.execute_loops)
        k_tiles = -(-depth // height)
        self.program.execute(
            counts=[rows, 1, k_tiles, *[1] * (loops - 4), tiles], act_row=act_row,
            act_strides=[pitch, 0, 1, *[0] * (loops - 3)], acc_row=acc_row,
            acc_strides=[1, *[0] * (loops - 2), rows], wgt_row=wgt_row,
            k_last=depth - (k_tiles - 1) * height, slots=[slot])

    # The vector unit.

    def _sums(self, row: int, block: int, tiles: int, depth: int) -> Rows:
        pitch = self.config.acc_group_pitch
        return Rows(kind=ElementType.ACC, base=row * pitch, cols=self.config.array.cols,
                    pitch=pitch, runs=tiles, run_pitch=self.blocks[block] * pitch,
                    low=-depth << 14, high=depth << 14)

    def _rows(self, row: int, pitch: int, tiles: int) -> Rows:
        cols, units = self.config.array.cols, self.stages.units
        return Rows(kind=ElementType.INT8, base=units(row), cols=cols, pitch=units(pitch),
                    runs=tiles, run_pitch=cols // self.config.vector.lanes)

    def _record(self, block: int) -> Record:
        # Those of the block before are in use, and those before that may be read at this moment.
        return Record(base=block % 3 * max(self.blocks))

    def _softmax(self, program: Program, constants: Constants, block: int) -> None:
        head, unit = self.head, self.config.vector
        passes = Passes(program, constants, rows=self.blocks[block],
                        first_record=self._record(block).base)
        source = self._sums(self._scores_row(block), block, self.score_tiles, self.depth)
        weights = self._rows(self._weight_row(block), self.score_pitch, self.score_tiles)
        mask = None
        if head.mask:
            several = head.mask.shape[0] > 1
            mask = self._rows(self.mask_row + several * sum(self.blocks[:block]) * self.score_pitch,
                              several * self.score_pitch, self.score_tiles)
        reverse = mask is None and unit.functions >= 512
        table = exp_table(head.scale, source.reach[1] - source.reach[0], reverse=reverse,
                          masked=mask is not None)
        multiplier, shift = quantise_multiplier(ONE / int(table(np.array(0))))
        record = passes.record()
        passes.step(source, reduce=Reduction.MAXIMUM, record=record, mask=mask)
        passes.step(source, operation=VectorOp.REVERSE if reverse else VectorOp.SUBTRACT,
                    second=ROW, record=record, mask=mask, function=table,
                    scale=(int(multiplier[0]), int(shift[0])), expect=(0, ONE), result=weights,
                    sum_results=True, saturates=("combined",))
        total = Record(base=record.base, name="sum")
        passes.known(total, ONE, ONE * self.tokens)
        passes.step(total, function=reciprocal_table(
            head.gain, segments=256 if unit.functions >= 512 else 64),
            result=RowScale(record=record, exponent=exponent(head.gain)))
        passes.emit(ready=SCORES, done=WEIGHTS)

    def _finish(self, block: int) -> None:
        """Divide the context by the sums, and store it."""
        first, rows = sum(self.blocks[:block]), self.blocks[block]
        passes = Passes(self.program, self.constants, rows=rows)
        passes.step(self._sums(self._context_row(block), block, self.head_tiles, self.tokens),
                    scale=ROW, record=self._record(block), expect=(-128, 127),
                    result=self._rows(self.context_row + first * self.query_pitch,
                                      self.query_pitch, self.head_tiles))
        passes.emit(ready=CONTEXT, done=STORED)
        self._move(self.head.context, self.context_row, self.query_pitch,
                   self.head.context.shape[1], first=first, count=rows, store=True, wait=STORED)
