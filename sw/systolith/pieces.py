"""What pieces of commands cost: runs of transfers, and in cycles all that a shared sequencer does,
which does one thing at a time."""

from collections.abc import Sequence
from math import prod

from systolith_hw.config import CoreConfig
from systolith_hw.isa import ONCE, Opcode

__all__ = ["GROUP", "ROWS", "RUN", "TILE", "TOKEN", "run_pieces", "sequencer_cycles"]

# Cycles of routines, with those of choosing them.
BEGIN = 78  # a command, with what no other unit does meanwhile
RUN   = 34  # of bytes
GROUP = 31  # of lanes
TILE  = 8
ROWS  = 26  # of loop 0
TOKEN = 23  # taken or raised


def sequencer_cycles(commands: Sequence[tuple[Opcode, dict]], config: CoreConfig) -> int:
    """Cycles in which the sequencer is not idle."""
    control = config.control
    total = 0
    for opcode, values in commands:
        if opcode == Opcode.CONTROL:
            continue
        counts = values["counts"]
        base = 2 if opcode == Opcode.EXECUTE else 0
        loops = {Opcode.EXECUTE: control.execute_loops, Opcode.VECTOR: control.vector_loops}.get(
            opcode, control.load_loops)
        pieces = prod(counts[base:loops])
        if opcode == Opcode.EXECUTE:
            work = pieces * (TILE + counts[1] * ROWS)
        else:
            work = pieces * (GROUP if opcode == Opcode.VECTOR else RUN)
        tokens = 0
        for slot in range(2):
            used = sum(values.get(f"{what}{slot}_valid", 0) for what in ("wait", "raise"))
            if used:
                level = values[f"level{slot}"]
                tokens += used * (1 if level == ONCE else prod(counts[max(level, base):loops]))
        total += BEGIN + work + TOKEN * tokens
    return total


def run_pieces(run: int, row_bytes: int, offset: int, data_bytes: int) -> tuple[int, int]:
    """Words and row pieces of a run that starts ``offset`` bytes into a word."""
    row_bytes = min(row_bytes, run)
    words = (offset + run + data_bytes - 1) // data_bytes
    if data_bytes % row_bytes == 0 and offset % row_bytes == 0:
        return words, -(-run // row_bytes)
    if row_bytes % data_bytes == 0 and offset == 0:
        return words, words
    ends = {position for position in range(row_bytes, run, row_bytes)}
    ends |= {position for position in range(data_bytes - offset, run, data_bytes)}
    return words, len(ends) + 1
