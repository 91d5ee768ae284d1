"""Scratchpads of any device, read by programs.

A device shows system memory only. Stores bring rows of the activation scratchpad there; rows of the
accumulator go through some rows of the activation scratchpad, which are put back afterwards.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from systolith_hw.isa import ControlOp, Memory, Operand, ResultType, Scale

from .device import PAGE_BYTES, Device
from .layout import aligned
from .program import Program
from .tiling import MAX_RUN_BYTES

__all__ = ["Probe", "runs_of"]

WINDOW_BYTES = 1 << 14      # read at a time
MOST_ROWS = 256             # read at a time, each by a command in the worst case
SUM_BYTES = 4


def runs_of(rows: Sequence[int] | np.ndarray) -> Iterator[tuple[int, int]]:
    """First and number of rows that follow each other, of ascending ``rows``."""
    rows = np.asarray(rows)
    for part in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        if len(part):
            yield int(part[0]), len(part)


def _parts(rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Rows, at most so many at a time."""
    return [rows[start:start + most] for start in range(0, len(rows), most)]


class Probe:
    """Reads and clears the scratchpads of a device.

    Parameters
    ----------
    device : Device
    start : int
        First of ``BYTES`` bytes of system memory that nothing else uses; a multiple of 64.
    """
    PROGRAM_BYTES = 1 << 15
    BYTES = PROGRAM_BYTES + 2 * WINDOW_BYTES

    def __init__(self, device: Device, start: int):
        self.device, self.config = device, device.config
        self.program_address = start
        self.kept = start + self.PROGRAM_BYTES
        self.shown = self.kept + WINDOW_BYTES
        size = self.config.act_row_bytes
        self.rows = min(WINDOW_BYTES // size, self.config.memory.act_rows)

    @classmethod
    def memory_bytes(cls, used: int) -> int:
        """System memory of a device of which ``used`` bytes are in use; whole pages."""
        return aligned(aligned(used, PAGE_BYTES) + cls.BYTES, PAGE_BYTES)

    def clear(self) -> None:
        """Fill what loads can write with zeros: all memories but accumulator and row file."""
        config, program = self.config, Program(config=self.config)
        for memory, rows, size in (
                (Memory.ACT, config.memory.act_rows, config.act_row_bytes),
                (Memory.WGT, config.memory.wgt_rows, config.wgt_row_bytes),
                (Memory.PAR, config.memory.par_rows, config.par_row_bytes),
                (Memory.FUN, config.vector.functions, config.fun_row_bytes)):
            step = MAX_RUN_BYTES // size
            for row in range(0, rows, step):
                program.fill(memory=memory, value=0, row=row, row_bytes=size,
                             run_bytes=size * min(step, rows - row))
        self._run(program)

    def act(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the activation scratchpad, uint8 (rows, bytes of a row)."""
        size = self.config.act_row_bytes
        parts = [np.zeros((0, size), np.uint8)]
        for some in _parts(rows, min(self.rows, MOST_ROWS)):
            program, place = Program(config=self.config), self.shown
            for row, count in runs_of(some):
                program.store(address=place, row=row, row_bytes=size, run_bytes=count * size)
                place += count * size
            self._run(program)
            parts.append(self.device.read(self.shown, place - self.shown).reshape(-1, size))
        return np.concatenate(parts)

    def acc(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the accumulator, int32 (rows, columns)."""
        config, size = self.config, self.config.act_row_bytes
        groups = config.acc_group_pitch
        width = groups * config.vector.lanes * SUM_BYTES
        parts = [np.zeros((0, config.array.sum_cols), np.int32)]
        for some in _parts(rows, min(self.rows * size // width, MOST_ROWS)):
            program, used = Program(config=config), -(-len(some) * width // size)
            moved: dict[str, Any] = {"row": 0, "row_bytes": size, "run_bytes": used * size}
            program.store(address=self.kept, **moved)
            program.control(ControlOp.FENCE)
            place = 0
            for row, count in runs_of(some):
                program.vector(
                    counts=[groups, count], source=row * groups, source_strides=[groups],
                    result=place * groups * SUM_BYTES, result_strides=[groups * SUM_BYTES],
                    result_type=ResultType.INT32, second=Operand.IMMEDIATE, scale=Scale.UNIT)
                place += count
            program.control(ControlOp.FENCE)
            program.store(address=self.shown, **moved)
            program.control(ControlOp.FENCE)
            program.load(memory=Memory.ACT, address=self.kept, **moved)
            self._run(program)
            raw = self.device.read(self.shown, len(some) * width).view("<i4")
            parts.append(raw.reshape(len(some), -1)[:, :config.array.sum_cols])
        return np.concatenate(parts)

    def memory(self, lines: np.ndarray, line_bytes: int) -> np.ndarray:
        """Lines of system memory, uint8 (lines, bytes of a line)."""
        parts = [self.device.read(line * line_bytes, count * line_bytes).reshape(-1, line_bytes)
                 for line, count in runs_of(lines)]
        return np.concatenate([np.zeros((0, line_bytes), np.uint8), *parts])

    def _run(self, program: Program) -> None:
        self.device.write(self.program_address, program.encode())
        self.device.run(self.program_address, len(program))
