"""The commands of passes: walks, pieces of rows, and the semaphores that order them."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from systolith_hw.config import CoreConfig
from systolith_hw.isa import ElementType, Operand, ResultType, Scale

from ..program import Program, Slot
from .values import Record, Rows, RowScale, Step

__all__ = ["NOTHING", "TOKENS", "Commands", "Piece"]

TOKENS = 8  # pieces that a pass over the rows of a block is cut into, or one more

# Fields of a command that reads a group and makes nothing of it: it only waits and raises.
NOTHING: dict[str, Any] = {"result_type": ResultType.NONE, "second": Operand.IMMEDIATE,
                           "scale": Scale.UNIT, "function_first": 1}


class Piece(NamedTuple):
    """``times`` times ``size`` rows from ``start`` on."""
    start: int
    times: int
    size: int


class Commands:
    """Appends passes to a program.

    Every pass waits, piece of the rows by piece, for the one before it, so that one may read what
    another wrote, and the vector unit never stands still between them where a block takes longer
    than its latency.

    Parameters
    ----------
    program : Program
    rows : int
        Of the block.
    chain : str
        Semaphore that orders the passes.
    steps : list of Step
    """
    def __init__(self, program: Program, *, rows: int, chain: str, steps: list[Step]):
        self.program, self.rows, self.chain, self.steps = program, rows, chain, steps
        self.config: CoreConfig = program.config

    def emit(self, *, ready: str | None = None, free: str | None = None,
             room: str | None = None, done: str | None = None) -> None:
        """Append the commands; parameters as ``Passes.emit``."""
        blocks = self._blocks()
        for number, pieces in enumerate(blocks):
            self._emit_block(pieces, ready=ready if number == 0 else None,
                             room=room if number == 0 else None,
                             free=free if number == len(blocks) - 1 else None,
                             done=done if number == len(blocks) - 1 else None)

    def _emit_block(self, pieces: list[Piece], *, ready: str | None, free: str | None,
                    room: str | None, done: str | None) -> None:
        steps = self.steps
        writer = next((number for number, step in enumerate(steps)
                       if isinstance(step.result, Rows)), len(steps) - 1)
        if room and writer == 0 and len(steps) > 1:
            # The first pass has no slot for both.
            self._nothing([Slot(wait=name) for name in (ready, room) if name])
            ready = room = None
        for number, step in enumerate(steps):
            first, last = number == 0, number == len(steps) - 1
            commands = self.pieces_of(step, pieces)
            for index, piece in enumerate(commands):
                waits = [name for name, here in ((ready, first), (room, number == writer))
                         if name and here and index == 0]
                posts = [name for name, here in ((done, last), (free, first and last))
                         if name and here and index == len(commands) - 1]
                slots = [Slot(wait=wait, post=post)
                         for wait, post in zip_longest(waits, posts)]
                if len(steps) > 1:
                    slots.append(Slot(wait=None if first else self.chain,
                                      post=None if last else self.chain,
                                      level=len(self._counts(step, piece)) - 1))
                self.append(step, piece, slots)
        if free and len(steps) > 1:
            self._nothing([Slot(post=free)])

    def _nothing(self, slots: Sequence[Slot]) -> None:
        """A command of one group without result: what is before it has been read when it ends."""
        self.program.vector(counts=[1], **NOTHING, slots=slots)

    @property
    def _shallow(self) -> bool:
        return self.config.control.vector_loops < 4

    def _blocks(self) -> list[list[Piece]]:
        """Pieces of the rows; those of a block are outstanding between two passes."""
        rows = self.rows
        if self._shallow and any(step.runs > 1 for step in self.steps):
            return [[Piece(start, min(TOKENS, rows - start), 1)]
                    for start in range(0, rows, TOKENS)]
        size = -(-rows // TOKENS)
        count, rest = divmod(rows, size)
        return [[Piece(0, count, size), *([Piece(count * size, 1, rest)] if rest else [])]]

    def pieces_of(self, step: Step, pieces: list[Piece]) -> list[Piece]:
        """Pieces of each command; without a fourth loop, columns' parameters need one a piece."""
        if not (self._shallow and step.columns):
            return pieces
        return [Piece(piece.start + index * piece.size, 1, piece.size)
                for piece in pieces for index in range(piece.times)]

    def _counts(self, step: Step, piece: Piece) -> list[int]:
        """Loop 0 and what goes on from row to row; the outermost walks pieces."""
        source, runs = step.source, step.runs
        groups = -(-source.cols // self.config.vector.lanes) if isinstance(source, Rows) else 1
        if runs > 1:
            return [groups, runs, piece.times] if self._shallow else [
                groups, runs, piece.size, piece.times]
        if step.columns:
            return [groups, piece.size, 1, *([] if self._shallow else [piece.times])]
        return [groups, piece.size, piece.times]

    def append(self, step: Step, piece: Piece, slots: Sequence[Slot]) -> None:
        """Append the command of a pass over one piece, as ``pieces_of`` has them."""
        source, result, runs = step.source, step.result, step.runs
        fields, counts = dict(step.fields), self._counts(step, piece)

        def strides(pitch: int, run_pitch: int = 0) -> list[int]:
            if runs > 1:
                return [run_pitch, pitch] + [pitch * piece.size] * (not self._shallow)
            if len(counts) == 4:
                return [pitch, 0, pitch * piece.size]
            return [pitch, pitch * piece.size]

        def walk(name: str, rows: Rows) -> None:
            fields[name] = rows.base + piece.start * rows.pitch
            fields[f"{name}_strides"] = strides(rows.pitch, rows.run_pitch)

        if isinstance(source, Rows):
            fields.update(source_type=source.kind, source_step=source.size, span=int(runs > 1),
                          tail=source.cols % self.config.vector.lanes)
            walk("source", source)
        else:
            fields.update(source_step=0, source_type=ElementType[f"ROW_{source.name.upper()}"])
        if step.record:
            fields["row_base"] = step.record.base + piece.start
        if step.stream:
            fields["stream_type"] = step.stream.kind
            walk("stream", step.stream)
        if isinstance(result, Rows):
            fields["result_type"] = ResultType(int(result.kind))
            walk("result", result)
        elif result is None:
            fields["result_type"] = ResultType.NONE
        else:
            record = result if isinstance(result, Record) else result.record
            fields.update(result_type=_result_type(result), result=record.base + piece.start,
                          result_step=0, result_strides=strides(1))
        self.program.vector(counts=counts, slots=slots, **fields)


def _result_type(result: Record | RowScale) -> ResultType:
    if isinstance(result, Record):
        return ResultType.ROW_VALUE
    return ResultType.ROW_ROOT if result.root else ResultType.ROW_SCALE
